package kmod

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
	"github.com/touchmark/touchmark/internal/cms"
)

// build compiles what the kernel would take for a module but for its symbols.
func build(t testing.TB) []byte {
	t.Helper()
	source := signtest.File(t, "m.c", []byte(`
static const char info[] __attribute__((section(".modinfo"), used)) = "license=GPL\0name=sensor\0vermagic=6.1.0 SMP mod_unload ";
static const char big[300000] __attribute__((used)) = {1};
int init_module(void) { return 0; }
`))
	out := filepath.Join(t.TempDir(), "m.ko")
	if _, err := signtest.Run("gcc", "-c", "-o", out, source); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

type signer struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func newSigner(t testing.TB, kind string) signer {
	t.Helper()
	key := signtest.Key(t, kind)
	return signer{key, signtest.Certificate(t, "modules of "+kind, key, nil, nil)}
}

func (s signer) sign(t testing.TB, module []byte) []byte {
	t.Helper()
	return signtest.Sign(t, Module{Certificate: s.cert}, module, s.key)
}

func (s signer) ours(_ *testing.T, signed []byte) error {
	_, err := Verify(signtest.Reader(signed), []*x509.Certificate{s.cert})
	return err
}

// openssl checks the message over the module, cut apart at the module's known
// length.
func (s signer) openssl(module int) func(*testing.T, []byte) error {
	return func(t *testing.T, signed []byte) error {
		cert := signtest.CertificateFile(t, s.cert)
		_, err := signtest.Run("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", signtest.File(t, "sig", signed[module:max(module, len(signed)-40)]),
			"-content", signtest.File(t, "m.ko", signed[:module]), "-certfile", cert, "-CAfile", cert, "-purpose", "any", "-out", "/dev/null")
		return err
	}
}

func TestModulesAreGoodForOthers(t *testing.T) {
	module := build(t)
	for _, kind := range []string{"rsa2048", "rsa3072", "p256", "p384"} {
		t.Run(kind, func(t *testing.T) {
			s, stranger := newSigner(t, kind), newSigner(t, kind)
			signed := s.sign(t, module)
			if !bytes.HasPrefix(signed, module) {
				t.Fatal("the module itself was changed")
			}
			for name, good := range map[string]func(*testing.T, []byte) error{"ours": s.ours, "openssl": s.openssl(len(module))} {
				if err := good(t, signed); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				for what, at := range map[string]int{"the module": len(module) / 2, "the signature": len(signed) - 60} {
					bad := bytes.Clone(signed)
					bad[at] ^= 1
					if good(t, bad) == nil {
						t.Errorf("%s takes it with a changed bit in %s", name, what)
					}
				}
				if good(t, stranger.sign(t, module)) == nil {
					t.Errorf("%s takes a stranger's signature", name)
				}
				if good(t, module) == nil {
					t.Errorf("%s takes a module without signature", name)
				}
			}
		})
	}
}

// modinfo is what shows a module's signature to who looks for it.
func TestModinfoShowsTheSigner(t *testing.T) {
	s := newSigner(t, "rsa2048")
	out, err := signtest.Run("/sbin/modinfo", signtest.File(t, "m.ko", s.sign(t, build(t))))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"sig_id:         PKCS#7", "signer:         modules of rsa2048", "sig_hashalgo:   sha256"} {
		if !strings.Contains(out, want) {
			t.Errorf("modinfo says\n%swithout %q", out, want)
		}
	}
}

// RSA signatures by PKCS #1 v1.5 have no random part.
func TestModulesAreThoseOfSignFile(t *testing.T) {
	found, err := filepath.Glob("/usr/lib/linux-kbuild-*/scripts/sign-file")
	if err != nil || len(found) == 0 {
		t.Fatal("sign-file is not there: deploy/install-test-deps.sh installs Debian's linux-kbuild", err)
	}
	module := build(t)
	s := newSigner(t, "rsa3072")
	path := signtest.File(t, "m.ko", module)
	if _, err := signtest.Run(found[0], "sha256", signtest.PrivateFile(t, s.key), signtest.CertificateFile(t, s.cert), path); err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if ours := s.sign(t, module); !bytes.Equal(ours, theirs) {
		t.Errorf("behind the module stand\n%x, but sign-file wrote\n%x", ours[len(module):], theirs[len(module):])
	}
}

