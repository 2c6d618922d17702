// Package cmsdraft is what the formats with a CMS signature have in common.
package cmsdraft

import (
	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/internal/cms"
)

// New makes a SignedData that lacks its signature, over content with the given
// digest, and says what is to be signed. Keys are RSA or ECDSA; verifiers in
// use know no Ed25519 there.
func New(d cms.Detached, content cms.Digest) (*cms.Draft, firmwaresign.ToSign, error) {
	var want firmwaresign.ToSign
	alg, err := firmwaresign.AlgorithmFor(d.Certificate.PublicKey, d.PSS)
	if err != nil {
		return nil, want, err
	}
	if alg == firmwaresign.Ed25519 {
		return nil, want, &firmwaresign.KeyError{Reason: "verifiers of CMS messages know no Ed25519: use ECDSA or RSA"}
	}
	sum, err := content(d.Hash())
	if err != nil {
		return nil, want, err
	}
	draft, err := d.Draft(sum)
	if err != nil {
		return nil, want, err
	}
	want, err = firmwaresign.NewToSign(alg, d.Certificate.PublicKey, draft.ToSign())
	return draft, want, err
}
