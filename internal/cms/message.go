package cms

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/smallstep/pkcs7"
)

// Sign makes a SignedData (DER) with the content, as data, inside, and with
// the signer's certificate and its chain.
func Sign(content []byte, by Signatory, at time.Time) ([]byte, error) {
	data, err := signInside(pkcs7.OIDData, content, by, at)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(contentInfo{pkcs7.OIDSignedData, data})
}

// signInside makes a SignedData with its content inside. Its version follows
// from the content's type (RFC 5652 §5.1).
func signInside(kind asn1.ObjectIdentifier, content []byte, by Signatory, at time.Time) (signedData, error) {
	d := Detached{Certificate: by.Certificate, Chain: by.Chain, At: at, Type: kind}
	h := d.Hash().New()
	h.Write(content)
	draft, err := d.Draft(h.Sum(nil))
	if err != nil {
		return signedData{}, err
	}
	sig, err := d.sign(draft, by.Key)
	if err != nil {
		return signedData{}, err
	}
	data := draft.data
	data.Signers[0].Signature = sig
	data.Encapsulated.Content = octets(content)
	return data, nil
}

// Open verifies a SignedData (DER or BER) of at most longest bytes that
// carries its content, as data, and returns the content and who signed it:
// the one signer's certificate is inside, and the signature is by its key.
// Whose certificate that is, whether it counts and whether the signing time is
// acceptable is the caller's to judge; the signer may have issued it to itself.
func Open(message []byte, longest int) (content []byte, by Signer, err error) {
	return OpenContent(message, longest, pkcs7.OIDData)
}

// OpenContent is Open for content of the given type. If that is no octet string
// but an element of its own, its contents are returned, which are what the
// digest is over.
func OpenContent(message []byte, longest int, kind asn1.ObjectIdentifier) (content []byte, by Signer, err error) {
	p7, err := Parse(message, longest)
	if err != nil {
		return nil, by, err
	}
	switch {
	case len(p7.Content) == 0:
		return nil, by, errors.New("it carries no content (openssl: -nodetach)")
	case len(p7.Signers) != 1:
		return nil, by, fmt.Errorf("it has %d signers identified by issuer and serial number: want one (openssl: leave out -keyid)", len(p7.Signers))
	}
	cert, err := signerCertificate(p7, 0)
	if err != nil {
		return nil, by, err
	}
	if err := checkSize(cert); err != nil {
		return nil, by, fmt.Errorf("the certificate of %q %w", cert.Subject, err)
	}
	by, err = verifySignature(p7, 0, cert, kind, DigestOf(p7.Content))
	if err != nil {
		return nil, by, err
	}
	for _, c := range p7.Certificates {
		if c != cert {
			by.Others = append(by.Others, c)
		}
	}
	return p7.Content, by, nil
}

// checkSize refuses RSA keys that are too small.
func checkSize(cert *x509.Certificate) error {
	if key, ok := cert.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSA {
		return fmt.Errorf("has an RSA key of %d bits: at least %d are needed", key.N.BitLen(), minRSA)
	}
	return nil
}
