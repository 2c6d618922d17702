package est

import (
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"

	"github.com/touchmark/touchmark/enroll"
)

var oidChallengePassword = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}

// checkBinding verifies a challengePassword that links the request to its
// TLS session (RFC 7030 §3.5): base64 of tls-unique on TLS 1.2, and of
// tls-exporter on 1.3, where tls-unique does not exist (RFC 9266). A request
// without the attribute passes; an empty one claims a link and has none.
func checkBinding(csr *x509.CertificateRequest, state *tls.ConnectionState) error {
	password, present, err := challengePassword(csr)
	if err != nil {
		return enroll.BadRequest("the request's challengePassword: %v; put one string there or leave the attribute out (RFC 2985 §5.4.1)", err)
	}
	if !present {
		return nil
	}
	want := state.TLSUnique
	if state.Version >= tls.VersionTLS13 {
		if want, err = state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32); err != nil {
			return err
		}
	}
	if len(want) == 0 || subtle.ConstantTimeCompare([]byte(password), []byte(base64.StdEncoding.EncodeToString(want))) != 1 {
		return enroll.BadRequest("the request's challengePassword does not belong to this TLS session: put the base64 of tls-unique (TLS 1.2) or tls-exporter (TLS 1.3) of the present connection there, or leave the attribute out (RFC 7030 §3.5)")
	}
	return nil
}

// challengePassword finds the attribute of PKCS#9, which has a single value
// of any string type (RFC 2985 §5.4.1).
func challengePassword(csr *x509.CertificateRequest) (password string, present bool, err error) {
	value, present, err := attributeOf(csr, oidChallengePassword)
	if err != nil || !present {
		return "", false, err
	}
	if _, err := asn1.Unmarshal(value, &password); err != nil {
		return "", false, err
	}
	return password, true, nil
}

// attributeOf finds an attribute that may occur once, with one value.
// crypto/x509 leaves attributes unparsed.
func attributeOf(csr *x509.CertificateRequest, oid asn1.ObjectIdentifier) (value []byte, present bool, err error) {
	var info struct {
		Version    int
		Subject    asn1.RawValue
		Key        asn1.RawValue
		Attributes []struct {
			Type   asn1.ObjectIdentifier
			Values []asn1.RawValue `asn1:"set"`
		} `asn1:"tag:0,set"`
	}
	if _, err := asn1.Unmarshal(csr.RawTBSCertificateRequest, &info); err != nil {
		return nil, false, err
	}
	for _, a := range info.Attributes {
		if !a.Type.Equal(oid) {
			continue
		}
		if present || len(a.Values) != 1 {
			return nil, false, errors.New("it must have exactly one value")
		}
		present, value = true, a.Values[0].FullBytes
	}
	return value, present, nil
}
