package release

import (
	"bytes"
	"strings"
	"testing"

	"filippo.io/mldsa"
	pkix "filippo.io/mldsa/x509"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

func statementKey(t *testing.T, kind string) (*Key, *mldsa.PrivateKey) {
	t.Helper()
	params := map[string]mldsa.Parameters{"ML-DSA-65": mldsa.MLDSA65(), "ML-DSA-87": mldsa.MLDSA87()}[kind]
	signer, err := mldsa.GenerateKey(params)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := pkix.MarshalPKIXPublicKey(signer.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	return &Key{Name: "lamp-pq", Product: "lamp", Stage: Production, Kind: kind, PublicKey: spki}, signer
}

// TestStatementSignature: both kinds sign the statement of an approved release,
// and no other bytes verify.
func TestStatementSignature(t *testing.T) {
	for _, kind := range []string{"ML-DSA-65", "ML-DSA-87"} {
		r, _, _ := draft(t)
		key, signer := statementKey(t, kind)
		if err := key.Check(); err != nil {
			t.Error(err)
		}
		_, err := AllowStatement(r, key)
		wants(t, err, "is draft")
		if err := r.Approve(signtest.Now); err != nil {
			t.Fatal(err)
		}
		permit, err := AllowStatement(r, key)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := permit.Sign(signer)
		if err != nil {
			t.Fatal(err)
		}
		if err := sig.Verify(r.Statement().Bytes()); err != nil || permit.Accept(sig) != nil {
			t.Errorf("%s: %v", kind, err)
		}
		other := *r
		other.Counter++
		if err := sig.Verify(other.Statement().Bytes()); err == nil {
			t.Errorf("%s: it verifies another release", kind)
		}
		elsewhere, err := AllowStatement(&other, key)
		if err != nil || elsewhere.Accept(sig) == nil {
			t.Errorf("%s: the signature of another release is accepted", kind)
		}
		_, second := statementKey(t, kind)
		if _, err := permit.Sign(second); err == nil {
			t.Errorf("%s: another key signed", kind)
		}
		r.State = Yanked
		_, err = AllowStatement(r, key)
		wants(t, err, "is yanked")
	}
}

// TestStatementKeysAreForStatements: they sign no artefact, keys for files sign
// no statement, and who is of another product or revoked signs nothing.
func TestStatementKeysAreForStatements(t *testing.T) {
	r, classic, _ := draft(t)
	key, signer := statementKey(t, "ML-DSA-65")
	want, err := firmwaresign.NewToSign(firmwaresign.MLDSA65, signer.PublicKey(), []byte(`{"type":"touchmark/release/1"}`))
	if err != nil {
		t.Fatal(err)
	}
	a := r.Artefacts[0]
	a.Keys, a.ToSign = []string{key.Name}, []firmwaresign.ToSign{want}
	wants(t, CheckArtefact(r, &a, []*Key{key}), "signs statements")
	if err := r.Approve(signtest.Now); err != nil {
		t.Fatal(err)
	}
	r.Artefacts[0] = a
	_, err = Allow(r, &r.Artefacts[0], []*Key{key})
	wants(t, err, "signs statements")
	_, err = AllowStatement(r, classic)
	wants(t, err, "signs files")
	for words, change := range map[string]func(*Key){
		"of product heater": func(k *Key) { k.Product = "heater" },
		"for test":          func(k *Key) { k.Stage = Test },
		"was revoked":       func(k *Key) { k.Revoked = signtest.Now },
	} {
		k := *key
		change(&k)
		_, err := AllowStatement(r, &k)
		wants(t, err, words)
	}
	key.Stage = Test
	wants(t, key.Check(), "for the stage production")
	if KindOf(signer.PublicKey()) != "ML-DSA-65" {
		t.Errorf("the kind is %q", KindOf(signer.PublicKey()))
	}
}

// TestReadStatement: only the canonical bytes are read.
func TestReadStatement(t *testing.T) {
	r, _, _ := draft(t)
	text := r.Statement().Bytes()
	st, err := ReadStatement(text)
	if err != nil || st.Name() != "lamp@1.2.0" || !bytes.Equal(st.Bytes(), text) {
		t.Fatalf("%+v, %v", st, err)
	}
	for name, bad := range map[string]string{
		"a space":         strings.Replace(string(text), ":", ": ", 1),
		"another type":    strings.Replace(string(text), StatementType, "touchmark/release/2", 1),
		"a second member": strings.Replace(string(text), `"counter":3`, `"counter":4,"counter":3`, 1),
		"an unknown one":  strings.Replace(string(text), `"counter":3`, `"counter":3,"countes":3`, 1),
		"the end missing": string(text[:len(text)-1]),
		"a line's end":    string(text) + "\n",
	} {
		if _, err := ReadStatement([]byte(bad)); err == nil {
			t.Errorf("%s: it was read", name)
		}
	}
}
