package firmwaresign_test

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/detached"
	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

func TestEachSignsOnlyWhatItShould(t *testing.T) {
	p256, rsa := signtest.Key(t, "p256"), signtest.Key(t, "rsa2048")
	digest := signtest.Random(32)
	for name, make := range map[string]func() (firmwaresign.ToSign, error){
		"a digest that is too short": func() (firmwaresign.ToSign, error) {
			return firmwaresign.NewDigestToSign(firmwaresign.ECDSAP256SHA256, p256.Public(), digest[:31])
		},
		"RSA's algorithm with an ECDSA key": func() (firmwaresign.ToSign, error) {
			return firmwaresign.NewDigestToSign(firmwaresign.RSAPSSSHA256, p256.Public(), digest)
		},
		"P-384's algorithm with P-256": func() (firmwaresign.ToSign, error) {
			return firmwaresign.NewDigestToSign(firmwaresign.ECDSAP384SHA384, p256.Public(), signtest.Random(48))
		},
		"a digest for Ed25519": func() (firmwaresign.ToSign, error) {
			return firmwaresign.NewDigestToSign(firmwaresign.Ed25519, signtest.Key(t, "ed25519").Public(), digest)
		},
		"a message that is too long": func() (firmwaresign.ToSign, error) {
			return firmwaresign.NewToSign(firmwaresign.RSAPSSSHA256, rsa.Public(), signtest.Random(firmwaresign.MaxMessage+1))
		},
		"nothing": func() (firmwaresign.ToSign, error) {
			return firmwaresign.NewToSign(firmwaresign.RSAPSSSHA256, rsa.Public(), nil)
		},
	} {
		if _, err := make(); err == nil {
			t.Errorf("%s is to be signed", name)
		}
	}
	want, err := firmwaresign.NewDigestToSign(firmwaresign.ECDSAP256SHA256, p256.Public(), digest)
	if err != nil {
		t.Fatal(err)
	}
	var wrong *firmwaresign.KeyError
	if _, err := want.Sign(signtest.Key(t, "p256")); !errors.As(err, &wrong) {
		t.Errorf("another key: %v", err)
	}
	if _, err := want.Sign(broken{signtest.Opaque{Signer: p256}}); !errors.Is(err, firmwaresign.ErrSignature) {
		t.Errorf("a key that computes wrongly: %v", err)
	}
}

func TestAFileIsWholeOrNotThere(t *testing.T) {
	key := signtest.Key(t, "p256")
	raw := detached.Raw{Key: key.Public()}
	dir := t.TempDir()
	path := filepath.Join(dir, "image.sig")
	for name, ask := range map[string]func([]firmwaresign.ToSign) ([][]byte, error){
		"nobody signs":       func([]firmwaresign.ToSign) ([][]byte, error) { return nil, errors.New("no approval") },
		"no signature comes": func([]firmwaresign.ToSign) ([][]byte, error) { return nil, nil },
		"one too many":       func([]firmwaresign.ToSign) ([][]byte, error) { return make([][]byte, 2), nil },
		"it does not verify": func([]firmwaresign.ToSign) ([][]byte, error) { return [][]byte{signtest.Random(70)}, nil },
		"another key":        firmwaresign.With(signtest.Key(t, "p256")),
		"no key":             firmwaresign.With(),
	} {
		if err := firmwaresign.Create(path, raw, signtest.Reader([]byte("image")), ask); err == nil {
			t.Errorf("%s: a file was made", name)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
	if err := firmwaresign.Create(path, raw, signtest.Reader([]byte("image")), firmwaresign.With(signtest.Key(t, "p384"), key)); err != nil {
		t.Fatal(err)
	}
	sig, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := detached.VerifyRaw(signtest.Reader([]byte("image")), sig, key.Public(), false); err != nil {
		t.Fatal(err)
	}
}

func TestAFileThatChangesIsRefused(t *testing.T) {
	path := signtest.File(t, "image", bytes.Repeat([]byte{1}, 100))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file, err := firmwaresign.File(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(50); err != nil {
		t.Fatal(err)
	}
	if _, err := (detached.Raw{Key: signtest.Key(t, "p256").Public()}).Prepare(file, nil); err == nil {
		t.Fatal("a file that was cut off meanwhile is to be signed")
	}
	if d, err := os.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	} else if _, err := firmwaresign.File(d); err == nil {
		t.Fatal("a directory is taken for a file")
	}
}

// broken is a key whose module makes an error once.
type broken struct{ signtest.Opaque }

func (b broken) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := b.Opaque.Sign(rand, digest, opts)
	sig[len(sig)-1] ^= 1
	return sig, err
}
