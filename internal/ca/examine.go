package ca

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/touchmark/touchmark/vetting"
)

// Examine says what the authorities know of a certificate that somebody
// shows: whose it is, not whether it still counts.
func (a *Authorities) Examine(cert *x509.Certificate) *vetting.ShownCertificate {
	return &vetting.ShownCertificate{
		Origin:    a.origin(cert),
		Serial:    fmt.Sprintf("%x", cert.SerialNumber.Bytes()),
		OwnSerial: a.Serials.Genuine(cert.SerialNumber),
		Key:       vetting.KeyFingerprint(cert.RawSubjectPublicKeyInfo),
		Digest:    sha256.Sum256(cert.Raw),
		Issuer:    cert.Issuer.String(),
		NotAfter:  cert.NotAfter,
	}
}

func (a *Authorities) origin(cert *x509.Certificate) vetting.Origin {
	switch i := a.issuerOf(cert); {
	case i != nil && cert.CheckSignatureFrom(i.Certificate) == nil:
		return vetting.OriginDeviceCA
	case i != nil:
		return vetting.OriginForged
	case bytes.Equal(cert.RawIssuer, cert.RawSubject):
		return vetting.OriginSelf
	default:
		return vetting.OriginOther
	}
}
