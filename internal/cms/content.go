package cms

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"

	mozilla "go.mozilla.org/pkcs7"
)

// versionOther is of a SignedData whose content is not id-data (RFC 5652
// §5.1).
const versionOther = 3

// SignContent makes a SignedData (DER) with content of the given type inside,
// signed with SHA-256, and with the signer's certificate and its chain. The
// key is one in memory on P-256; the signing time is that of this machine.
func SignContent(contentType asn1.ObjectIdentifier, content []byte, cert *x509.Certificate, key *ecdsa.PrivateKey, chain []*x509.Certificate) ([]byte, error) {
	m, err := mozilla.NewSignedData(content)
	if err != nil {
		return nil, err
	}
	sd := m.GetSignedData()
	sd.Version, sd.ContentInfo.ContentType = versionOther, contentType
	m.SetDigestAlgorithm(mozilla.OIDDigestAlgorithmSHA256)
	if err := m.AddSignerChain(cert, key, chain, mozilla.SignerInfoConfig{}); err != nil {
		return nil, err
	}
	return m.Finish()
}
