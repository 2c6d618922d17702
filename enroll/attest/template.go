package attest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"

	"github.com/google/go-tpm/tpm2"

	"github.com/touchmark/touchmark/enroll"
)

// policyB is the policy of EKs of the high range with SHA-384 (EK Credential
// Profile 2.5, annex B.6.6).
const policyB = "\xb2\x6e\x7d\x28\xd1\x1a\x50\xbc\x53\xd8\x82\xbc\xf5\xfd\x3a\x1a\x07\x41\x48\xbb\x35\xd3\xb4\xe4" +
	"\xcb\x1c\x0a\xd9\xbd\xe4\x19\xca\xcb\x47\xba\x09\x69\x96\x46\x15\x0f\x9f\xc0\x00\xf3\xf8\x0e\x12"

// templateOf fills a key into its template.
func templateOf(key crypto.PublicKey, kind string) (*tpm2.TPMTPublic, error) {
	var area tpm2.TPMTPublic
	switch k := key.(type) {
	case *rsa.PublicKey:
		if kind != "RSA-2048" {
			return nil, enroll.BadRequest("ek is a key of kind %s: there is no default template for it here; use RSA-2048, P-256 or P-384", kind)
		}
		area = tpm2.RSAEKTemplate
		area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: k.N.Bytes()})
	case *ecdsa.PublicKey:
		area = tpm2.ECCEKTemplate
		switch kind {
		case "P-256":
		case "P-384":
			area = highP384()
		default:
			return nil, enroll.BadRequest("ek is a key of kind %s: there is no default template for it here; use RSA-2048, P-256 or P-384", kind)
		}
		point, err := k.Bytes() // 4, x, y
		if err != nil {
			return nil, enroll.BadRequest("ek: %v", err)
		}
		half := len(point) / 2
		area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: point[1 : 1+half]}, Y: tpm2.TPM2BECCParameter{Buffer: point[1+half:]}})
	default:
		return nil, enroll.BadRequest("ek is a key of kind %s, which no endorsement key is", kind)
	}
	return &area, nil
}

// highP384 is template H-3.
func highP384() tpm2.TPMTPublic {
	area := tpm2.ECCEKTemplate
	area.NameAlg, area.ObjectAttributes.UserWithAuth = tpm2.TPMAlgSHA384, true
	area.AuthPolicy = tpm2.TPM2BDigest{Buffer: []byte(policyB)}
	area.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{
			Algorithm: tpm2.TPMAlgAES,
			KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(256)),
			Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
		},
		CurveID: tpm2.TPMECCNistP384,
	})
	return area
}
