package timestamp

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/detached"
	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
	"github.com/touchmark/touchmark/internal/cms"
)

func (w *world) client(t testing.TB) *Client {
	return &Client{URL: w.serve(t), HTTP: http.DefaultClient, Roots: w.roots}
}

// TestAttach: a stamped CMS signature is still good for openssl, which also
// verifies the token taken out of it; other signatures' tokens, and a signature
// with a flipped bit, are refused.
func TestAttach(t *testing.T) {
	w, content := newWorld(t, "p256"), signtest.Random(100_000)
	client := w.client(t)
	stamp := func(b []byte) ([]byte, error) { return client.Stamp(t.Context(), b) }
	for _, kind := range []string{"p256", "p384", "rsa3072"} {
		r := signtest.NewRelease(t, kind)
		plain := signtest.Sign(t, detached.CMS{Certificate: r.Certificate, At: signtest.Now}, content, r.Key)
		stamped, err := Attach(plain, InCMS, stamp)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := detached.VerifyCMS(signtest.Reader(content), stamped, r.Roots, signtest.Now); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		run(t, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", signtest.File(t, "sig", stamped),
			"-content", signtest.File(t, "content", content), "-CAfile", signtest.CertificateFile(t, r.Root), "-purpose", "any", "-out", "/dev/null")
		if token, err := Attached(stamped, InCMS, w.roots); err != nil || !token.Time.Equal(w.now) {
			t.Errorf("%s: %+v %v", kind, token, err)
		}
		opensslVerifiesToken(t, w, stamped)
		if _, err := Attached(stamped, InCMS, r.Roots); err == nil {
			t.Errorf("%s: an authority below another root was believed", kind)
		}
		if _, err := Attached(plain, InCMS, w.roots); err == nil {
			t.Errorf("%s: a signature without a time stamp has one", kind)
		}
		if _, err := Attach(stamped, InCMS, stamp); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("%s: stamped twice: %v", kind, err)
		}
		other, err := Attach(plain, InCMS, func([]byte) ([]byte, error) { return client.Stamp(t.Context(), []byte("another signature")) })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Attached(other, InCMS, w.roots); err == nil || !strings.Contains(err.Error(), "over other bytes") {
			t.Errorf("%s: a token of another signature: %v", kind, err)
		}
	}
}

func opensslVerifiesToken(t *testing.T, w *world, stamped []byte) {
	t.Helper()
	token, err := cms.UnsignedOf(stamped, InCMS)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := cms.SignatureOf(stamped)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "openssl", "ts", "-verify", "-token_in", "-in", signtest.File(t, "token", token), "-data", signtest.File(t, "signature", signature),
		"-CAfile", signtest.CertificateFile(t, w.root), "-attime", fmt.Sprint(w.now.Unix()))
}

// TestClientBelievesNobody: an authority of another root, an answer to an
// earlier query, a refusal, and no authority at all.
func TestClientBelievesNobody(t *testing.T) {
	w := newWorld(t, "p256")
	client := w.client(t)
	earlier := question(t, crypto.SHA256, []byte("firmware"), plain)
	_, answer := ask(t, client.URL, QueryType, earlier)
	replay := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.Write(answer) }))
	defer replay.Close()
	for name, c := range map[string]struct {
		client *Client
		want   string
	}{
		"another root":    {&Client{URL: client.URL, HTTP: http.DefaultClient, Roots: newWorld(t, "p256").roots}, "certificate"},
		"a replay":        {&Client{URL: replay.URL, HTTP: http.DefaultClient, Roots: w.roots}, "nonce"},
		"no authority":    {&Client{URL: replay.URL + "%", HTTP: http.DefaultClient, Roots: w.roots}, "invalid"},
		"another service": {&Client{URL: client.URL + "?", HTTP: &http.Client{Transport: refusing{}}, Roots: w.roots}, "404"},
	} {
		if _, err := c.client.Stamp(t.Context(), []byte("firmware")); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type refusing struct{}

func (refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	http.NotFound(rec, r)
	return rec.Result(), nil
}

// FuzzAttach: what takes an attribute has it then, the signature is the same,
// and nothing else changed.
func FuzzAttach(f *testing.F) {
	r := signtest.NewRelease(f, "p256")
	sig := signtest.Sign(f, detached.CMS{Certificate: r.Certificate, At: signtest.Now}, []byte("firmware"), r.Key)
	f.Add(sig)
	f.Add(sig[:len(sig)/2])
	value, err := asn1.Marshal("token")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		stamped, err := Attach(message, InCMS, func([]byte) ([]byte, error) { return value, nil })
		if err != nil {
			return
		}
		before, err := cms.SignatureOf(message)
		if err != nil {
			t.Fatal(err)
		}
		after, err := cms.SignatureOf(stamped)
		if err != nil || !bytes.Equal(before, after) {
			t.Fatalf("the signature %x became %x: %v", before, after, err)
		}
		if have, err := cms.UnsignedOf(stamped, InCMS); err != nil || !bytes.Equal(have, value) {
			t.Fatalf("the attribute is %x: %v", have, err)
		}
	})
}
