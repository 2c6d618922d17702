package ca_test

import (
	"context"
	"crypto"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/attest"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/vetting"
)

type noted int

func (n *noted) NoteAKCertificate(context.Context, vetting.Fingerprint, []byte) error {
	*n++
	return nil
}

// mute is a key whose HSM goes after so many signatures.
type mute struct {
	crypto.Signer
	after int
}

func (m *mute) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if m.after--; m.after < 0 {
		return nil, errors.New("the token is gone")
	}
	return m.Signer.Sign(rand, digest, opts)
}

// An attestation CA whose key is gone says that it cannot sign, and writes
// nothing into the log.
func TestAttestationCAWithoutItsKey(t *testing.T) {
	var log noted
	i, err := ca.NewAKIssuer(&mute{newKey(t), 2}, "Works", &log, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	ak := attest.AKCertificate{Key: newKey(t).Public(), Serial: "G-1"}
	if chain, err := i.IssueAK(t.Context(), ak); err != nil || len(chain) != 2 || log != 1 {
		t.Fatalf("%d certificates, %d notes, %v", len(chain), log, err)
	}
	_, err = i.IssueAK(t.Context(), ak)
	if e := new(enroll.IssuerError); !errors.As(err, &e) || e.Issuer != ca.AttestationKeyName || log != 1 {
		t.Errorf("%v; %d notes", err, log)
	}
}