func TestChangedModulesAreRefused(t *testing.T) {
	module := build(t)
	s := newSigner(t, "p256")
	signed := s.sign(t, module)
	for i := range signed {
		if i < len(module) && i%50_021 != 0 {
			continue
		}
		bad := bytes.Clone(signed)
		bad[i] ^= 1 << (i % 8)
		if s.ours(t, bad) == nil {
			t.Errorf("byte %d of %d is changed, and it verifies", i, len(signed))
		}
	}
	for name, bad := range map[string][]byte{
		"nothing":            nil,
		"its end":            signed[:len(signed)-1],
		"a signature alone":  signed[len(module):],
		"more at its end":    append(bytes.Clone(signed), '\n'),
		"a broken signature": s.sign(t, module)[:len(module)+20],
	} {
		if s.ours(t, bad) == nil {
			t.Errorf("%s verifies", name)
		}
	}
	if _, err := Verify(signtest.Reader(signed), nil); err == nil {
		t.Error("it verifies without a certificate")
	}
}

// A message with a signing time and certificates is good CMS, but kernels are
// not given such.
func TestOtherMessagesAreRefused(t *testing.T) {
	module := build(t)
	s := newSigner(t, "p256")
	message, err := cms.SignDetached(bytes.NewReader(module), s.cert, s.key, signtest.Now)
	if err != nil {
		t.Fatal(err)
	}
	signed := s.sign(t, module)
	if err := s.openssl(len(module))(t, append(append(bytes.Clone(module), message...), signed[len(signed)-40:]...)); err != nil {
		t.Fatal(err)
	}
	end := bytes.Clone(signed[len(signed)-40:])
	binary.BigEndian.PutUint32(end[8:], uint32(len(message)))
	if err := s.ours(t, append(append(bytes.Clone(module), message...), end...)); err == nil || !strings.Contains(err.Error(), "without content, certificates and attributes") {
		t.Error(err)
	}
}

func TestWhatIsNotSigned(t *testing.T) {
	s := newSigner(t, "p256")
	module := build(t)
	program := bytes.Clone(module)
	program[16] = 2
	ed := signtest.Key(t, "ed25519")
	for name, c := range map[string]struct {
		module []byte
		cert   *x509.Certificate
		want   string
	}{
		"signed already": {s.sign(t, module), s.cert, "signed already"},
		"nothing":        {nil, s.cert, "no ELF file"},
		"a text":         {bytes.Repeat([]byte("module "), 20), s.cert, "no ELF file"},
		"cut off":        {module[:len(module)-1], s.cert, "cut off"},
		"a program":      {program, s.cert, "type 2"},
		"gzip":           {append([]byte("\x1f\x8b\x08"), module...), s.cert, "compressed (gzip)"},
		"xz":             {append([]byte("\xfd7zXZ\x00"), module...), s.cert, "compressed (xz)"},
		"zstd":           {append([]byte("\x28\xb5\x2f\xfd"), module...), s.cert, "compressed (zstd)"},
		"Ed25519":        {module, signtest.Certificate(t, "x", ed, nil, nil), "use ECDSA or RSA"},
		"no certificate": {module, nil, "certificate"},
	} {
		if _, err := (Module{Certificate: c.cert}).Prepare(signtest.Reader(c.module), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

func FuzzVerify(f *testing.F) {
	s := newSigner(f, "p256")
	elf := make([]byte, 64)
	copy(elf, "\x7fELF\x02\x01")
	elf[16], elf[40], elf[58], elf[60] = 1, 16, 8, 1
	signed := s.sign(f, elf)
	f.Add(signed)
	f.Add(elf)
	f.Fuzz(func(t *testing.T, b []byte) {
		size, message, err := split(signtest.Reader(b))
		if err == nil && int(size)+len(message)+len(mark)+trailerLength != len(b) {
			t.Fatalf("%d bytes are split after %d and %d", len(b), size, len(message))
		}
		if err == nil && checkFile(signtest.Reader(b)) == nil {
			t.Fatal("a signed module is to be signed")
		}
		if _, err := Verify(signtest.Reader(b), []*x509.Certificate{s.cert}); err == nil && !bytes.Equal(b[:size], elf) {
			t.Fatal("verified, but never signed")
		}
	})
}
