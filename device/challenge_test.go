package device_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device"
)

// certified is the store of a unit with an official certificate on a key.
func certified(t *testing.T, kind device.KeyKind) *device.MemoryStore {
	t.Helper()
	store := new(device.MemoryStore)
	made, err := device.MakeBootstrap(store, "SN-1", kind, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	store.Put(device.Official, *made)
	return store
}

func TestProve(t *testing.T) {
	nonce := []byte(strings.Repeat("n", 32))
	for _, kind := range []device.KeyKind{device.P256, device.P384, device.Ed25519, device.RSA2048} {
		store := certified(t, kind)
		p, err := (&device.Device{Store: store}).Prove(nonce)
		if err != nil {
			t.Fatal(err)
		}
		c, err := store.Load(device.Official)
		if err != nil {
			t.Fatal(err)
		}
		spki, err := x509.MarshalPKIXPublicKey(c.Key.Public())
		if err != nil {
			t.Fatal(err)
		}
		key := sha256.Sum256(spki)
		message := slices.Concat([]byte("Touchmark proof of possession, version 1"), []byte{0}, nonce, key[:])
		small, large := sha256.Sum256(message), sha512.Sum384(message)
		good := false
		switch k := c.Key.Public().(type) {
		case ed25519.PublicKey:
			good = ed25519.Verify(k, message, p.Signature)
		case *rsa.PublicKey:
			good = rsa.VerifyPKCS1v15(k, crypto.SHA256, small[:], p.Signature) == nil
		case *ecdsa.PublicKey:
			good = ecdsa.VerifyASN1(k, small[:], p.Signature) != (kind == device.P384) && (kind != device.P384 || ecdsa.VerifyASN1(k, large[:], p.Signature))
		}
		if !good || p.Certificate == "" {
			t.Errorf("%s: the proof %+v is no signature over the message", kind, p)
		}
	}
	if _, err := (&device.Device{Store: new(device.MemoryStore)}).Prove(nonce); err == nil {
		t.Error("a device without a key proved one")
	}
}

func TestAnswerChallenge(t *testing.T) {
	nonce := []byte(strings.Repeat("\xfe", 32))
	var asked string
	status := http.StatusOK
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.Path
		w.WriteHeader(status)
	}))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	d := &device.Device{Store: certified(t, device.P256), Client: &device.Client{URL: s.URL, Roots: roots}}
	if err := d.AnswerChallenge(t.Context(), nonce); err != nil {
		t.Error(err)
	}
	if want := "POST /device/v1/challenges/" + base64.RawURLEncoding.EncodeToString(nonce); asked != want {
		t.Errorf("asked %s, want %s", asked, want)
	}
	status = http.StatusConflict
	if err := d.AnswerChallenge(t.Context(), nonce); err == nil || !strings.Contains(err.Error(), "409") {
		t.Errorf("refused: %v", err)
	}
}

func TestParseNonce(t *testing.T) {
	good := base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("\xfe", 32)))
	if n, err := device.ParseNonce(" " + good + "\n"); err != nil || len(n) != 32 {
		t.Errorf("%x, %v", n, err)
	}
	for _, bad := range []string{"", good + "A", good[1:], "?" + good[1:]} {
		if _, err := device.ParseNonce(bad); err == nil {
			t.Errorf("%q is taken for a nonce", bad)
		}
	}
}
