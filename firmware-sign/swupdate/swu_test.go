package swupdate

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

// archive is an SWU file as a build makes it.
func archive(images map[string][]byte) []byte {
	var entries []string
	for name, data := range images {
		entries = append(entries, fmt.Sprintf("{ filename = %q; device = \"/dev/null\"; type = \"raw\"; sha256 = \"%x\"; }", name, sha256.Sum256(data)))
	}
	out := appendMember(nil, description, []byte("software =\n{\n version = \"1.0.1\";\n hardware-compatibility: [ \"1.0\" ];\n images: ( "+strings.Join(entries, ", ")+" );\n}\n"))
	for name, data := range images {
		out = appendMember(out, name, data)
	}
	out = appendMember(out, cpioTrailer, nil)
	return append(out, make([]byte, (512-len(out)%512)%512)...)
}

// release signs, and asks the device's program.
type release struct{ *signtest.Release }

func newRelease(t *testing.T, kind string) release { return release{signtest.NewRelease(t, kind)} }

func (r release) sign(t *testing.T, swu []byte, pss bool) []byte {
	t.Helper()
	return signtest.Sign(t, File{Certificate: r.Certificate, At: signtest.Now, PSS: pss}, swu, r.Key)
}

// swupdate is what SWUpdate says of a file that it is not to install.
func (r release) swupdate(t *testing.T, swu []byte) error {
	t.Helper()
	out, err := signtest.Run("swupdate", "--check", "-H", "test:1.0", "--cert-purpose", "codeSigning", "-k", signtest.CertificateFile(t, r.Root), "-i", signtest.File(t, "x.swu", swu))
	if err == nil && !strings.Contains(out, "SWUPDATE successful") {
		err = fmt.Errorf("swupdate says: %s", out)
	}
	return err
}

func TestFilesAreGoodForSWUpdate(t *testing.T) {
	swu := archive(map[string][]byte{"rootfs.img": signtest.Random(700_001), "kernel": signtest.Random(1000)})
	for _, c := range []struct {
		kind string
		pss  bool
	}{{"p256", false}, {"p384", false}, {"rsa2048", false}, {"rsa2048", true}} {
		t.Run(fmt.Sprintf("%s %v", c.kind, c.pss), func(t *testing.T) {
			r := newRelease(t, c.kind)
			signed := r.sign(t, swu, c.pss)
			if err := r.swupdate(t, signed); err != nil {
				t.Error(err)
			}
			if signers, err := Verify(signtest.Reader(signed), r.Roots, signtest.Now); err != nil || !signers[0].Certificate.Equal(r.Certificate) {
				t.Error(signers, err)
			}
		})
	}
}

func TestChangedFilesAreRefused(t *testing.T) {
	r := newRelease(t, "p256")
	swu := archive(map[string][]byte{"rootfs.img": signtest.Random(50_000)})
	signed := r.sign(t, swu, false)
	all, err := members(signtest.Reader(signed))
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int64) []byte {
		b := bytes.Clone(signed)
		b[at] ^= 1
		return b
	}
	more := appendMember(bytes.Clone(signed[:all[2].next()]), "more", []byte("more"))
	for name, bad := range map[string][]byte{
		"the description": flip(all[0].data + 30),
		"the signature":   flip(all[1].data + all[1].size - 3),
		"an image":        flip(all[2].data + 25_000),
		"its signature":   swu,
	} {
		if r.swupdate(t, bad) == nil {
			t.Errorf("%s was changed or is missing, and SWUpdate takes it", name)
		}
		if _, err := Verify(signtest.Reader(bad), r.Roots, signtest.Now); err == nil {
			t.Errorf("%s was changed or is missing, and it verifies", name)
		}
	}
	for name, bad := range map[string][]byte{
		"an image that nobody described": appendMember(more, cpioTrailer, nil), "half": signed[:len(signed)/2], "no trailer": signed[:all[2].next()], "nothing": nil,
	} {
		if _, err := Verify(signtest.Reader(bad), r.Roots, signtest.Now); err == nil {
			t.Errorf("%s verifies", name)
		}
	}
	stranger := newRelease(t, "p256")
	if stranger.swupdate(t, signed) == nil {
		t.Error("SWUpdate takes a stranger's signature")
	}
	if _, err := Verify(signtest.Reader(signed), stranger.Roots, signtest.Now); err == nil {
		t.Error("a stranger's signature verifies")
	}
}

func TestWhatIsNotSigned(t *testing.T) {
	r := newRelease(t, "p256")
	image := map[string][]byte{"a.img": signtest.Random(100)}
	good := archive(image)
	text := appendMember(nil, description, []byte("software = { }"))
	for name, c := range map[string]struct {
		swu  []byte
		want string
	}{
		"signed already":    {r.sign(t, good, false), "signed already"},
		"without a digest":  {appendMember(appendMember(bytes.Clone(text), "a.img", image["a.img"]), cpioTrailer, nil), "would not check it"},
		"an image twice":    {appendMember(appendMember(bytes.Clone(good[:len(good)-512]), "a.img", image["a.img"]), cpioTrailer, nil), ""},
		"no description":    {appendMember(appendMember(nil, "a.img", nil), cpioTrailer, nil), "the first member is not"},
		"empty description": {appendMember(appendMember(nil, description, nil), cpioTrailer, nil), "0 bytes long"},
		"cut off":           {good[:len(good)-600], "cut off"},
		"another file":      {bytes.Repeat([]byte("\x7fELF"), 50), "no SWU file"},
		"nothing":           {nil, "no SWU file"},
	} {
		if _, err := (File{Certificate: r.Certificate, At: signtest.Now}).Prepare(signtest.Reader(c.swu), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

func FuzzMembers(f *testing.F) {
	f.Add(archive(map[string][]byte{"a": []byte("b")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := members(signtest.Reader(b))
		if err != nil {
			return
		}
		end := int64(0)
		for _, m := range all {
			if m.data < end+cpioHeader || m.next() > int64(len(b)) || m.name == "" {
				t.Fatalf("%d bytes have a member %+v after byte %d", len(b), m, end)
			}
			if _, err := io.ReadAll(m.reader(signtest.Reader(b))); err != nil {
				t.Fatal(err)
			}
			end = m.next()
		}
	})
}
