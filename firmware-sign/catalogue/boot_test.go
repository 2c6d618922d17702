package catalogue

import (
	"bytes"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

// signer is a key as the server certifies it, under a CA below the root.
type signer struct {
	*signtest.Release
	Signer
}

func newSigner(t *testing.T, kind string) signer {
	t.Helper()
	rootKey, caKey, key := signtest.Key(t, "p256"), signtest.Key(t, "p256"), signtest.Key(t, kind)
	root := signtest.Certificate(t, "root", rootKey, nil, nil)
	ca := signtest.Authority(t, "code signing", caKey, root, rootKey)
	r := &signtest.Release{Root: root, Certificate: signtest.Certificate(t, "release", key, ca, caKey), Key: key, Roots: x509.NewCertPool()}
	r.Roots.AddCert(root)
	return signer{r, Signer{Public: key.Public(), Certificate: r.Certificate, Chain: []*x509.Certificate{ca}}}
}

func (s signer) output(source, signed []byte) Output {
	return Output{Source: signtest.Reader(source), Signed: signtest.Reader(signed), Signers: []Signer{s.Signer}, Roots: s.Roots}
}

// fitImage is what a build makes for U-Boot.
func fitImage(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	source, out := filepath.Join(dir, "a.its"), filepath.Join(dir, "a.itb")
	its := `/dts-v1/;
/ {
	description = "x"; #address-cells = <1>;
	images { kernel { description = "k"; data = "kernel"; type = "kernel"; arch = "arm"; os = "linux"; compression = "none"; load = <0>; entry = <0>; hash-1 { algo = "sha256"; }; }; };
	configurations { default = "c"; c { kernel = "kernel"; signature-1 { algo = "sha256,rsa2048"; key-name-hint = "prod"; sign-images = "kernel"; }; }; };
};
`
	if err := os.WriteFile(source, []byte(its), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := signtest.Run("mkimage", "-f", source, out); err != nil {
		t.Fatal(err)
	}
	return read(t, out)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// module is the least that is taken for a kernel module.
func module() []byte {
	elf := make([]byte, 5000)
	copy(elf, "\x7fELF\x02\x01")
	elf[16], elf[40], elf[58], elf[60] = 1, 64, 64, 1
	return elf
}

// Each format signs by its name and parameters as texts, and its verifier and
// the programs that are named with it take what was signed, and nothing else.
func TestFormats(t *testing.T) {
	for _, c := range []struct {
		format, kind string
		set          map[string]string
		file         []byte
		program      string // that the tests have
	}{
		{"mcuboot", "p256", map[string]string{"pad-header": "true"}, signtest.Random(5000), ""},
		{"fit", "rsa2048", map[string]string{"key-name": "prod"}, fitImage(t), ""},
		{"authenticode", "rsa2048", nil, read(t, "../authenticode/testdata/app.efi"), "osslsigncode"},
		{"authenticode", "p384", map[string]string{"append": "true"}, read(t, "../authenticode/testdata/app.efi"), ""},
		{"kmod", "p256", nil, module(), ""},
		{"esp32", "rsa3072", nil, read(t, "../esp32/testdata/payload.bin"), ""},
		{"cms", "p384", nil, signtest.Random(5000), "openssl"},
		{"raw", "rsa2048", map[string]string{"pss": "true"}, signtest.Random(5000), ""},
	} {
		t.Run(c.format+" "+c.kind, func(t *testing.T) {
			f, err := ByName(c.format)
			if err != nil {
				t.Fatal(err)
			}
			parameters, err := f.Complete(c.set, Of{Version: "1.2.0", Counter: 3, Now: signtest.Now})
			if err != nil {
				t.Fatal(err)
			}
			s := newSigner(t, c.kind)
			made, err := f.Sign(parameters, []Signer{s.Signer})
			if err != nil {
				t.Fatal(err)
			}
			signed := signtest.Sign(t, made, c.file, s.Key)
			if err := f.Check(parameters, s.output(c.file, signed)); err != nil {
				t.Error(err)
			}
			changed := bytes.Clone(signed)
			changed[len(changed)/2] ^= 8
			if f.Check(parameters, s.output(c.file, changed)) == nil {
				t.Error("a changed bit goes unnoticed")
			}
			if f.Check(parameters, newSigner(t, c.kind).output(c.file, signed)) == nil {
				t.Error("another key is as good")
			}
			files := Files{Source: signtest.File(t, "source", c.file), Root: signtest.CertificateFile(t, s.Root), PublicKey: signtest.PublicFile(t, s.Public)}
			asked := ask(t, f.Checkers(parameters), files, signed, changed)
			if !strings.Contains(asked, c.program) {
				t.Errorf("%s was not asked, only %q", c.program, asked)
			}
		})
	}
}

// ask has the programs that are there check what was signed, and the same with
// a change, and returns their names.
func ask(t *testing.T, programs []Program, files Files, signed, changed []byte) (asked string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p.Name); err != nil {
			continue
		}
		asked += p.Name + " "
		files.Signed = signtest.File(t, "signed", signed)
		if _, err := signtest.Run(p.Name, p.Check(files)...); err != nil {
			t.Error(err)
		}
		files.Signed = signtest.File(t, "changed", changed)
		if _, err := signtest.Run(p.Name, p.Check(files)...); err == nil {
			t.Errorf("%s takes it with a changed bit", p.Name)
		}
		if _, err := signtest.Run(p.Name, p.Version...); err != nil {
			t.Error(err)
		}
	}
	return asked
}

func TestParametersAreNamed(t *testing.T) {
	s := newSigner(t, "rsa2048")
	for name, c := range map[string]struct {
		format, want string
		set          map[string]string
		signers      []Signer
	}{
		"an unknown format":        {"uf2", "there are mcuboot", nil, nil},
		"an unknown parameter":     {"kmod", `no parameter "pss"`, map[string]string{"pss": "true"}, []Signer{s.Signer}},
		"a FIT key without a name": {"fit", "key-name", nil, []Signer{s.Signer}},
		"neither true nor false":   {"authenticode", "want true or false", map[string]string{"append": "maybe"}, []Signer{s.Signer}},
		"four keys for a chip":     {"esp32", "1 to 3 keys", nil, []Signer{s.Signer, s.Signer, s.Signer, s.Signer}},
	} {
		if err := signing(c.format, c.set, c.signers); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

func signing(format string, set map[string]string, signers []Signer) error {
	f, err := ByName(format)
	if err != nil {
		return err
	}
	parameters, err := f.Complete(set, Of{Version: "1.2.0", Now: signtest.Now})
	if err != nil {
		return err
	}
	_, err = f.Sign(parameters, signers)
	return err
}
