package enroll

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"

	"github.com/touchmark/touchmark/vetting"
)

// MaxCSR is the longest PKCS#10 request that is looked at, in bytes of DER.
const MaxCSR = 16 << 10

// ParseCSR parses a PKCS#10 request (RFC 2986), checks that its holder
// signed it and that its key is of a kind that any product may accept. Its
// errors are *RequestErrors.
func ParseCSR(der []byte) (*x509.CertificateRequest, error) {
	csr, err := parseCSR(der)
	if err != nil {
		return nil, err
	}
	if _, err := KeyKind(csr.PublicKey); err != nil {
		return nil, BadRequest("the certificate request's key: %v", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, BadRequest("the certificate request's signature does not verify with its own key: %v", err)
	}
	return csr, nil
}

func parseCSR(der []byte) (*x509.CertificateRequest, error) {
	if len(der) > MaxCSR {
		return nil, BadRequest("the certificate request is %d bytes long: at most %d are accepted", len(der), MaxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, BadRequest("the certificate request is not a PKCS#10 request in DER (RFC 2986): %v", err)
	}
	return csr, nil
}

// KeyKind names the kind and size of a public key as a product's profile
// lists it ("P-256", "RSA-2048", …), or says why no product may accept it.
func KeyKind(pub any) (string, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return k.Curve.Params().Name, nil
		}
		return "", fmt.Errorf("the curve %s is not accepted; use P-256 or P-384", k.Curve.Params().Name)
	case ed25519.PublicKey:
		return "Ed25519", nil
	case *rsa.PublicKey:
		switch n := k.N.BitLen(); n {
		case 2048, 3072, 4096:
			if k.E < 65537 {
				return "", fmt.Errorf("the RSA exponent %d is too small; use 65537", k.E)
			}
			return fmt.Sprintf("RSA-%d", n), nil
		default:
			return "", fmt.Errorf("an RSA key of %d bits is not accepted; use 2048, 3072 or 4096", n)
		}
	default:
		return "", fmt.Errorf("the key type %T is not accepted; use EC P-256 or P-384, Ed25519 or RSA", pub)
	}
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// renewalNames checks the names that a renewal asks for. One by a certificate
// that ended with its device's transfer may repeat them, as RFC 7030 §4.2.2
// has it, or ask for those that its new owner gives; the ones that it repeats
// ask for nothing.
func renewalNames(f *vetting.Facts, r Request) (*x509.CertificateRequest, error) {
	err := checkRenewalNames(r)
	switch {
	case !f.HandedOver():
		return r.CSR, err
	case err != nil:
		return r.CSR, nil
	}
	csr := *r.CSR
	csr.Subject = pkix.Name{}
	csr.Extensions = slices.DeleteFunc(slices.Clone(csr.Extensions), func(x pkix.Extension) bool { return x.Id.Equal(oidSubjectAltName) })
	return &csr, nil
}

// checkRenewalNames holds a renewal's CSR to the names of the certificate
// that it renews, compared as DER (RFC 7030 §4.2.2).
func checkRenewalNames(r Request) error {
	if r.Presented == nil {
		return nil
	}
	if !bytes.Equal(r.CSR.RawSubject, r.Presented.RawSubject) {
		if asked := r.CSR.Subject.String(); asked == r.Presented.Subject.String() {
			return BadRequest("a renewal must repeat the subject of the current certificate (%s) exactly; the request spells it with other string types (UTF8String, PrintableString) or in other sets: copy its DER, as openssl x509 -x509toreq does (RFC 7030 §4.2.2)", asked)
		}
		return BadRequest("a renewal must repeat the subject of the current certificate (%s) exactly; the request has %q (RFC 7030 §4.2.2)", r.Presented.Subject, r.CSR.Subject)
	}
	var asked, held []byte
	for _, x := range r.CSR.Extensions {
		if x.Id.Equal(oidSubjectAltName) {
			asked = x.Value
		}
	}
	for _, x := range r.Presented.Extensions {
		if x.Id.Equal(oidSubjectAltName) {
			held = x.Value
		}
	}
	if !bytes.Equal(asked, held) {
		return BadRequest("a renewal must repeat the subjectAltName of the current certificate exactly (RFC 7030 §4.2.2)")
	}
	return nil
}

// AssertedIdentity is the identity that a subject name states: the
// serialNumber attribute is the serial number; for want of it the common name
// is, if it can be one.
func AssertedIdentity(subject []pkix.AttributeTypeAndValue) (vetting.Identity, error) {
	find := func(oid asn1.ObjectIdentifier) string {
		for _, a := range subject {
			if s, ok := a.Value.(string); ok && a.Type.Equal(oid) {
				return s
			}
		}
		return ""
	}
	if serial := find(oidSerialNumber); serial != "" {
		return vetting.Identity{Serial: serial}.Normalize()
	}
	id, err := vetting.Identity{Serial: find(oidCommonName)}.Normalize()
	if err != nil {
		return vetting.Identity{}, nil // a name for people, such as "Acme Thermostat"
	}
	return id, nil
}
