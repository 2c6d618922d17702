package cms

import (
	"crypto/x509"
	"errors"
	"fmt"
)

// Certificates gives the certificates in a SignedData (DER, BER or PEM) of at
// most longest bytes: those of its signers, and the others. Nothing is verified.
func Certificates(message []byte, longest int) (signers, others []*x509.Certificate, err error) {
	der, err := Decode(message)
	if err != nil {
		return nil, nil, err
	}
	p7, err := Parse(der, longest)
	switch {
	case err != nil:
		return nil, nil, err
	case len(p7.Signers) == 0:
		return nil, nil, errors.New("it has no signer identified by issuer and serial number")
	case len(p7.Signers) > MaxSigners:
		return nil, nil, fmt.Errorf("it has %d signers: at most %d are accepted", len(p7.Signers), MaxSigners)
	}
	of := map[*x509.Certificate]bool{}
	for i := range p7.Signers {
		cert, err := signerCertificate(p7, i)
		if err != nil {
			return nil, nil, err
		}
		if !of[cert] {
			of[cert] = true
			signers = append(signers, cert)
		}
	}
	for _, c := range p7.Certificates {
		if !of[c] {
			others = append(others, c)
		}
	}
	return signers, others, nil
}
