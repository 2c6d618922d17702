package detached

import (
	"bytes"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

func sign(t *testing.T, f firmwaresign.Format, content []byte, ask func([]firmwaresign.ToSign) ([][]byte, error)) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := firmwaresign.Write(&out, f, signtest.Reader(content), ask); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// variants are the ways that keys sign.
var variants = []struct {
	name, kind string
	pss        bool
	openssl    []string // for dgst
}{
	{"P-256", "p256", false, []string{"-sha256"}},
	{"P-384", "p384", false, []string{"-sha384"}},
	{"RSA-3072 PKCS1", "rsa3072", false, []string{"-sha256"}},
	{"RSA-3072 PSS", "rsa3072", true, []string{"-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"}},
}

func TestCMSIsGoodForOpenSSL(t *testing.T) {
	ca := signtest.Key(t, "p256")
	root := signtest.Certificate(t, "root", ca, nil, nil)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	content := signtest.Random(600_000)
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			key := signtest.Key(t, v.kind)
			cert := signtest.Certificate(t, "firmware", key, root, ca)
			sig := sign(t, CMS{Certificate: cert, At: signtest.Now, PSS: v.pss}, content, firmwaresign.With(signtest.Opaque{Signer: key}))
			openssl := func(sig, content []byte) error {
				_, err := signtest.Run("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", signtest.File(t, "sig", sig),
					"-content", signtest.File(t, "content", content), "-CAfile", signtest.CertificateFile(t, root), "-purpose", "any", "-out", "/dev/null")
				return err
			}
			ours := func(sig, content []byte) error {
				_, err := VerifyCMS(signtest.Reader(content), sig, roots, signtest.Now)
				return err
			}
			checkAll(t, sig, content, openssl, ours)
		})
	}
}

func TestRawIsGoodForOpenSSL(t *testing.T) {
	content := signtest.Random(600_000)
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			key := signtest.Key(t, v.kind)
			sig := sign(t, Raw{Key: key.Public(), PSS: v.pss}, content, firmwaresign.With(signtest.Opaque{Signer: key}))
			public := signtest.PublicFile(t, key.Public())
			openssl := func(sig, content []byte) error {
				args := append([]string{"dgst", "-verify", public, "-signature", signtest.File(t, "sig", sig)}, v.openssl...)
				_, err := signtest.Run("openssl", append(args, signtest.File(t, "content", content))...)
				return err
			}
			ours := func(sig, content []byte) error {
				return VerifyRaw(signtest.Reader(content), sig, key.Public(), v.pss)
			}
			checkAll(t, sig, content, openssl, ours)
			if err := VerifyRaw(signtest.Reader(content), sig, signtest.Key(t, v.kind).Public(), v.pss); !errors.Is(err, firmwaresign.ErrSignature) {
				t.Errorf("another key: %v", err)
			}
		})
	}
}

func TestRawEd25519IsGoodForOpenSSL(t *testing.T) {
	content := signtest.Random(100_000)
	key := signtest.Key(t, "ed25519")
	sig := sign(t, Raw{Key: key.Public()}, content, firmwaresign.With(key))
	public := signtest.PublicFile(t, key.Public())
	openssl := func(sig, content []byte) error {
		_, err := signtest.Run("openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public,
			"-sigfile", signtest.File(t, "sig", sig), "-in", signtest.File(t, "content", content))
		return err
	}
	checkAll(t, sig, content, openssl, func(sig, content []byte) error {
		return VerifyRaw(signtest.Reader(content), sig, key.Public(), false)
	})
}

// checkAll wants each checker to take the signature, and none to take it over
// other content, changed or cut off.
func checkAll(t *testing.T, sig, content []byte, checkers ...func(sig, content []byte) error) {
	t.Helper()
	flipped := bytes.Clone(content)
	flipped[len(flipped)/2] ^= 0x10
	wrong := bytes.Clone(sig)
	wrong[len(wrong)-2] ^= 1
	for i, good := range checkers {
		if err := good(sig, content); err != nil {
			t.Errorf("checker %d: %v", i, err)
		}
		for name, bad := range map[string][2][]byte{
			"a bit of the content":   {sig, flipped},
			"a bit of the signature": {wrong, content},
			"content cut off":        {sig, content[:len(content)-1]},
			"content with more":      {sig, append(bytes.Clone(content), 0)},
			"signature cut off":      {sig[:len(sig)-1], content},
			"no signature":           {nil, content},
			"a foreign format":       {[]byte("PK\x03\x04 this is none"), content},
		} {
			if good(bad[0], bad[1]) == nil {
				t.Errorf("checker %d took %s", i, name)
			}
		}
	}
}

// A signature that is collected later is asked for again by the same bytes.
func TestPreparedAgainItIsTheSame(t *testing.T) {
	key := signtest.Key(t, "p256")
	cert := signtest.Certificate(t, "firmware", key, nil, nil)
	content := signtest.Random(1000)
	for name, f := range map[string]firmwaresign.Format{
		"CMS": CMS{Certificate: cert, At: signtest.Now}, "raw": Raw{Key: key.Public()},
	} {
		one, err := f.Prepare(signtest.Reader(content), nil)
		if err != nil {
			t.Fatal(name, err)
		}
		two, err := f.Prepare(signtest.Reader(content), nil)
		if err != nil {
			t.Fatal(name, err)
		}
		if !one.ToSign()[0].Equal(two.ToSign()[0]) {
			t.Errorf("%s: %v, then %v", name, one.ToSign(), two.ToSign())
		}
	}
}

func TestWhatCannotBeSigned(t *testing.T) {
	ed := signtest.Key(t, "ed25519")
	p256 := signtest.Key(t, "p256")
	for name, c := range map[string]struct {
		f       firmwaresign.Format
		content []byte
		want    string
	}{
		"CMS by Ed25519":        {CMS{Certificate: signtest.Certificate(t, "x", ed, nil, nil), At: signtest.Now}, []byte("x"), "use ECDSA or RSA"},
		"an empty file":         {Raw{Key: p256.Public()}, nil, "empty"},
		"much for Ed25519":      {Raw{Key: ed.Public()}, make([]byte, firmwaresign.MaxMessage+1), "use ECDSA or RSA"},
		"a key of no algorithm": {Raw{Key: "key"}, []byte("x"), "cannot sign firmware"},
	} {
		if _, err := c.f.Prepare(signtest.Reader(c.content), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}
