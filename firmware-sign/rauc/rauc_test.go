package rauc

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

// build makes a bundle as a build does, with RAUC and a key of the build's.
func build(t *testing.T, format string, image []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	content := filepath.Join(dir, "content")
	if err := os.Mkdir(content, 0o700); err != nil {
		t.Fatal(err)
	}
	manifest := "[update]\ncompatible=gateway\nversion=2.1\n[bundle]\nformat=" + format + "\n[image.rootfs]\nfilename=rootfs.img\n"
	for name, data := range map[string][]byte{"manifest.raucm": []byte(manifest), "rootfs.img": image} {
		if err := os.WriteFile(filepath.Join(content, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := signtest.Key(t, "p256")
	cert := signtest.CertificateFile(t, signtest.Certificate(t, "build", key, nil, nil))
	bundle := filepath.Join(dir, "bundle.raucb")
	if _, err := signtest.Run("rauc", "--cert", cert, "--key", signtest.PrivateFile(t, key), "bundle", content, bundle); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// release signs, and asks the device's program.
type release struct{ *signtest.Release }

func newRelease(t *testing.T, kind string) release { return release{signtest.NewRelease(t, kind)} }

func (r release) sign(t *testing.T, bundle []byte, pss bool) []byte {
	t.Helper()
	return signtest.Sign(t, Bundle{Certificate: r.Certificate, At: signtest.Now, PSS: pss}, bundle, r.Key)
}

// rauc is what RAUC says of a bundle: of its signature, and of all of it.
func (r release) rauc(t *testing.T, bundle []byte) (info string, err error) {
	t.Helper()
	file := signtest.File(t, "b.raucb", bundle)
	conf := r.conf(t, "")
	info, err = signtest.Run("rauc", conf, "info", file)
	if err != nil {
		return info, err
	}
	return signtest.Run("rauc", conf, "extract", file, filepath.Join(t.TempDir(), "out"))
}

// conf is a device's configuration. It takes certificates for code only if it
// is told so.
func (r release) conf(t *testing.T, more string) string {
	t.Helper()
	return "--conf=" + signtest.File(t, "system.conf", []byte("[system]\ncompatible=gateway\nbootloader=noop\n[keyring]\npath="+
		signtest.CertificateFile(t, r.Root)+"\ncheck-purpose=codesign\n"+more))
}

func TestBundlesAreGoodForRAUC(t *testing.T) {
	for _, c := range []struct {
		name, kind, format string
		pss                bool
		size               int
	}{
		{"verity P-256", "p256", "verity", false, 3_000_000}, // two levels of hashes
		{"verity P-384", "p384", "verity", false, 100_000},
		{"verity RSA-3072", "rsa3072", "verity", false, 9000},
		{"verity RSA-PSS", "rsa2048", "verity", true, 520_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRelease(t, c.kind)
			built := build(t, c.format, signtest.Random(c.size))
			if _, _, err := Verify(signtest.Reader(built), r.Roots, signtest.Now); err == nil {
				t.Fatal("the build's own signature counts")
			}
			signed := r.sign(t, built, c.pss)
			if out, err := r.rauc(t, signed); err != nil {
				t.Fatal(out, err)
			}
			info, by, err := Verify(signtest.Reader(signed), r.Roots, signtest.Now)
			if err != nil {
				t.Fatal(err)
			}
			if info.Compatible != "gateway" || info.Version != "2.1" || info.Format != c.format || !by.Certificate.Equal(r.Certificate) {
				t.Errorf("%+v by %s", info, by.Certificate.Subject)
			}
		})
	}
}

// A bundle of the format crypt is signed, and then encrypted by RAUC for
// devices, which open it.
func TestEncryptedBundlesAreGoodForRAUC(t *testing.T) {
	r := newRelease(t, "p256")
	signed := r.sign(t, build(t, "crypt", signtest.Random(300_000)), false)
	if info, _, err := Verify(signtest.Reader(signed), r.Roots, signtest.Now); err != nil || info.Format != "crypt" {
		t.Fatal(info, err)
	}
	device := signtest.Key(t, "rsa2048")
	cert := signtest.CertificateFile(t, signtest.Certificate(t, "device", device, nil, nil))
	conf := r.conf(t, "[encryption]\nkey="+signtest.PrivateFile(t, device)+"\ncert="+cert+"\n")
	encrypted := filepath.Join(t.TempDir(), "encrypted.raucb")
	if _, err := signtest.Run("rauc", conf, "encrypt", "--to", cert, signtest.File(t, "b.raucb", signed), encrypted); err != nil {
		t.Fatal(err)
	}
	if _, err := signtest.Run("rauc", conf, "info", encrypted); err != nil {
		t.Error(err)
	}
	if _, err := signtest.Run("rauc", conf, "extract", encrypted, filepath.Join(t.TempDir(), "out")); err != nil {
		t.Error(err)
	}
	data, err := os.ReadFile(encrypted)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Bundle{Certificate: r.Certificate, At: signtest.Now}).Prepare(signtest.Reader(data), nil); err == nil {
		t.Error("a bundle that is encrypted already is to be signed")
	}
}

func TestChangedBundlesAreRefused(t *testing.T) {
	r := newRelease(t, "p256")
	signed := r.sign(t, build(t, "verity", signtest.Random(1_000_000)), false)
	e, err := readEnd(signtest.Reader(signed))
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int64) []byte {
		b := bytes.Clone(signed)
		b[at] ^= 4
		return b
	}
	tree, message := e.payload, e.payload+e.verity.size
	for name, bad := range map[string][]byte{
		"a bit of the data":      flip(tree / 2),
		"the last of the data":   flip(tree - 1),
		"the tree's top":         flip(tree + 5),
		"the tree's lower level": flip(tree + 4096 + 700),
		"the tree's padding":     flip(tree + 4090),
		"the signature":          flip(int64(len(signed)) - 12),
		"the manifest":           flip(message + int64(bytes.Index(signed[message:], []byte("gateway")))),
		"the length":             flip(int64(len(signed)) - 1),
		"its end":                signed[:len(signed)-1],
		"more at its end":        append(bytes.Clone(signed), 0),
		"half of it":             signed[:len(signed)/2],
	} {
		if _, _, err := Verify(signtest.Reader(bad), r.Roots, signtest.Now); err == nil {
			t.Errorf("%s was changed, and it verifies", name)
		}
	}
	for name, bad := range map[string][]byte{"a bit of the data": flip(tree / 2), "the signature": flip(int64(len(signed)) - 12)} {
		if out, err := r.rauc(t, bad); err == nil {
			t.Errorf("%s was changed, and RAUC takes it: %s", name, out)
		}
	}
	stranger := newRelease(t, "p256")
	if _, err := stranger.rauc(t, signed); err == nil {
		t.Error("RAUC takes a stranger's signature")
	}
	if _, _, err := Verify(signtest.Reader(signed), stranger.Roots, signtest.Now); err == nil {
		t.Error("a stranger's signature verifies")
	}
	if _, _, err := Verify(signtest.Reader(signed), r.Roots, signtest.Now.AddDate(20, 0, 0)); err == nil {
		t.Error("it verifies after the certificate's end")
	}
}

func TestWhatIsNotSigned(t *testing.T) {
	r := newRelease(t, "p256")
	verity := build(t, "verity", signtest.Random(50_000))
	plain := build(t, "plain", signtest.Random(50_000))
	e, err := readEnd(signtest.Reader(verity))
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(verity)
	changed[e.payload-4000] ^= 1
	for name, c := range map[string]struct {
		bundle []byte
		want   string
	}{
		"plain":             {plain, "format plain"},
		"a squashfs alone":  {verity[:e.payload], "make it with"},
		"changed":           {changed, "changed since it was made"},
		"cut off":           {verity[:len(verity)-3], "cut off"},
		"another file":      {[]byte("\x7fELF, a program and not a bundle"), "no bundle at all"},
		"nothing":           {nil, "no RAUC bundle"},
		"one byte":          {[]byte("h"), "no RAUC bundle"},
		"a beginning alone": {[]byte("hsqs1234"), "no bundle at all"},
	} {
		f := Bundle{Certificate: r.Certificate, At: signtest.Now}
		if _, err := f.Prepare(signtest.Reader(c.bundle), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
	ed := signtest.Certificate(t, "ed", signtest.Key(t, "ed25519"), nil, nil)
	if _, err := (Bundle{Certificate: ed, At: signtest.Now}).Prepare(signtest.Reader(verity), nil); err == nil {
		t.Error("Ed25519 is to sign a bundle")
	}
}

// The tree's root is dm-verity's, at sizes where a level fills up or begins:
// against the slow way, by the definition.
func TestTree(t *testing.T) {
	salt := signtest.Random(32)
	for _, blocks := range []int{2, 127, 128, 129, 256, 128*128 + 1} {
		data := bytes.Repeat([]byte{7}, blocks*blockSize)
		tr := newTree(salt)
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 70_001)
			if _, err := tr.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		level, size := data, int64(0)
		for len(level) > blockSize {
			level = hashAll(tr, level)
			size += int64(len(level))
		}
		if got := tr.root(); !bytes.Equal(got, tr.hash(level)) || size != treeSize(int64(blocks)) {
			t.Errorf("%d blocks: root %x, want %x; %d bytes, want %d", blocks, got, tr.hash(level), treeSize(int64(blocks)), size)
		}
	}
}

func hashAll(tr *tree, level []byte) (next []byte) {
	for ; len(level) > 0; level = level[blockSize:] {
		next = append(next, tr.hash(level[:blockSize])...)
	}
	return append(next, make([]byte, (blockSize-len(next)%blockSize)%blockSize)...)
}

func TestManifests(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	good := "[update]\ncompatible=x\n[bundle]\nformat=verity\nverity-hash=" + hash + "\nverity-salt=" + hash + "\nverity-size=4096\n"
	if _, _, err := readManifest([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{"verity-hash=", "verity-hash=00"}, {"verity-salt=", "#"}, {"4096", "4095"}, {"4096", "-4096"}, {"4096", "0"},
		{"format=verity", "format=casync"}, {"format=verity", ""}, {"compatible=x", ""}, {"format=verity", "format=verity\nformat=plain"}, {"[update]", "nonsense\n[update]"},
	} {
		if _, _, err := readManifest([]byte(strings.Replace(good, change[0], change[1], 1))); err == nil {
			t.Errorf("%s instead of %s is a manifest", change[1], change[0])
		}
	}
}

func FuzzReadEnd(f *testing.F) {
	f.Add([]byte("hsqs"))
	f.Add(append([]byte("hsqs"), binary.BigEndian.AppendUint64(make([]byte, 20), 20)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := readEnd(signtest.Reader(b))
		if err == nil && (e.payload <= 0 || e.payload+e.verity.size+int64(len(e.message))+8 != int64(len(b)) || len(e.verity.root) != 32) {
			t.Fatalf("%d bytes are a bundle of %+v", len(b), e)
		}
	})
}
