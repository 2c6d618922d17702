package ca

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// firmwareYears is how long a firmware key is certified for. Devices without
// a clock check at the signing time, if at all; a key ends by being revoked.
const firmwareYears = 10

// FirmwareCertifier certifies keys that sign firmware.
type FirmwareCertifier struct {
	Authorities *Authorities
	Now         func() time.Time
}

// CertifyFirmwareKey has the code signing CA certify a key, for codeSigning
// alone. It returns the DER of the certificate, and of the CAs' above it
// without the root; if the CA cannot sign, an *enroll.IssuerError.
func (c FirmwareCertifier) CertifyFirmwareKey(name, product string, key crypto.PublicKey) (der []byte, chain [][]byte, err error) {
	now := c.Now()
	by, err := c.Authorities.present(vetting.ForCodeSigning, now)
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{
		SerialNumber: c.Authorities.Serials.New(),
		Subject:      pkix.Name{Organization: by.Certificate.Subject.Organization, OrganizationalUnit: []string{product}, CommonName: name},
		NotBefore:    now.Add(-Backdate).UTC().Truncate(time.Second),
		NotAfter:     earlier(now.AddDate(firmwareYears, 0, 0), by.Certificate.NotAfter),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		SubjectKeyId: keyID(key), BasicConstraintsValid: true,
	}
	if der, err = by.sign(t, key); err != nil {
		return nil, nil, err
	}
	return der, [][]byte{by.Certificate.Raw}, nil
}
