package server

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/sha256"

	"github.com/touchmark/touchmark/enroll/attest"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/vetting/vendorid"
)

// tpmAnswers is the purpose of the secret that the answers to TPMs' challenges
// are derived from.
const tpmAnswers = "tpm answers"

// openAttestation makes what checks TPMs. Its secrets take both the servers' files
// and the database: nodes that only answer for certificates have the serial
// key, too, and readers of the database have none.
func (s *Server) openAttestation(ctx context.Context) error {
	secret, err := s.sharedSecret(ctx, tpmAnswers)
	if err != nil {
		return err
	}
	s.attestor = &attest.Attestor{Secret: secret, Products: s.store, Now: s.env.Now,
		Makers: &vendorid.Book{Products: s.store, Vendors: vendorid.ByTPM, Now: s.env.Now}}
	key, err := s.attestationKey(ctx)
	if err != nil {
		return err
	}
	issuer, err := ca.NewAKIssuer(key, organizationOf(s.authorities), s.store, s.env.Now)
	s.attestationCA = &attest.CA{Attestor: s.attestor, EKs: s.store, Issuer: issuer}
	return err
}

// attestationKey is the configured one, or what servers without share.
func (s *Server) attestationKey(ctx context.Context) (crypto.Signer, error) {
	if key := s.authorities.Own(ca.AttestationKeyName); key != nil {
		return key, nil
	}
	secret, err := s.sharedSecret(ctx, "attestation CA")
	if err != nil {
		return nil, err
	}
	return ca.DeriveAttestationKey(secret), nil
}

// organizationOf is the manufacturer's name, as the root has it.
func organizationOf(a *ca.Authorities) string {
	if names := a.Root.Subject.Organization; len(names) > 0 {
		return names[0]
	}
	return "Touchmark"
}

func (s *Server) sharedSecret(ctx context.Context, name string) ([]byte, error) {
	shared, err := s.store.Secret(ctx, name)
	if err != nil {
		return nil, err
	}
	m := hmac.New(sha256.New, s.authorities.Serials.Derive(name))
	m.Write(shared)
	return m.Sum(nil), nil
}
