package device

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// decodeBody undoes the base64 of every EST body, with line breaks and
// blanks wherever the sender put them (RFC 8951 §3).
func decodeBody(body []byte) ([]byte, error) {
	packed := bytes.Map(func(r rune) rune {
		if r == '\r' || r == '\n' || r == ' ' || r == '\t' {
			return -1
		}
		return r
	}, body)
	out := make([]byte, base64.StdEncoding.DecodedLen(len(packed)))
	n, err := base64.StdEncoding.Strict().Decode(out, packed)
	if err != nil {
		return nil, fmt.Errorf("the body is not base64: %w", err)
	}
	return out[:n], nil
}

func encodeBody(der []byte) []byte {
	out := make([]byte, base64.StdEncoding.EncodedLen(len(der)))
	base64.StdEncoding.Encode(out, der)
	return out
}

var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
)

// contentInfo is RFC 5652 §3.
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,tag:0"`
}

// signedData is RFC 5652 §5.1, as a certs-only message fills it. Raw values
// keep the decoder from descending into what it need not understand.
type signedData struct {
	Version      int
	Digests      asn1.RawValue
	Encapsulated struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"optional,explicit,tag:0"`
	}
	Certificates asn1.RawValue `asn1:"optional,tag:0"`
	CRLs         asn1.RawValue `asn1:"optional,tag:1"`
	Signers      asn1.RawValue
}

// maxCertificates bounds what one message may carry: a root roll-over with a
// few issuing CAs is far below it.
const maxCertificates = 64

// ParseCertsOnly reads the certificates of a CMS message that carries
// nothing else: SignedData without content and signers, in DER (RFC 5751
// §3.8, RFC 7030 §4.1.3).
func ParseCertsOnly(der []byte) ([]*x509.Certificate, error) {
	var info contentInfo
	if err := unmarshal(der, &info); err != nil {
		return nil, fmt.Errorf("the message is not a CMS ContentInfo in DER: %w", err)
	}
	if !info.Type.Equal(oidSignedData) {
		return nil, fmt.Errorf("the message has the content type %s instead of SignedData", info.Type)
	}
	var sd signedData
	if err := unmarshal(info.Content.Bytes, &sd); err != nil {
		return nil, fmt.Errorf("the SignedData is not DER: %w", err)
	}
	switch {
	case !sd.Encapsulated.Type.Equal(oidData) || len(sd.Encapsulated.Content.FullBytes) > 0:
		return nil, errors.New("the message carries content; a certs-only message has none")
	case !isSet(sd.Digests) || !isSet(sd.Signers):
		return nil, errors.New("the SignedData lacks its sets of digests and signers")
	case len(sd.Signers.Bytes) > 0:
		return nil, errors.New("the message is signed; a certs-only message has no signers")
	case sd.Certificates.Class != asn1.ClassContextSpecific || !sd.Certificates.IsCompound:
		return nil, errors.New("the message holds no certificates")
	}
	return parseCertificates(sd.Certificates.Bytes)
}

func isSet(v asn1.RawValue) bool {
	return v.Class == asn1.ClassUniversal && v.Tag == asn1.TagSet && v.IsCompound
}

func parseCertificates(der []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for len(der) > 0 {
		if len(certs) == maxCertificates {
			return nil, fmt.Errorf("the message holds more than %d certificates", maxCertificates)
		}
		var raw asn1.RawValue
		rest, err := asn1.Unmarshal(der, &raw)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		cert, err := x509.ParseCertificate(raw.FullBytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
		der = rest
	}
	if len(certs) == 0 {
		return nil, errors.New("the message holds no certificates")
	}
	return certs, nil
}

// unmarshal is asn1.Unmarshal of all of der.
func unmarshal(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes follow its end", len(rest))
	}
	return err
}

// Attribute is one entry of the /csrattrs answer: an OID alone, or with
// values (AttrOrOID of RFC 7030 §4.5.2).
type Attribute struct {
	ID     asn1.ObjectIdentifier
	Values [][]byte // DER of each
}

// ParseCSRAttributes reads the answer of /csrattrs (RFC 7030 §4.5.2).
func ParseCSRAttributes(der []byte) ([]Attribute, error) {
	var entries []asn1.RawValue
	if err := unmarshal(der, &entries); err != nil {
		return nil, fmt.Errorf("the CSR attributes are not a SEQUENCE in DER: %w", err)
	}
	attrs := make([]Attribute, 0, len(entries))
	for i, e := range entries {
		a, err := parseAttribute(e)
		if err != nil {
			return nil, fmt.Errorf("CSR attribute %d: %w", i+1, err)
		}
		attrs = append(attrs, a)
	}
	return attrs, nil
}

func parseAttribute(e asn1.RawValue) (a Attribute, err error) {
	if e.Class == asn1.ClassUniversal && e.Tag == asn1.TagOID {
		return a, unmarshal(e.FullBytes, &a.ID)
	}
	var pair struct {
		ID     asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
	if err := unmarshal(e.FullBytes, &pair); err != nil {
		return a, err
	}
	a.ID = pair.ID
	for _, v := range pair.Values {
		a.Values = append(a.Values, v.FullBytes)
	}
	return a, nil
}

// maxRetryAfter bounds what a server can make a device wait, so that a typing
// error does not silence a fleet for years.
const maxRetryAfter = 7 * 24 * time.Hour

// ParseRetryAfter reads a Retry-After header, seconds or a date (RFC 9110
// §10.2.3), as a time to wait from now, between 0 and a week. It reports
// false for anything else.
func ParseRetryAfter(value string, now time.Time) (time.Duration, bool) {
	value = strings.Trim(value, " \t")
	if value == "" {
		return 0, false
	}
	if strings.Trim(value, "0123456789") == "" {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter, true
		}
		return time.Duration(n) * time.Second, true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	return min(max(at.Sub(now), 0), maxRetryAfter), true
}
