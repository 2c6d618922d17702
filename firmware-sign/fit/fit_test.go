package fit

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

// source is an .its file with two images and two configurations.
const source = `/dts-v1/;
/ {
	description = "Gateway";
	#address-cells = <1>;
	images {
		kernel {
			description = "kernel"; data = /incbin/("kernel.bin"); type = "kernel"; arch = "arm"; os = "linux"; compression = "none";
			load = <0x8000>; entry = <0x8000>;
			hash-1 { algo = "sha256"; };
			hash-2 { algo = "sha1"; };
		};
		fdt-1 {
			description = "board"; data = /incbin/("fdt.bin"); type = "flat_dt"; arch = "arm"; compression = "none";
			hash-1 { algo = "sha384"; };
		};
	};
	configurations {
		default = "conf-1";
		conf-1 { kernel = "kernel"; fdt = "fdt-1"; signature-1 { algo = "ALGO"; key-name-hint = "prod"; sign-images = "kernel", "fdt"; }; };
		conf-2 { kernel = "kernel"; signature-1 { algo = "ALGO"; key-name-hint = "prod"; sign-images = "kernel"; }; };
	};
};
`

var kernel = signtest.Random(20001)

// build makes an unsigned image, as a build does.
func build(t testing.TB, its, algo string, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string][]byte{"a.its": []byte(strings.ReplaceAll(its, "ALGO", algo)), "kernel.bin": kernel, "fdt.bin": signtest.Random(700)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "a.itb")
	if _, err := signtest.Run("mkimage", append(args, "-D", "-I dts -O dtb -p 500 -i "+dir, "-f", filepath.Join(dir, "a.its"), out)...); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func newTestKey(t testing.TB, kind string) crypto.Signer {
	if kind != "rsa4096" {
		return signtest.Key(t, kind)
	}
	key, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// mkimage signs with U-Boot's own tool.
func mkimage(t testing.TB, image []byte, key crypto.Signer) []byte {
	t.Helper()
	file, keys := signtest.File(t, "a.itb", image), t.TempDir()
	mkimageKey(t, keys, key)
	if _, err := signtest.Run("mkimage", "-F", "-k", keys, "-r", file); err != nil {
		t.Fatal(err)
	}
	signed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// mkimageKey writes a key where mkimage looks for it.
func mkimageKey(t testing.TB, keys string, key crypto.Signer) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if k, ok := key.(*ecdsa.PrivateKey); ok {
		der, err = x509.MarshalECPrivateKey(k)
		text = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	}
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signtest.Certificate(t, "prod", key, nil, nil).Raw})
	for name, data := range map[string][]byte{"prod.key": text, "prod.pem": text, "prod.crt": cert} {
		if err := os.WriteFile(filepath.Join(keys, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// value is what a signature's node has, as dtc's tool reads it.
func value(t testing.TB, image []byte, path, name string) string {
	t.Helper()
	out, err := signtest.Run("fdtget", "-t", "bx", signtest.File(t, "a.itb", image), path, name)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const firstSignature = "/configurations/conf-1/signature-1"

// An RSA signature (PKCS #1 v1.5) is the same as mkimage's, over the same
// names of nodes, and each verifier takes the other's image.
func TestSignaturesAreMkimages(t *testing.T) {
	for kind, algo := range map[string]string{"rsa2048": "sha256,rsa2048", "rsa3072": "sha256,rsa3072", "rsa4096": "sha256,rsa4096", "p256": "sha256,ecdsa256"} {
		for _, external := range [][]string{nil, {"-E"}, {"-E", "-B", "0x200"}} {
			t.Run(fmt.Sprint(kind, external), func(t *testing.T) {
				key := newTestKey(t, kind)
				unsigned := build(t, source, algo, external...)
				ours := signtest.Sign(t, Image{key.Public(), "prod"}, unsigned, key)
				theirs := mkimage(t, unsigned, key)
				names := []string{"hashed-nodes", "hashed-strings", "algo"}
				if kind != "p256" {
					names = append(names, "value")
				}
				for _, name := range names {
					if got, want := value(t, ours, firstSignature, name), value(t, theirs, firstSignature, name); got != want {
						t.Errorf("%s is\n%s, mkimage's\n%s", name, got, want)
					}
				}
				for who, image := range map[string][]byte{"ours": ours, "mkimage's": theirs} {
					if err := Verify(signtest.Reader(image), key.Public(), "prod"); err != nil {
						t.Errorf("%s: %v", who, err)
					}
				}
				readable(t, ours)
			})
		}
	}
}

// readable has U-Boot's tool list an image, check its hashes and take the
// kernel out.
func readable(t *testing.T, image []byte) {
	t.Helper()
	file, out := signtest.File(t, "a.itb", image), filepath.Join(t.TempDir(), "kernel")
	list, err := signtest.Run("dumpimage", "-l", file)
	if err != nil || strings.Count(list, "Sign algo:    sha256,") != 2 || strings.Contains(list, "Sign value:   unavailable") {
		t.Errorf("dumpimage -l: %v\n%s", err, list)
	}
	if _, err := signtest.Run("dumpimage", "-T", "flat_dt", "-p", "0", "-o", out, file); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, kernel) {
		t.Errorf("the kernel was not found: %d bytes, %v", len(got), err)
	}
}

// PSS is asked for by the source.
func TestPSS(t *testing.T) {
	key := signtest.Key(t, "rsa3072")
	unsigned := build(t, strings.ReplaceAll(source, `algo = "ALGO";`, `algo = "ALGO"; padding = "pss";`), "sha256,rsa3072")
	for who, image := range map[string][]byte{"ours": signtest.Sign(t, Image{key.Public(), "prod"}, unsigned, key), "mkimage's": mkimage(t, unsigned, key)} {
		if err := Verify(signtest.Reader(image), key.Public(), "prod"); err != nil {
			t.Errorf("%s: %v", who, err)
		}
	}
}

// While keys change, two sign, one after the other.
func TestTwoKeys(t *testing.T) {
	two := strings.ReplaceAll(source, `sign-images = "kernel", "fdt"; }`, `sign-images = "kernel", "fdt"; }; signature-2 { algo = "sha256,ecdsa256"; key-name-hint = "next"; sign-images = "kernel", "fdt"; }`)
	two = strings.ReplaceAll(two, `sign-images = "kernel"; }`, `sign-images = "kernel"; }; signature-2 { algo = "sha256,ecdsa256"; key-name-hint = "next"; sign-images = "kernel"; }`)
	prod, next := signtest.Key(t, "rsa2048"), signtest.Key(t, "p256")
	image := signtest.Sign(t, Image{prod.Public(), "prod"}, build(t, two, "sha256,rsa2048"), prod)
	image = signtest.Sign(t, Image{next.Public(), "next"}, image, next)
	for name, key := range map[string]crypto.Signer{"prod": prod, "next": next} {
		if err := Verify(signtest.Reader(image), key.Public(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if Verify(signtest.Reader(image), next.Public(), "prod") == nil {
		t.Error("one key stands for the other")
	}
}

// No byte can be changed but those that nobody reads.
func TestChanged(t *testing.T) {
	key := signtest.Key(t, "p256")
	for _, external := range [][]string{nil, {"-E"}} {
		image := signtest.Sign(t, Image{key.Public(), "prod"}, build(t, source, "sha256,ecdsa256", external...), key)
		free := unread(t, image)
		for i := 0; i < len(image); i += 13 {
			changed := slices.Clone(image)
			changed[i] ^= 1 << (i % 8)
			if Verify(signtest.Reader(changed), key.Public(), "prod") == nil && !slices.ContainsFunc(free, func(s span) bool { return int64(i) >= s.at && int64(i) < s.end }) {
				t.Fatalf("%q: it passes with byte %d of %d changed, %s", external, i, len(image), where(t, image, int64(i)))
			}
		}
		for _, n := range []int{0, 1, 39, 40, 200, len(image) / 2, len(image) - 1} {
			if Verify(signtest.Reader(image[:n]), key.Public(), "prod") == nil {
				t.Errorf("%q: it passes cut off at byte %d of %d", external, n, len(image))
			}
		}
		if Verify(signtest.Reader(image), signtest.Key(t, "p256").Public(), "prod") == nil || Verify(signtest.Reader(image), signtest.Key(t, "rsa2048").Public(), "prod") == nil {
			t.Error("it passes with another key")
		}
	}
}

// unread are the parts that nothing rests on: the header, which says where
// things are, who signed by name, weak hashes' values are signed, names that
// only signatures use, and fillings.
func unread(t *testing.T, image []byte) (free []span) {
	t.Helper()
	tree, err := parse(signtest.Reader(image))
	if err != nil {
		t.Fatal(err)
	}
	free = []span{{0, int64(tree.structure)}, {int64(tree.header.names), int64(tree.total)}}
	for _, p := range tree.at("/configurations").props { // which one is the default
		free = append(free, p.token)
	}
	if tree.fileSize > tree.external() {
		free[1].end = tree.external()
	}
	for _, c := range tree.at("/configurations").children {
		for _, p := range c.child("signature-1").props {
			if p.name == "signer-name" || p.name == "hashed-strings" {
				free = append(free, p.token)
			}
			if p.name == "value" || p.name == "hashed-nodes" || p.name == "sign-images" || p.name == "algo" || p.name == "key-name-hint" {
				free = append(free, span{p.data.end, p.token.end}) // filling
			}
		}
	}
	for _, i := range tree.at("/images").children { // data is excluded from the signature with its filling
		for _, p := range i.props {
			if p.name == "data" {
				free = append(free, span{p.data.end, p.token.end})
			}
		}
	}
	return append(free, externalFillings(tree)...)
}

// where says what is at a place.
func where(t *testing.T, image []byte, at int64) (what string) {
	tree, err := parse(signtest.Reader(image))
	if err != nil {
		t.Fatal(err)
	}
	var walk func(n *node)
	walk = func(n *node) {
		for _, p := range n.props {
			if at >= p.token.at && at < p.token.end {
				what = n.path + " " + p.name
			}
		}
		for _, c := range n.children {
			walk(c)
		}
	}
	walk(tree.root)
	return what
}

// externalFillings are between images behind the tree.
func externalFillings(t *tree) (free []span) {
	at := t.external()
	for _, i := range t.at("/images").children {
		if s, err := t.data(i); err == nil && s.at >= at {
			free = append(free, span{at, s.at})
			at = s.end
		}
	}
	return append(free, span{at, t.fileSize})
}

func TestNotToBeSigned(t *testing.T) {
	key, rsa := signtest.Key(t, "p256"), signtest.Key(t, "rsa2048")
	good := build(t, source, "sha256,ecdsa256")
	edit := func(old, new string) []byte { return build(t, strings.Replace(source, old, new, 1), "sha256,ecdsa256") }
	changed := bytes.Replace(good, kernel[:100], make([]byte, 100), 1)
	for _, c := range []struct {
		file []byte
		key  crypto.PublicKey
		name string
		want string
	}{
		{nil, key.Public(), "prod", "has a header of 40"},
		{append([]byte("\x7fELF"), make([]byte, 100)...), key.Public(), "prod", "mkimage -f makes one"},
		{good[:len(good)-1], key.Public(), "prod", "cut off"},
		{append(slices.Clone(good), 1, 2, 3, 4, 5), key.Public(), "prod", "bytes follow what belongs"},
		{signtest.Sign(t, Image{key.Public(), "prod"}, good, key), key.Public(), "prod", "signed already"},
		{good, rsa.Public(), "prod", `wants a signature with "sha256,ecdsa256", but the key makes "sha256,rsa2048"`},
		{good, signtest.Key(t, "p384").Public(), "prod", "U-Boot checks RSA"},
		{good, key.Public(), "dev", `key-name-hint "dev" (there are ["prod" "prod"])`},
		{changed, key.Public(), "prod", "changed after mkimage made it"},
		{edit(`sign-images = "kernel", "fdt";`, `sign-images = "kernel";`), key.Public(), "prod", "somebody can exchange that image"},
		{edit(`hash-1 { algo = "sha256"; };`, ``), key.Public(), "prod", "no hash node with sha256"},
		{edit(`sign-images = "kernel", "fdt";`, ``), key.Public(), "prod", "somebody can exchange"},
		{edit(`algo = "sha384"`, `algo = "crc32"`), key.Public(), "prod", `the algorithm "crc32"`},
	} {
		if _, err := (Image{c.key, c.name}).Prepare(signtest.Reader(c.file), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// The bootloader's device tree gets the same key from us as from mkimage.
func TestKeyNode(t *testing.T) {
	one := source[:strings.Index(source, "\t\tconf-2")] + "\t};\n};\n" // mkimage 2023.01 cannot add an ECDSA key twice
	for kind, algo := range map[string]string{"rsa2048": "sha256,rsa2048", "p256": "sha256,ecdsa256"} {
		key := newTestKey(t, kind)
		text, err := KeyNode(key.Public(), "prod")
		if err != nil {
			t.Fatal(err)
		}
		ours := compile(t, "/dts-v1/;\n"+text)
		theirs := compile(t, "/dts-v1/; / { signature {}; };")
		keys := t.TempDir()
		mkimageKey(t, keys, key)
		if _, err := signtest.Run("mkimage", "-F", "-k", keys, "-K", theirs, "-r", signtest.File(t, "a.itb", build(t, one, algo))); err != nil {
			t.Fatal(err)
		}
		node, err := signtest.Run("fdtget", "-l", theirs, "/signature") // key-prod, but prod for ECDSA
		if err != nil {
			t.Fatal(err)
		}
		node = "/signature/" + strings.TrimSpace(node)
		list, err := signtest.Run("fdtget", "-p", theirs, node)
		if err != nil {
			t.Fatal(err)
		}
		for name := range strings.FieldsSeq(list) {
			got, err := signtest.Run("fdtget", "-t", "bx", ours, "/signature/key-prod", name)
			if err != nil {
				t.Error(err)
			}
			if want, _ := signtest.Run("fdtget", "-t", "bx", theirs, node, name); got != want {
				t.Errorf("%s, %s: %s, mkimage's is %s", kind, name, got, want)
			}
		}
	}
	if _, err := KeyNode(signtest.Key(t, "p256").Public(), `a"b`); err == nil {
		t.Error("a name that breaks the source was taken")
	}
}

func compile(t *testing.T, text string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "a.dtb")
	if _, err := signtest.Run("dtc", "-p", "4096", "-o", out, signtest.File(t, "a.dts", []byte(text))); err != nil {
		t.Fatal(err)
	}
	return out
}

// A large image costs no memory.
func TestMemory(t *testing.T) {
	key := signtest.Key(t, "p256")
	old := kernel
	kernel = make([]byte, 40<<20)
	unsigned := build(t, source, "sha256,ecdsa256")
	kernel = old
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	draft, err := Image{key.Public(), "prod"}.Prepare(signtest.Reader(unsigned), out)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := draft.ToSign()[0].Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := draft.Finish(out, [][]byte{sig, sig}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("%d bytes were allocated for an image of %d", n, len(unsigned))
	}
}

func FuzzVerify(f *testing.F) {
	image, err := os.ReadFile("testdata/mkimage.itb")
	if err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile("testdata/dev.pem")
	if err != nil {
		f.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		f.Fatal(err)
	}
	if err := Verify(signtest.Reader(image), key, "dev"); err != nil {
		f.Fatal(err)
	}
	original, err := parse(signtest.Reader(image))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(image)
	f.Fuzz(func(t *testing.T, file []byte) {
		tree, err := parse(signtest.Reader(file))
		if Verify(signtest.Reader(file), key, "dev") != nil {
			return
		}
		if err != nil {
			return // the signer is stricter
		}
		for _, name := range []string{"/images/kernel", "/images/fdt-1"} {
			got, _ := tree.data(tree.at(name))
			want, _ := original.data(original.at(name))
			if got.end > int64(len(file)) || !bytes.Equal(file[got.at:got.end], image[want.at:want.end]) {
				t.Errorf("%s is not what was signed", name)
			}
		}
	})
}
