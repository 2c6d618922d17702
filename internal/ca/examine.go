package ca

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/touchmark/touchmark/vetting"
)

// Examine says what the authorities know of a certificate that somebody
// shows: whose it is, not whether it still counts.
func (a *Authorities) Examine(cert *x509.Certificate) *vetting.ShownCertificate {
	return &vetting.ShownCertificate{
		Origin:    a.origin(cert),
		Serial:    fmt.Sprintf("%x", cert.SerialNumber.Bytes()),
		OwnSerial: a.serialsOf(cert).Genuine(cert.SerialNumber),
		Key:       vetting.KeyFingerprint(cert.RawSubjectPublicKeyInfo),
		Digest:    sha256.Sum256(cert.Raw),
		Issuer:    cert.Issuer.String(),
		NotAfter:  cert.NotAfter,
	}
}

// serialsOf are those of the CA that a certificate names.
func (a *Authorities) serialsOf(cert *x509.Certificate) Serials {
	if i := a.issuerOf(cert); i != nil {
		return i.serials
	}
	return a.Serials
}

func (a *Authorities) origin(cert *x509.Certificate) vetting.Origin {
	switch i := a.issuerOf(cert); {
	case i != nil && cert.CheckSignatureFrom(i.Certificate) == nil:
		if slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
			return vetting.OriginOther // a responder's, which is in no list of devices
		}
		return vetting.OriginDeviceCA
	case i != nil:
		return vetting.OriginForged
	case bytes.Equal(cert.RawIssuer, cert.RawSubject):
		return vetting.OriginSelf
	default:
		return vetting.OriginOther
	}
}
