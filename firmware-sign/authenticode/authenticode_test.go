package authenticode

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"io"
	"os"
	"strings"
	"testing"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

// pe makes an image with sections of the given sizes, and something after
// them. They stand in the file in the opposite order of the section table.
func pe(plus bool, after int, sizes ...int) []byte {
	magic, optional, machine := uint16(0x10b), 224, uint16(0x14c)
	if plus {
		magic, optional, machine = 0x20b, 240, 0x8664
	}
	const at, headers = 128, 1024
	b := make([]byte, headers)
	copy(b, "MZ")
	le := binary.LittleEndian
	le.PutUint32(b[60:], at)
	copy(b[at:], "PE\x00\x00")
	le.PutUint16(b[at+4:], machine)
	le.PutUint16(b[at+6:], uint16(len(sizes)))
	le.PutUint16(b[at+20:], uint16(optional))
	le.PutUint16(b[at+22:], 0x22)
	opt := b[at+24:]
	le.PutUint16(opt, magic)
	le.PutUint32(opt[16:], 4096)    // entry point
	le.PutUint32(opt[32:], 4096)    // section alignment
	le.PutUint32(opt[36:], 512)     // file alignment
	le.PutUint32(opt[56:], 1<<20)   // size of the image
	le.PutUint32(opt[60:], headers) // size of the headers
	le.PutUint16(opt[68:], 10)      // EFI application
	le.PutUint32(opt[optional-16*8-4:], 16)
	end := headers
	for _, n := range sizes {
		end += n
	}
	b = append(b, signtest.Random(end-headers+after)...)
	for i, n := range sizes {
		row := b[at+24+optional+i*40:]
		copy(row, ".sec")
		end -= n
		le.PutUint32(row[8:], uint32(n))
		le.PutUint32(row[12:], uint32((len(sizes)-i)<<16))
		le.PutUint32(row[16:], uint32(n))
		le.PutUint32(row[20:], uint32(end))
		le.PutUint32(row[36:], 0x60000020)
	}
	return b
}

// release signs, and asks the programs that others check with.
type release struct{ *signtest.Release }

func newRelease(t *testing.T, kind string) release { return release{signtest.NewRelease(t, kind)} }

func (r release) sign(t *testing.T, image []byte) []byte {
	t.Helper()
	return signtest.Sign(t, Image{Certificate: r.Certificate, At: signtest.Now, Append: true}, image, r.Key)
}

func (r release) osslsigncode(t *testing.T, image []byte) error {
	t.Helper()
	_, err := signtest.Run("osslsigncode", "verify", "-in", signtest.File(t, "image.efi", image), "-CAfile", signtest.CertificateFile(t, r.Root))
	return err
}

func (r release) sbverify(t *testing.T, image []byte) error {
	t.Helper()
	_, err := signtest.Run("sbverify", "--cert", signtest.CertificateFile(t, r.Certificate), signtest.File(t, "image.efi", image))
	return err
}

func (r release) ours(_ *testing.T, image []byte) error {
	_, err := Verify(signtest.Reader(image), r.Roots, signtest.Now)
	return err
}

func TestImagesAreGoodForOthers(t *testing.T) {
	for _, c := range []struct {
		name, kind string
		image      []byte
		sbverify   bool // it knows SHA-256 alone
	}{
		{"PE32+ RSA-2048", "rsa2048", pe(true, 0, 512, 700_416), true},
		{"PE32 RSA-3072", "rsa3072", pe(false, 0, 1024, 512, 2048), true},
		{"PE32+ P-256 with something after it", "p256", pe(true, 1001, 512, 512), true},
		{"PE32 P-384", "p384", pe(false, 3, 512), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRelease(t, c.kind)
			signed := r.sign(t, c.image)
			checkers := []func(*testing.T, []byte) error{r.ours, r.osslsigncode}
			if c.sbverify {
				checkers = append(checkers, r.sbverify)
			}
			stranger := newRelease(t, "rsa2048")
			for i, good := range checkers {
				if err := good(t, signed); err != nil {
					t.Errorf("checker %d: %v", i, err)
				}
				for name, at := range map[string]int{
					"the header": 140, "a section": 1024 + 300, "the last of the image": len(c.image) - 1, "the signature": len(signed) - 20,
				} {
					bad := bytes.Clone(signed)
					bad[at] ^= 1
					if good(t, bad) == nil {
						t.Errorf("checker %d takes it with a changed bit in %s", i, name)
					}
				}
				if good(t, c.image) == nil {
					t.Errorf("checker %d takes it without a signature", i)
				}
				if good(t, stranger.sign(t, c.image)) == nil {
					t.Errorf("checker %d takes a stranger's signature", i)
				}
			}
		})
	}
}

// Firmware with one key or another one takes an image with both signatures;
// sbsign and osslsigncode add to ours, and we to theirs.
func TestSignaturesAreAdded(t *testing.T) {
	image := pe(true, 5, 512, 4096)
	one, two, three := newRelease(t, "rsa2048"), newRelease(t, "rsa2048"), newRelease(t, "rsa2048")
	in, out := signtest.File(t, "in.efi", one.sign(t, image)), signtest.File(t, "out.efi", nil)
	if _, err := signtest.Run("sbsign", "--key", signtest.PrivateFile(t, two.Key), "--cert", signtest.CertificateFile(t, two.Certificate), "--output", out, in); err != nil {
		t.Fatal(err)
	}
	signed := three.sign(t, read(t, out))
	for i, r := range []release{one, two, three} {
		info, err := Verify(signtest.Reader(signed), r.Roots, signtest.Now)
		if err != nil || info.Signatures != 3 || len(info.By) != 1 || !info.By[0].Certificate.Equal(r.Certificate) {
			t.Errorf("signer %d: %+v, %v", i, info, err)
		}
		if err := r.sbverify(t, signed); err != nil {
			t.Error(err)
		}
	}
	if err := newRelease(t, "rsa2048").sbverify(t, signed); err == nil {
		t.Error("sbverify takes it for somebody who did not sign")
	}
	if _, err := (Image{Certificate: one.Certificate}).Prepare(signtest.Reader(signed), nil); err == nil || !strings.Contains(err.Error(), "signed already") {
		t.Errorf("signed already: %v", err)
	}
}

