package vetting_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/vetting"
)

// holder is a key with a certificate that the database keeps.
type holder struct {
	key  crypto.Signer
	cert *vetting.Certificate
}

func newHolder(t testing.TB, key crypto.Signer, device int64, serial string) holder {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: inspected}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	fp, err := vetting.PublicKeyFingerprint(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return holder{key, &vetting.Certificate{DeviceID: device, Serial: serial, Key: fp, DER: der, State: vetting.CertificateValid}}
}

func ec(t testing.TB, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign answers a challenge as the documentation has it, without a word of the
// package.
func (h holder) sign(t testing.TB, n vetting.Nonce) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(h.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(spki)
	message := slices.Concat([]byte("Touchmark proof of possession, version 1"), []byte{0}, n[:], sum[:])
	hash := crypto.SHA256
	switch k := h.key.(type) {
	case ed25519.PrivateKey:
		hash = 0
	case *ecdsa.PrivateKey:
		hash = map[int]crypto.Hash{256: crypto.SHA256, 384: crypto.SHA384, 521: crypto.SHA512}[k.Curve.Params().BitSize]
	}
	if hash != 0 {
		d := hash.New()
		d.Write(message)
		message = d.Sum(nil)
	}
	sig, err := h.key.Sign(rand.Reader, message, hash)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func TestProofOfEachKindOfKey(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	n := vetting.Nonce{1, 2, 3}
	for _, key := range []crypto.Signer{ec(t, elliptic.P256()), ec(t, elliptic.P384()), ec(t, elliptic.P521()), edKey, rsaKey} {
		h := newHolder(t, key, 7, "0a")
		f := vetting.AnswerFacts{Now: inspected, Challenge: &vetting.Challenge{DeviceID: 7, Nonce: n}, How: vetting.BySignature, Signature: h.sign(t, n), Own: []*vetting.Certificate{h.cert}}
		if r, ev := vetting.JudgeAnswer(f); r.Outcome != vetting.Proved || r.Key != h.cert.Key || len(ev) > 0 {
			t.Errorf("%T: %+v, %+v", key, r, ev)
		}
		f.Challenge = &vetting.Challenge{DeviceID: 7, Nonce: vetting.Nonce{9}}
		if r, _ := vetting.JudgeAnswer(f); r.Outcome != vetting.ProofFailed || r.Reason != vetting.ReasonWrongSignature {
			t.Errorf("%T, over another nonce: %+v", key, r)
		}
	}
}

func TestJudgeAnswer(t *testing.T) {
	n := vetting.Nonce{5}
	own, old, other := newHolder(t, ec(t, elliptic.P256()), 7, "0a"), newHolder(t, ec(t, elliptic.P256()), 7, "0b"), newHolder(t, ec(t, elliptic.P256()), 8, "0c")
	old.cert.State = vetting.CertificateSuperseded
	with := func(c vetting.Certificate, change func(*vetting.Certificate)) *vetting.Certificate {
		change(&c)
		return &c
	}
	used := with(*own.cert, func(c *vetting.Certificate) { c.Used = inspected })
	held := with(*own.cert, func(c *vetting.Certificate) { c.State = vetting.CertificateOnHold })
	revoked := with(*own.cert, func(c *vetting.Certificate) { c.State = vetting.CertificateRevoked })
	before := with(*own.cert, func(c *vetting.Certificate) { c.State, c.Serial = vetting.CertificateSuperseded, "09" })
	for _, tt := range []struct {
		name     string
		facts    vetting.AnswerFacts
		outcome  vetting.ProofOutcome
		reason   vetting.Code
		evidence []vetting.EvidenceKind
	}{
		{"its key", vetting.AnswerFacts{Signature: own.sign(t, n), Own: []*vetting.Certificate{own.cert}}, vetting.Proved, "", nil},
		{"its key, on hold", vetting.AnswerFacts{Signature: own.sign(t, n), Own: []*vetting.Certificate{held}}, vetting.Proved, "", nil},
		{"its key, named by the certificate before", vetting.AnswerFacts{Signature: own.sign(t, n), Named: before, Own: []*vetting.Certificate{own.cert, before}}, vetting.Proved, "", nil},
		{"by TLS", vetting.AnswerFacts{How: vetting.ByTLS, Named: own.cert, Own: []*vetting.Certificate{own.cert}}, vetting.Proved, "", nil},
		{"nothing", vetting.AnswerFacts{Own: []*vetting.Certificate{own.cert}}, vetting.ProofFailed, vetting.ReasonWrongSignature, nil},
		{"another's signature, said to be its", vetting.AnswerFacts{Signature: other.sign(t, n), Named: own.cert, Own: []*vetting.Certificate{own.cert}}, vetting.ProofFailed, vetting.ReasonWrongSignature, nil},
		{"a signature that is too long", vetting.AnswerFacts{Signature: make([]byte, 4096), Own: []*vetting.Certificate{own.cert}}, vetting.ProofFailed, vetting.ReasonWrongSignature, nil},
		{"another device", vetting.AnswerFacts{Signature: other.sign(t, n), Named: other.cert, Own: []*vetting.Certificate{own.cert}}, vetting.ProofFailed, vetting.ReasonOtherDevice, []vetting.EvidenceKind{vetting.EvidenceForeignProof, vetting.EvidenceForeignProof}},
		{"another device by TLS", vetting.AnswerFacts{How: vetting.ByTLS, Named: other.cert, Own: []*vetting.Certificate{own.cert}}, vetting.ProofFailed, vetting.ReasonOtherDevice, []vetting.EvidenceKind{vetting.EvidenceForeignProof, vetting.EvidenceForeignProof}},
		{"a revoked key", vetting.AnswerFacts{Signature: own.sign(t, n), Own: []*vetting.Certificate{revoked}}, vetting.ProofFailed, vetting.ReasonRevokedKey, nil},
		{"its earlier key, the new one unused", vetting.AnswerFacts{Signature: old.sign(t, n), Own: []*vetting.Certificate{own.cert, old.cert}}, vetting.ProofFailed, vetting.ReasonOldKey, nil},
		{"its earlier key, the new one in use", vetting.AnswerFacts{Signature: old.sign(t, n), Own: []*vetting.Certificate{used, old.cert}}, vetting.ProofFailed, vetting.ReasonOldKey, []vetting.EvidenceKind{vetting.EvidenceSuperseded}},
		{"a device without a certificate", vetting.AnswerFacts{Signature: own.sign(t, n)}, vetting.ProofFailed, vetting.ReasonWrongSignature, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := tt.facts
			f.Now, f.Challenge = inspected, &vetting.Challenge{DeviceID: 7, Nonce: n}
			if f.How == "" {
				f.How = vetting.BySignature
			}
			r, ev := vetting.JudgeAnswer(f)
			var kinds []vetting.EvidenceKind
			for _, e := range ev {
				kinds = append(kinds, e.Kind)
			}
			if r.Outcome != tt.outcome || r.Reason != tt.reason || r.Text == "" || r.How != f.How || !r.At.Equal(inspected) || !slices.Equal(kinds, tt.evidence) {
				t.Errorf("%+v, %v", r, ev)
			}
		})
	}
}

func TestParseNonce(t *testing.T) {
	n := vetting.Nonce{1, 254}
	if got, err := vetting.ParseNonce(n.String()); err != nil || got != n {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", n.String() + "=", n.String()[1:], n.String() + "AA", strings.Replace(n.String(), "A", "\n", 1)} {
		if _, err := vetting.ParseNonce(bad); err == nil {
			t.Errorf("%q is taken for a nonce", bad)
		}
	}
}

// FuzzAnswer: no signature but the device's own proves anything.
func FuzzAnswer(f *testing.F) {
	n := vetting.Nonce{5}
	h := newHolder(f, ec(f, elliptic.P256()), 7, "0a")
	good := h.sign(f, n)
	f.Add(good)
	f.Add([]byte{})
	f.Add(append(bytes.Clone(good), 0))
	f.Fuzz(func(t *testing.T, sig []byte) {
		r, ev := vetting.JudgeAnswer(vetting.AnswerFacts{Challenge: &vetting.Challenge{DeviceID: 7, Nonce: n}, How: vetting.BySignature, Signature: sig, Own: []*vetting.Certificate{h.cert}})
		if (r.Outcome == vetting.Proved) != bytes.Equal(sig, good) || len(ev) > 0 {
			t.Errorf("%x: %+v", sig, r)
		}
	})
}
