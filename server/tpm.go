package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"

	"github.com/touchmark/touchmark/enroll/attest"
	"github.com/touchmark/touchmark/vetting/vendorid"
)

// tpmAnswers is the purpose of the secret that the answers to TPMs' challenges
// are derived from.
const tpmAnswers = "tpm answers"

// newAttestor makes what checks TPMs. Its secret takes both the servers' files
// and the database: nodes that only answer for certificates have the serial
// key, too, and readers of the database have none.
func (s *Server) newAttestor(ctx context.Context) (*attest.Attestor, error) {
	shared, err := s.store.Secret(ctx, tpmAnswers)
	if err != nil {
		return nil, err
	}
	m := hmac.New(sha256.New, s.authorities.Serials.Derive(tpmAnswers))
	m.Write(shared)
	return &attest.Attestor{Secret: m.Sum(nil), Now: s.env.Now,
		Makers: &vendorid.Book{Products: s.store, Vendors: vendorid.ByTPM, Now: s.env.Now}}, nil
}
