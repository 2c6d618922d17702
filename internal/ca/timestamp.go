package ca

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// TimestampValidity is the lifetime of a time-stamp authority's certificate,
// which is renewed after TimestampRenewal: verifiers in use want it to be valid
// when they look, so every time stamp can be verified for nine years at least.
const (
	TimestampValidity = 10 * 366 * 24 * time.Hour
	TimestampRenewal  = 365 * 24 * time.Hour
)

// timeStampingOnly is the extended key usage id-kp-timeStamping, critical and
// alone (RFC 3161 §2.3).
var timeStampingOnly = pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true,
	Value: []byte{0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 8}}

// IssueTimestamper certifies the key that signs time stamps, by the present
// code-signing CA. The chain is what leads from the certificate to the root.
func (a *Authorities) IssueTimestamper(key crypto.PublicKey, now time.Time) (cert *x509.Certificate, chain []*x509.Certificate, err error) {
	by, err := a.present(vetting.ForCodeSigning, now)
	if err != nil {
		return nil, nil, err
	}
	der, err := by.sign(&x509.Certificate{
		SerialNumber:          a.Serials.New(),
		Subject:               pkix.Name{Organization: by.Certificate.Subject.Organization, CommonName: "Time-stamp authority"},
		NotBefore:             now.Add(-Backdate).UTC().Truncate(time.Second),
		NotAfter:              earlier(now.Add(TimestampValidity), by.Certificate.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtraExtensions:       []pkix.Extension{timeStampingOnly},
		SubjectKeyId:          keyID(key),
		BasicConstraintsValid: true,
	}, key)
	if err != nil {
		return nil, nil, err
	}
	cert, err = x509.ParseCertificate(der)
	return cert, a.chain(by.Authority), err
}

// PresentCodeSigner is the certificate of the CA that issues for code signing
// now.
func (a *Authorities) PresentCodeSigner() *x509.Certificate {
	return a.issuers.Load().present(vetting.ForCodeSigning).Certificate
}