func TestChangedImagesAreRefused(t *testing.T) {
	r := newRelease(t, "p256")
	image := pe(true, 9, 512, 1024)
	signed := r.sign(t, image)
	for i := range signed {
		if i > 600 && i < len(image)-20 && i%97 != 0 {
			continue
		}
		bad := bytes.Clone(signed)
		bad[i] ^= 1 << (i % 8)
		if r.ours(t, bad) == nil {
			t.Errorf("byte %d of %d is changed, and it verifies", i, len(signed))
		}
	}
	for n := range len(signed) {
		if n%61 == 0 && r.ours(t, signed[:n]) == nil {
			t.Errorf("it is cut off after %d bytes, and verifies", n)
		}
	}
	if r.ours(t, append(bytes.Clone(signed), 0, 0, 0, 0, 0, 0, 0, 0)) == nil {
		t.Error("something follows it, and it verifies")
	}
	if _, err := Verify(signtest.Reader(signed), r.Roots, signtest.Now.AddDate(20, 0, 0)); err == nil {
		t.Error("it verifies after the certificate's end")
	}
}

func TestWhatIsNotSigned(t *testing.T) {
	r := newRelease(t, "p256")
	good := pe(true, 0, 512, 512)
	change := func(at int, b ...byte) []byte {
		bad := bytes.Clone(good)
		copy(bad[at:], b)
		return bad
	}
	const optional = 128 + 24
	ed := signtest.Key(t, "ed25519")
	for name, c := range map[string]struct {
		image []byte
		cert  *x509.Certificate
		want  string
	}{
		"nothing":                {nil, r.Certificate, "no PE image"},
		"ELF":                    {append([]byte("\x7fELF"), good...), r.Certificate, "no PE image"},
		"a DOS program":          {change(128, 'N', 'E'), r.Certificate, "no PE header"},
		"cut off in the headers": {good[:300], r.Certificate, "read the optional header"},
		"cut off in a section":   {good[:len(good)-1], r.Certificate, "cut off"},
		"a header far away":      {change(60, 0, 0, 0, 0x70), r.Certificate, "PE header is at byte"},
		"a gap":                  {change(optional+240+20, 0, 7), r.Certificate, "without gaps"},
		"a ROM image":            {change(optional, 0x07, 0x01), r.Certificate, "0x107"},
		"a short directory":      {change(optional+108, 4), r.Certificate, "has 4 entries"},
		"no sections":            {change(128+6, 0), r.Certificate, "0 sections"},
		"large headers":          {change(optional+60, 0, 0, 0, 1), r.Certificate, "do not fit"},
		"signatures elsewhere":   {change(optional+112+32, 0, 4, 0, 0, 8), r.Certificate, "something was added"},
		"Ed25519":                {good, signtest.Certificate(t, "x", ed, nil, nil), "use ECDSA or RSA"},
		"no certificate":         {good, nil, "certificate"},
	} {
		if _, err := (Image{Certificate: c.cert, At: signtest.Now}).Prepare(signtest.Reader(c.image), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
	huge := io.NewSectionReader(bytes.NewReader(good), 0, 1<<32)
	if _, err := (Image{Certificate: r.Certificate}).Prepare(huge, nil); err == nil || !strings.Contains(err.Error(), "less than 4 GiB") {
		t.Errorf("4 GiB: %v", err)
	}
}

// The image is read twice. What was signed is what is written.
func TestAnImageThatChangesIsNotFinished(t *testing.T) {
	r := newRelease(t, "p256")
	image := pe(true, 0, 512)
	d, err := Image{Certificate: r.Certificate, At: signtest.Now}.Prepare(signtest.Reader(image), nil)
	if err != nil {
		t.Fatal(err)
	}
	signatures, err := firmwaresign.With(r.Key)(d.ToSign())
	if err != nil {
		t.Fatal(err)
	}
	image[1100] ^= 1
	if err := d.Finish(io.Discard, signatures); err == nil {
		t.Fatal("the image was changed, and finished")
	}
}

func FuzzVerify(f *testing.F) {
	image := pe(true, 1, 16)
	f.Add(image)
	f.Add(appendSignature(image, []byte{0x30, 2, 5, 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := readLayout(signtest.Reader(b))
		im, err2 := parse(signtest.Reader(b))
		if err == nil && err2 == nil && (l.content != im.end || l.checksum != im.sumAt || l.entry != im.entryAt) {
			t.Fatalf("the image is understood in two ways: %+v, %+v", l, im)
		}
		if err == nil && (l.content+int64(len(l.table)) != int64(len(b)) || l.checksum+4 > l.entry || l.entry+8 > l.content) {
			t.Fatalf("%d bytes are taken for %+v", len(b), l)
		}
		if err == nil && err2 == nil && len(im.signatures) > 0 {
			if at, last, err := lastSignature(l.table); err != nil || at >= len(l.table) || !bytes.Equal(last, im.signatures[len(im.signatures)-1]) {
				t.Fatalf("the last signature is understood in two ways: at %d, %x, %v", at, last, err)
			}
		}
		if _, err := Verify(signtest.Reader(b), x509.NewCertPool(), signtest.Now); err == nil {
			t.Fatal("verified, but never signed")
		}
	})
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
