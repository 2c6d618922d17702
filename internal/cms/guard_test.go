package cms

import (
	"bytes"
	"crypto/elliptic"
	"encoding/asn1"
	"strings"
	"testing"
)

// nested fills about size bytes with constructed elements one inside the
// other, of definite lengths.
func nested(size int) []byte {
	const header = 6
	var b []byte
	for rest := size/header*header - header; rest >= 0; rest -= header {
		b = append(b, 0x30, 0x84, byte(rest>>24), byte(rest>>16), byte(rest>>8), byte(rest))
	}
	return b
}

func TestNestingBombsAreRefused(t *testing.T) {
	for name, bomb := range map[string][]byte{
		"64 KB definite":           nested(64 << 10),
		"4 MB definite":            nested(4 << 20),
		"64 KB indefinite":         bytes.Repeat([]byte{0x30, 0x80}, 32<<10),
		"4 MB indefinite":          bytes.Repeat([]byte{0x30, 0x80}, 2<<20),
		"4 MB indefinite and ends": append(bytes.Repeat([]byte{0x30, 0x80}, 1<<20), make([]byte, 2<<20)...),
		"4 MB of context tags":     bytes.Repeat([]byte{0xa0, 0x80}, 2<<20),
	} {
		if _, err := Parse(bomb, 8<<20); err == nil || !strings.Contains(err.Error(), "nested") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := VerifyDetached(bomb, nil, nil, now); err == nil {
			t.Errorf("%s verified", name)
		}
	}
}

func TestBreadthBombsAreRefused(t *testing.T) {
	// Many children of indefinite-length parents make the library search the
	// rest of the input once for each.
	wide := append([]byte{0x30, 0x80}, bytes.Repeat([]byte{0x02, 0x01, 0x01}, 1<<20)...)
	if _, err := Parse(append(wide, 0, 0), 8<<20); err == nil || !strings.Contains(err.Error(), "elements") {
		t.Errorf("wide: %v", err)
	}
	if _, err := Parse(make([]byte, 101), 100); err == nil || !strings.Contains(err.Error(), "at most 100") {
		t.Errorf("long: %v", err)
	}
}

func TestDefinite(t *testing.T) {
	deep := func(n int) []byte {
		b := []byte{0x05, 0x00}
		for range n {
			b = append(appendHeader(nil, 0x30, len(b)), b...)
		}
		return b
	}
	for name, tt := range map[string]struct{ in, want []byte }{
		"DER":                     {[]byte{0x30, 0x03, 0x02, 0x01, 0x05}, []byte{0x30, 0x03, 0x02, 0x01, 0x05}},
		"indefinite":              {[]byte{0x30, 0x80, 0x02, 0x01, 0x05, 0, 0}, []byte{0x30, 0x03, 0x02, 0x01, 0x05}},
		"empty indefinite":        {[]byte{0x30, 0x80, 0, 0}, []byte{0x30, 0}},
		"indefinite inside":       {[]byte{0x30, 0x06, 0xa0, 0x80, 0x05, 0x00, 0, 0}, []byte{0x30, 0x04, 0xa0, 0x02, 0x05, 0x00}},
		"long form of short":      {[]byte{0x04, 0x83, 0, 0, 1, 7}, []byte{0x04, 1, 7}},
		"zeros as content":        {[]byte{0x30, 0x80, 0x04, 0x02, 0, 0, 0, 0}, []byte{0x30, 0x04, 0x04, 0x02, 0, 0}},
		"as deep as allowed":      {deep(MaxDepth - 1), deep(MaxDepth - 1)},
		"too deep":                {deep(MaxDepth), nil},
		"empty":                   {nil, nil},
		"one byte":                {[]byte{0x30}, nil},
		"truncated":               {[]byte{0x30, 0x05, 0x02, 0x01, 0x05}, nil},
		"child beyond its parent": {[]byte{0x30, 0x02, 0x04, 0x05, 1, 2, 3, 4, 5}, nil},
		"end beyond its parent":   {[]byte{0x30, 0x02, 0x30, 0x80, 0, 0}, nil},
		"something after":         {[]byte{0x05, 0x00, 0x00}, nil},
		"indefinite primitive":    {[]byte{0x04, 0x80, 0, 0}, nil},
		"stray end":               {[]byte{0x30, 0x02, 0x00, 0x00}, nil},
		"high tag":                {[]byte{0x1f, 0x81, 0x01, 0x00}, nil},
		"huge length":             {[]byte{0x04, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, nil},
		"endless length":          {[]byte{0x04, 0xff, 1, 2}, nil},
	} {
		got, err := Definite(tt.in)
		switch {
		case tt.want == nil && err == nil:
			t.Errorf("%s: accepted as %x", name, got)
		case tt.want != nil && !bytes.Equal(got, tt.want):
			t.Errorf("%s: %x, %v; want %x", name, got, err, tt.want)
		}
	}
}

// FuzzDefinite: what comes out is definite, one whole element that
// encoding/asn1 reads to the end, unchanged by a second pass, and no longer
// than what went in.
func FuzzDefinite(f *testing.F) {
	f.Add([]byte{0x30, 0x80, 0x02, 0x01, 0x05, 0, 0})
	f.Add([]byte{0x30, 0x06, 0xa0, 0x80, 0x05, 0x00, 0, 0})
	f.Add(nested(200))
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := Definite(in)
		if err != nil {
			if out != nil {
				t.Fatal("bytes beside an error")
			}
			return
		}
		if len(out) > len(in) {
			t.Fatalf("%d bytes grew to %d", len(in), len(out))
		}
		again, err := Definite(out)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("a second pass changed %x to %x (%v)", out, again, err)
		}
		var raw asn1.RawValue
		rest, err := asn1.Unmarshal(out, &raw)
		if err != nil || len(rest) > 0 || !bytes.Equal(raw.FullBytes, out) {
			t.Fatalf("encoding/asn1 reads %x otherwise: %v, %d bytes left", out, err, len(rest))
		}
	})
}

// FuzzVerifyDetached mutates a good signature: whatever still verifies was
// made by the one person who signed, over the content that was signed.
func FuzzVerifyDetached(f *testing.F) {
	root := makePerson(f, "ca", ecKey(f, elliptic.P256()), nil, ca)
	anna := makePerson(f, "anna", ecKey(f, elliptic.P256()), root, nil)
	content := []byte("content\n")
	sig, err := SignDetached(bytes.NewReader(content), anna.cert, anna.key, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sig)
	f.Add(anna.opensslSign(f, content, "-outform", "DER", "-nodetach", "-stream"))
	f.Add(anna.opensslSign(f, content, "-outform", "PEM"))
	roots := pool(root)
	f.Fuzz(func(t *testing.T, in []byte) {
		signers, err := VerifyDetached(in, digestOf(content), roots, now)
		if err == nil {
			if len(signers) == 0 {
				t.Fatal("verified without a signer")
			}
			for _, s := range signers {
				if !s.Certificate.Equal(anna.cert) {
					t.Fatalf("verified as %s", s.Certificate.Subject)
				}
			}
		}
		if _, err := VerifyDetached(in, digestOf([]byte("other")), roots, now); err == nil {
			t.Fatal("verified over other content")
		}
	})
}
