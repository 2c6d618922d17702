package offline_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/touchmark/touchmark/ocsp/offline"
)

// FuzzOpen gives the reader bytes as they are, which must be refused unless
// the CA made them, and the same bytes signed by the CA: then the tables are
// read. What is accepted accounts for all of its bytes and can be asked for
// any serial number.
func FuzzOpen(f *testing.F) {
	ca := newCA(f)
	made := map[[32]byte]bool{}
	for _, seed := range []fleet{{0, none}, {5, none}, {5, all}, {300, share(0.1)}, {40_000, share(0.3)}} {
		file := ca.build(f, plan(1, nil), seed)
		made[sha256.Sum256(file)] = true
		f.Add(file, serialOf(3))
	}
	f.Fuzz(func(t *testing.T, file, serial []byte) {
		if _, err := offline.Open(file, ca.cert); err == nil && !made[sha256.Sum256(file)] {
			t.Fatal("a file that the CA did not sign was opened")
		}
		h, err := offline.ReadHeader(file)
		if err != nil {
			return
		}
		signed := ca.resign(t, file)
		filter, err := offline.Open(signed, ca.cert)
		if err != nil {
			return
		}
		if got := filter.Header(); got.Number != h.Number || got.Issued != h.Issued || !got.NextUpdate.Equal(h.NextUpdate) {
			t.Errorf("header %+v, want %+v", got, h)
		}
		if filter.NotGood(serial) != filter.NotGood(bytes.Clone(serial)) {
			t.Error("two answers for one serial number")
		}
		for _, body := range [][]byte{signed[:signedLength(signed)-1], append(bytes.Clone(signed[:signedLength(signed)]), 0)} {
			binary.LittleEndian.PutUint32(body[20:], uint32(len(body)))
			if _, err := offline.Open(ca.resign(t, append(body, 0)), ca.cert); err == nil {
				t.Error("opened with a byte more or less")
			}
		}
	})
}

func signedLength(file []byte) int { return int(binary.LittleEndian.Uint32(file[20:])) }

// resign makes a file out of the bytes of one that are signed.
func (a *authority) resign(t *testing.T, file []byte) []byte {
	t.Helper()
	body := bytes.Clone(file[:signedLength(file)])
	key := offline.IssuerKey(a.cert)
	copy(body[72:], key[:])
	signature, err := a.key.Sign(rand.Reader, digest(body), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return append(body, signature...)
}

func digest(b []byte) []byte { sum := sha256.Sum256(b); return sum[:] }
