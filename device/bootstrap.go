package device

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// forever is the notAfter of a certificate without a well-defined end
// (RFC 5280 §4.1.2.5).
var forever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// MakeBootstrap gives a unit its bootstrap key and self-signed bootstrap
// certificate, as the line does on the chip. What is there already stays:
// calling it again after a cut finishes the work.
//
// The certificate chains to nothing. It states the serial number in its
// subject (serialNumber, 2.5.4.5, and CN), and proves possession of the key
// whose fingerprint the manifest lists.
func MakeBootstrap(store KeyStore, serial string, kind KeyKind, now time.Time) (*Credential, error) {
	c, err := store.Load(Bootstrap)
	if errors.Is(err, ErrEmpty) {
		c, err = store.Create(Bootstrap, kind)
	}
	if err != nil {
		return nil, fmt.Errorf("bootstrap key: %w", err)
	}
	if c.Leaf() != nil {
		return c, nil
	}
	cert, err := selfSigned(c.Key, serial, now)
	if err != nil {
		return nil, fmt.Errorf("bootstrap certificate: %w", err)
	}
	c.Chain = []*x509.Certificate{cert}
	if err := store.Certify(Bootstrap, c.Chain); err != nil {
		return nil, fmt.Errorf("bootstrap certificate: %w", err)
	}
	return c, nil
}

func selfSigned(key crypto.Signer, serial string, now time.Time) (*x509.Certificate, error) {
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: number.Add(number, big.NewInt(1)),
		Subject:      Name(serial),
		// A chip's clock on the line is a guess; a day of slack costs nothing.
		NotBefore:             now.Add(-24 * time.Hour).UTC(),
		NotAfter:              forever,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Name is the subject that a device gives itself: its serial number as
// serialNumber and as CN.
func Name(serial string) pkix.Name {
	return pkix.Name{SerialNumber: serial, CommonName: serial}
}

// NewCSR makes the PKCS#10 request (RFC 2986) of a first enrolment. Its
// subject says which device this is; everything else the server's profile
// decides.
func NewCSR(key crypto.Signer, serial string) ([]byte, error) {
	return signCSR(key, &x509.CertificateRequest{Subject: Name(serial)})
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// RenewalCSR makes the request of a renewal: key is the old one or a new
// one; subject and subjectAltName repeat those of the current certificate
// byte for byte (RFC 7030 §4.2.2).
func RenewalCSR(key crypto.Signer, current *x509.Certificate) ([]byte, error) {
	tmpl := &x509.CertificateRequest{RawSubject: current.RawSubject}
	for _, x := range current.Extensions {
		if x.Id.Equal(oidSubjectAltName) {
			tmpl.ExtraExtensions = append(tmpl.ExtraExtensions, x)
		}
	}
	return signCSR(key, tmpl)
}

func signCSR(key crypto.Signer, tmpl *x509.CertificateRequest) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate request: %w", err)
	}
	return der, nil
}
