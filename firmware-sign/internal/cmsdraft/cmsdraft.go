// Package cmsdraft is what the formats with a CMS signature have in common.
package cmsdraft

import (
	"encoding/asn1"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/internal/cms"
)

// New makes a SignedData that lacks its signature, over content with the given
// digest, and says what is to be signed. Keys are RSA or ECDSA; verifiers in
// use know no Ed25519 there.
func New(d cms.Detached, content cms.Digest) (*cms.Draft, firmwaresign.ToSign, error) {
	alg, err := algorithm(d)
	if err != nil {
		return nil, firmwaresign.ToSign{}, err
	}
	sum, err := content(d.Hash())
	if err != nil {
		return nil, firmwaresign.ToSign{}, err
	}
	draft, err := d.Draft(sum)
	if err != nil {
		return nil, firmwaresign.ToSign{}, err
	}
	if d.Bare {
		want, err := firmwaresign.NewDigestToSign(alg, d.Certificate.PublicKey, sum)
		return draft, want, err
	}
	want, err := firmwaresign.NewToSign(alg, d.Certificate.PublicKey, draft.ToSign())
	return draft, want, err
}

// Around is New for content that is DER of a type of its own, and goes inside.
func Around(d cms.Detached, kind asn1.ObjectIdentifier, content []byte) (*cms.Draft, firmwaresign.ToSign, error) {
	alg, err := algorithm(d)
	if err != nil {
		return nil, firmwaresign.ToSign{}, err
	}
	draft, err := d.DraftAround(kind, content)
	if err != nil {
		return nil, firmwaresign.ToSign{}, err
	}
	want, err := firmwaresign.NewToSign(alg, d.Certificate.PublicKey, draft.ToSign())
	return draft, want, err
}

func algorithm(d cms.Detached) (firmwaresign.Algorithm, error) {
	if d.Certificate == nil {
		return "", &firmwaresign.KeyError{Reason: "the certificate of the key that signs is missing"}
	}
	alg, err := firmwaresign.AlgorithmFor(d.Certificate.PublicKey, d.PSS)
	if alg == firmwaresign.Ed25519 {
		return "", &firmwaresign.KeyError{Reason: "verifiers of CMS messages know no Ed25519: use ECDSA or RSA"}
	}
	return alg, err
}
