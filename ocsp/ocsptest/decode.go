// Package ocsptest reads what package ocsp writes, and writes what it reads,
// with another codec: encoding/asn1, which builds on types. A defect that a
// shared codec would hide shows between the two.
package ocsptest

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Response is an OCSPResponse (RFC 6960 §4.2.1) that conforms to everything
// that Decode checks.
type Response struct {
	Status  int // OCSPResponseStatus; all below is empty unless it is 0
	Data    ResponseData
	Nonce   []byte // without its inner OCTET STRING; nil is none
	Extends bool   // extended-revoke is there
	Signer  *x509.Certificate
}

// ResponseData is what is signed.
type ResponseData struct {
	Raw        asn1.RawContent
	Version    int           `asn1:"optional,explicit,default:0,tag:0"`
	ByName     asn1.RawValue `asn1:"optional,explicit,tag:1"`
	ByKey      []byte        `asn1:"optional,explicit,tag:2"`
	ProducedAt time.Time     `asn1:"generalized"`
	Responses  []Single
	Extensions []pkix.Extension `asn1:"optional,explicit,tag:1"`
}

// Single is the answer about one certificate; one of Good, Revoked and Unknown
// is set.
type Single struct {
	CertID     CertID
	Good       asn1.Flag        `asn1:"optional,tag:0"`
	Revoked    Revoked          `asn1:"optional,tag:1"`
	Unknown    asn1.Flag        `asn1:"optional,tag:2"`
	ThisUpdate time.Time        `asn1:"generalized"`
	NextUpdate time.Time        `asn1:"optional,explicit,generalized,tag:0"`
	Extensions []pkix.Extension `asn1:"optional,explicit,tag:1"`
}

// CertID is RFC 6960 §4.1.1's.
type CertID struct {
	Raw       asn1.RawContent
	Algorithm Algorithm
	NameHash  []byte
	KeyHash   []byte
	Serial    *big.Int
}

// Algorithm is an AlgorithmIdentifier whose numbers may be larger than Go
// would have them.
type Algorithm struct {
	OID        asn1.RawValue
	Parameters asn1.RawValue `asn1:"optional"`
}

// Revoked is RevokedInfo.
type Revoked struct {
	Raw    asn1.RawContent
	Time   time.Time       `asn1:"generalized"`
	Reason asn1.Enumerated `asn1:"optional,explicit,tag:0"`
}

// Says gives the status in a word.
func (s *Single) Says() string {
	switch {
	case bool(s.Good):
		return "good"
	case bool(s.Unknown):
		return "unknown"
	}
	return "revoked"
}

type outer struct {
	Status asn1.Enumerated
	Bytes  struct {
		Type     asn1.ObjectIdentifier
		Response []byte
	} `asn1:"optional,explicit,tag:0"`
}

type basic struct {
	Data      ResponseData
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
	Certs     []asn1.RawValue `asn1:"optional,explicit,tag:0"`
}

var (
	oidBasic    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidNonce    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidExtended = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 9}
	oidNoCheck  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
)

// Decode reads an answer and holds it to RFC 6960, 9654 and 9919, as a careful
// client of the issuer would at the time now. It is strict about what it
// expects of our responder: byKey, nextUpdate, whole seconds, one delegated
// certificate with id-pkix-ocsp-nocheck.
func Decode(der []byte, issuer *x509.Certificate, now time.Time) (*Response, error) {
	var o outer
	if err := errors.Join(whole(der, &o), nests(der)); err != nil {
		return nil, fmt.Errorf("OCSPResponse: %w", err)
	}
	if o.Status != 0 {
		if len(der) != 5 {
			return nil, fmt.Errorf("an error of %d bytes", len(der))
		}
		return &Response{Status: int(o.Status)}, nil
	}
	var b basic
	if !o.Bytes.Type.Equal(oidBasic) {
		return nil, fmt.Errorf("responseType %v", o.Bytes.Type)
	}
	if err := errors.Join(whole(o.Bytes.Response, &b), nests(o.Bytes.Response)); err != nil {
		return nil, fmt.Errorf("BasicOCSPResponse: %w", err)
	}
	r := &Response{Data: b.Data}
	if err := r.checkSigner(&b, issuer, now); err != nil {
		return nil, err
	}
	return r, errors.Join(r.checkTimes(now), r.readExtensions(), r.checkSingles())
}

// nests reports an element that does not end where what is in it does:
// encoding/asn1 does not look at the length of an explicit tag.
func nests(der []byte) error {
	for len(der) > 0 {
		var e asn1.RawValue
		rest, err := asn1.Unmarshal(der, &e)
		if err != nil {
			return err
		}
		if e.IsCompound {
			if err := nests(e.Bytes); err != nil {
				return err
			}
		}
		der = rest
	}
	return nil
}

