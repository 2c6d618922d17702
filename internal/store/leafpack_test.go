package store

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
)

// leafOf is a leaf as the writer makes them.
func leafOf(note string) audit.Leaf {
	return audit.Leaf{Time: time.Date(2026, 11, 21, 9, 38, 50, 475250000, time.UTC), Act: "device.admitted",
		By: "key:" + strings.Repeat("0fa3", 16), Note: note,
		Objects: []audit.Object{{Kind: audit.KindDevice, ID: 4711, Digest: audit.Digest{1, 2, 3}}, {Kind: "novelty", ID: -5}}}
}

// Whatever is in a leaf, its JSON comes back to the byte.
func FuzzPackLeaf(f *testing.F) {
	f.Add("device.admitted", "key:0fa3", "vetted 34b8da2235fb6958d86390c1ea678fa640", "device", int64(7), int64(1795253930475250), 2)
	f.Add("", "", "\xff<>", "", int64(-1), int64(-1), 0)
	f.Add("0123456789abcdef0", "0123456789ABCDEF", "0123456789abcdef", "records", int64(1)<<62, int64(1)<<50, 1)
	f.Fuzz(func(t *testing.T, act, by, note, kind string, id, at int64, objects int) {
		l := audit.Leaf{Time: time.UnixMicro(at % (1 << 55)).UTC(), Act: act, By: by, Note: note}
		if y := l.Time.Year(); y < 0 || y > 9999 {
			return
		}
		for i := range min(max(objects, 0), 9) {
			l.Objects = append(l.Objects, audit.Object{Kind: audit.Kind(kind), ID: id + int64(i), Digest: audit.DigestOf(id)})
		}
		body := l.Encode()
		got, err := unpackLeaf(packLeaf(l, body))
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%s came back as %s, %v", body, got, err)
		}
	})
}

// FuzzUnpackLeaf: bytes that were changed give an error or a leaf, and what
// is no packed leaf is left alone.
func FuzzUnpackLeaf(f *testing.F) {
	l := leafOf("vetted")
	f.Add(packLeaf(l, l.Encode()))
	f.Add(l.Encode())
	f.Add([]byte{packed, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 127})
	f.Fuzz(func(t *testing.T, stored []byte) {
		got, err := unpackLeaf(stored)
		switch {
		case len(stored) == 0 || stored[0] != packed:
			if err != nil || !bytes.Equal(got, stored) {
				t.Fatalf("%q became %q, %v", stored, got, err)
			}
		case err == nil && len(got) == 0:
			t.Fatal("neither a leaf nor an error")
		}
	})
}

// The form is for ever: these bytes are in databases.
func TestPackedForm(t *testing.T) {
	l := leafOf("vetted " + strings.Repeat("ab", 17))
	body := l.Encode()
	stored := packLeaf(l, body)
	if stored[0] != packed || len(stored) > len(body)/2+20 {
		t.Errorf("%d bytes are stored as %d", len(body), len(stored))
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(stored)); got != "db801174729bb28dbde0c56c153b66b589cee827e81eec0f06022464c0571ff0" {
		t.Errorf("the form changed: %x (%s)", stored, got)
	}
	if got, err := unpackLeaf(body); err != nil || !bytes.Equal(got, body) {
		t.Error("a leaf from before is not read as it is")
	}
	other := leafOf("x")
	if got := packLeaf(other, body); !bytes.Equal(got, body) {
		t.Error("a leaf was packed that unpacks to something else")
	}
}
