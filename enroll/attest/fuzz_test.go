package attest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/attest"
	"github.com/touchmark/touchmark/vetting"
)

// kept is the exchange in testdata.
func kept(f *testing.F) *vector {
	v := new(vector)
	text, err := os.ReadFile(filepath.Join("testdata", "proof.json"))
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		f.Fatal(err)
	}
	return v
}

// Whatever comes as a first message is refused as the sender's fault, or
// answered with what only the holder of that EK can read.
func FuzzHello(f *testing.F) {
	v, a := kept(f), recorded()
	f.Add(v.EK.Public, v.EK.Certificates[0], v.AK.Public, v.AK.CreateData, v.AK.CreateAttestation, v.AK.CreateSignature)
	f.Fuzz(func(t *testing.T, ek, cert, ak, data, attestation, signature []byte) {
		h := attest.Hello{EK: attest.EK{Public: ek, Certificates: [][]byte{cert}}, AK: attest.AK{Public: ak, CreateData: data, CreateAttestation: attestation, CreateSignature: signature}}
		c, err := a.Challenge(t.Context(), h)
		bad := new(enroll.RequestError)
		switch {
		case err != nil && !errors.As(err, &bad):
			t.Errorf("the sender's fault is reported as %T: %v", err, err)
		case err == nil && (len(c.Credential) < 2+32 || len(c.Secret) < 2+64 || c.Challenge == ""):
			t.Errorf("a challenge that is none: %+v", c)
		}
	})
}

// Whatever comes as a second message proves nothing unless it is what a TPM
// said: one changed bit, and there is no claim, or one that is known to be
// untrue. (An ECDSA signature has more than one form, so it may differ.)
func FuzzProof(f *testing.F) {
	v, a := kept(f), recorded()
	f.Add(v.Answer, v.Key.Public, v.Key.Attestation, v.Key.Signature, v.Quote.Attestation, v.Quote.PCRs[7])
	f.Fuzz(func(t *testing.T, answer, public, attestation, signature, quote, pcr []byte) {
		p := v.Proof
		p.Answer, p.Key = answer, attest.Key{Public: public, Attestation: attestation, Signature: signature}
		p.Quote = &attest.Quote{Attestation: quote, Signature: v.Quote.Signature, PCRs: map[int][]byte{7: pcr}}
		r, err := a.Request(context.Background(), &p, v.CSR, vetting.Claim{})
		bad, stale := new(enroll.RequestError), new(enroll.ProofError)
		genuine := bytes.Equal(answer, v.Answer) && bytes.Equal(public, v.Key.Public) && bytes.Equal(attestation, v.Key.Attestation) &&
			bytes.Equal(quote, v.Quote.Attestation) && bytes.Equal(pcr, v.Quote.PCRs[7])
		switch {
		case err != nil && !errors.As(err, &bad) && !errors.As(err, &stale):
			t.Errorf("the sender's fault is reported as %T: %v", err, err)
		case err == nil && r.Claim.TPM.Untrue == "" && !genuine:
			t.Error("another message than the TPM's is taken")
		}
	})
}
