package timestamp

import (
	"bytes"
	"crypto"
	"errors"
	"reflect"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

// FuzzParseRequest: what is refused has a reason, what is read encodes to what
// reads the same, and what is stamped of it says the same.
func FuzzParseRequest(f *testing.F) {
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		f.Add(question(f, hash, []byte("firmware"), plain))
		f.Add(question(f, hash, nil, func(r *Request) { r.Nonce, r.Policy, r.Certificates = []byte{2, 2, 0x80, 1}, policy, false }))
	}
	f.Add(foreign(1, oidSHA1, 20, nothing))
	f.Add(foreign(2, oidSHA256, 32, nothing))
	w := newWorld(f, "p256")
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := ParseRequest(der)
		if err != nil {
			var refusal *Refusal
			if !errors.As(err, &refusal) || refusal.Reason == "" || r != nil {
				t.Fatalf("%v without a reason", err)
			}
			return
		}
		if len(r.Digest) != r.Hash.Size() {
			t.Fatalf("a digest of %d bytes by %v", len(r.Digest), r.Hash)
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseRequest(again); err != nil || !reflect.DeepEqual(back, r) {
			t.Fatalf("%x was read as %+v and comes back as %+v: %v", der, r, back, err)
		}
		stampedAs(t, w, r)
	})
}

// FuzzVerify: nothing but what the authority signed verifies.
func FuzzVerify(f *testing.F) {
	w := newWorld(f, "p256")
	request, err := ParseRequest(question(f, crypto.SHA256, []byte("firmware"), plain))
	if err != nil {
		f.Fatal(err)
	}
	good, err := w.Stamp(f.Context(), request)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(signtest.Random(100))
	f.Fuzz(func(t *testing.T, der []byte) {
		token, err := Verify(der, w.roots)
		if err == nil && !bytes.Equal(token.Digest, request.Digest) {
			t.Fatalf("%x verifies over %x", der, token.Digest)
		}
	})
}

// stampedAs has a request stamped, and reads in the token what was asked for.
func stampedAs(t *testing.T, w *world, r *Request) {
	t.Helper()
	r.Certificates = true
	der, err := w.Stamp(t.Context(), r)
	var refusal *Refusal
	if errors.As(err, &refusal) && refusal.Failure == UnacceptedPolicy {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	token, err := Verify(der, w.roots)
	if err != nil {
		t.Fatal(err)
	}
	if token.Hash != r.Hash || !bytes.Equal(token.Digest, r.Digest) || (token.Nonce == nil) != (r.Nonce == nil) {
		t.Fatalf("asked for %+v, got %+v", r, token)
	}
}
