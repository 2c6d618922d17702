package detached

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"filippo.io/mldsa"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/keys"
)

// nodeVerifier runs @noble/post-quantum, which shares nothing with our library;
// deploy/install-test-deps.sh installs it.
const nodeVerifier = "testdata/node/verify.mjs"

func statement() []byte {
	sum := sha256.Sum256([]byte("firmware"))
	return release.Statement{Type: release.StatementType, Product: "thermostat", Version: "1.2.0", Counter: 7, SupportEnd: "2031-12-31",
		Artefacts: []release.StatementArtefact{{Name: "app.bin", Format: "mcuboot", Parameters: map[string]string{"slot-size": hex.EncodeToString(sum[:2])}}}}.Bytes()
}

// TestStatementsAreGoodForOthers: keys of the file key store sign statements,
// and an implementation that others wrote verifies them, with the context; a
// flipped bit, another key, another statement and no context are refused.
func TestStatementsAreGoodForOthers(t *testing.T) {
	for kind, algorithm := range map[keys.Kind]firmwaresign.Algorithm{keys.MLDSA65: firmwaresign.MLDSA65, keys.MLDSA87: firmwaresign.MLDSA87} {
		t.Run(string(kind), func(t *testing.T) {
			ring := keys.Ring{Dir: t.TempDir()}
			if _, err := ring.Create(t.Context(), "file:statement.key", kind); err != nil {
				t.Fatal(err)
			}
			key, err := ring.Open(t.Context(), "file:statement.key")
			if err != nil {
				t.Fatal(err)
			}
			public := key.Public().(*mldsa.PublicKey)
			text := statement()
			sig := signtest.Sign(t, Statement{public}, text, key)
			draft, err := Statement{public}.Prepare(signtest.Reader(text), nil)
			if err != nil || draft.ToSign()[0].Algorithm != algorithm {
				t.Fatalf("%+v, %v", draft, err)
			}
			node := func(context string) func(sig, text []byte) error {
				return func(sig, text []byte) error {
					_, err := signtest.Run("node", nodeVerifier, string(algorithm), context, signtest.File(t, "key", public.Bytes()), signtest.File(t, "text", text), signtest.File(t, "sig", sig))
					return err
				}
			}
			ours := func(sig, text []byte) error { return VerifyStatement(signtest.Reader(text), sig, public) }
			checkAll(t, sig, text, node("touchmark release statement"), ours)
			if node("")(sig, text) == nil {
				t.Error("it verifies without the context")
			}
		})
	}
}

// TestStatementKeysSignNothingElse: a key for statements is none for files, and
// the other way round; a digest is no statement.
func TestStatementKeysSignNothingElse(t *testing.T) {
	key, err := mldsa.GenerateKey(mldsa.MLDSA65())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := firmwaresign.AlgorithmFor(key.Public(), false); err == nil {
		t.Error("a key for statements signs files")
	}
	if _, err := firmwaresign.NewDigestToSign(firmwaresign.MLDSA65, key.Public(), make([]byte, 32)); err == nil {
		t.Error("a digest was taken for a statement")
	}
	if _, err := firmwaresign.NewToSign(firmwaresign.MLDSA87, key.Public(), statement()); err == nil {
		t.Error("a key of ML-DSA-65 signs by ML-DSA-87")
	}
	small, err := mldsa.GenerateKey(mldsa.MLDSA44())
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]Statement{"no key": {}, "ML-DSA-44": {small.PublicKey()}} {
		if _, err := f.Prepare(signtest.Reader(statement()), nil); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := (Statement{key.PublicKey()}).Prepare(signtest.Reader(nil), nil); err == nil {
		t.Error("an empty statement was signed")
	}
}
