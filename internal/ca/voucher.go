package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"time"

	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/vetting"
)

// VoucherSigner signs vouchers (RFC 8366).
type VoucherSigner struct {
	Authorities *Authorities
	Now         func() time.Time
}

// oidVoucher is id-ct-animaJSONVoucher (RFC 8366 §8.4).
var oidVoucher = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 40}

// SignVoucher gives a voucher as a CMS SignedData (RFC 8366 §5.4), DER, with
// the certificates up to the root. Its key is made for it and forgotten;
// the code signing CA certifies it for as long as the voucher is good.
func (s VoucherSigner) SignVoucher(v *vetting.Voucher) ([]byte, error) {
	content, err := json.Marshal(map[string]*vetting.Voucher{"ietf-voucher:voucher": v})
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	by, err := s.Authorities.present(vetting.ForCodeSigning, s.Now())
	if err != nil {
		return nil, err
	}
	cert, err := s.certify(key, by, v.ExpiresOn)
	if err != nil {
		return nil, err
	}
	return cms.SignContent(oidVoucher, content, cert, key, []*x509.Certificate{by.Certificate, s.Authorities.Root})
}

// certify issues the certificate of a voucher's key. It names no purpose, for
// none is registered; the code signing CA issues no others without one.
func (s VoucherSigner) certify(key *ecdsa.PrivateKey, by *issuer, until time.Time) (*x509.Certificate, error) {
	now := s.Now()
	if until.IsZero() {
		until = by.Certificate.NotAfter
	}
	t := &x509.Certificate{
		SerialNumber: s.Authorities.Serials.New(),
		Subject:      pkix.Name{Organization: by.Certificate.Subject.Organization, CommonName: "voucher"},
		NotBefore:    now.Add(-Backdate).UTC().Truncate(time.Second),
		NotAfter:     earlier(until, by.Certificate.NotAfter),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		SubjectKeyId: keyID(&key.PublicKey), BasicConstraintsValid: true,
	}
	der, err := by.sign(t, &key.PublicKey)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