// whole reads DER to its last byte.
func whole(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return fmt.Errorf("%d bytes behind it", len(rest))
	}
	return nil
}

// checkSigner wants the one delegated responder of RFC 6960 §4.2.2.2.
func (r *Response) checkSigner(b *basic, issuer *x509.Certificate, now time.Time) error {
	if len(b.Certs) != 1 {
		return fmt.Errorf("%d certificates", len(b.Certs))
	}
	signer, err := x509.ParseCertificate(b.Certs[0].FullBytes)
	if err != nil {
		return err
	}
	r.Signer = signer
	if err := signer.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("the signer's certificate: %w", err)
	}
	if now.Before(signer.NotBefore) || now.After(signer.NotAfter) {
		return errors.New("the signer's certificate is not valid now")
	}
	if !slices.Contains(signer.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) || !slices.ContainsFunc(signer.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidNoCheck) }) {
		return errors.New("the signer's certificate lacks OCSPSigning or id-pkix-ocsp-nocheck")
	}
	algorithm := map[string]x509.SignatureAlgorithm{"1.2.840.10045.4.3.2": x509.ECDSAWithSHA256, "1.2.840.10045.4.3.3": x509.ECDSAWithSHA384}[b.Algorithm.Algorithm.String()]
	if len(b.Algorithm.Parameters.FullBytes) != 0 {
		return errors.New("the signature algorithm has parameters (RFC 5758 §3.2)")
	}
	if err := signer.CheckSignature(algorithm, r.Data.Raw, b.Signature.RightAlign()); err != nil {
		return fmt.Errorf("the answer's signature: %w", err)
	}
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(signer.RawSubjectPublicKeyInfo, &key); err != nil {
		return err
	}
	if sum := sha1.Sum(key.Key.RightAlign()); !bytes.Equal(sum[:], r.Data.ByKey) || len(r.Data.ByName.FullBytes) != 0 {
		return errors.New("responderID is not the signer's key")
	}
	return nil
}

func (r *Response) checkTimes(now time.Time) error {
	if r.Data.ProducedAt.After(now) {
		return fmt.Errorf("produced at %v, which is to come", r.Data.ProducedAt)
	}
	for _, s := range r.Data.Responses {
		switch {
		case s.ThisUpdate.Nanosecond()+s.NextUpdate.Nanosecond()+s.Revoked.Time.Nanosecond()+r.Data.ProducedAt.Nanosecond() != 0:
			return errors.New("a time has fractions of a second")
		case s.ThisUpdate.After(r.Data.ProducedAt):
			return errors.New("thisUpdate is after producedAt")
		case !s.NextUpdate.After(now):
			return fmt.Errorf("nextUpdate is %v, now it is %v", s.NextUpdate, now)
		case s.NextUpdate.After(r.Signer.NotAfter):
			return errors.New("nextUpdate is after the signer's end")
		}
	}
	return nil
}

func (r *Response) readExtensions() error {
	seen := map[string]bool{}
	for _, e := range r.Data.Extensions {
		if id := e.Id.String(); seen[id] {
			return fmt.Errorf("extension %s comes twice", id)
		} else {
			seen[id] = true
		}
		switch {
		case e.Critical:
			return fmt.Errorf("extension %v is critical", e.Id)
		case e.Id.Equal(oidNonce):
			if err := whole(e.Value, &r.Nonce); err != nil {
				return fmt.Errorf("nonce: %w", err)
			}
		case e.Id.Equal(oidExtended):
			if !bytes.Equal(e.Value, asn1.NullBytes) {
				return fmt.Errorf("extended-revoke is %x", e.Value)
			}
			r.Extends = true
		}
	}
	return nil
}

func (r *Response) checkSingles() error {
	if len(r.Data.Responses) == 0 {
		return errors.New("no answer in it")
	}
	for i := range r.Data.Responses {
		s := &r.Data.Responses[i]
		said := 0
		for _, set := range []bool{bool(s.Good), len(s.Revoked.Raw) > 0, bool(s.Unknown)} {
			if set {
				said++
			}
		}
		if said != 1 {
			return fmt.Errorf("certStatus %d says %d things", i, said)
		}
		never := len(s.Revoked.Raw) > 0 && s.Revoked.Time.Equal(time.Unix(0, 0)) && s.Revoked.Reason == 6
		if never && !r.Extends {
			return errors.New("a certificate that was never issued is told without extended-revoke (RFC 6960 §2.2)")
		}
	}
	return nil
}
