package timestamp

import (
	"bytes"
	"context"
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
	"github.com/touchmark/touchmark/internal/cms"
)

// ask sends a query, and returns the status and the answer.
func ask(t *testing.T, url, kind string, query []byte) (*http.Response, []byte) {
	t.Helper()
	response, err := http.Post(url, kind, bytes.NewReader(query))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, body
}

// TestOpenSSL: openssl makes the query, curl sends it, openssl verifies the
// answer, over each hash, with keys of each kind, with and without nonce and
// certificates.
func TestOpenSSL(t *testing.T) {
	content := signtest.File(t, "content", signtest.Random(100_000))
	other := signtest.File(t, "other", signtest.Random(100))
	for _, c := range []struct {
		key, hash string
		flags     []string
	}{
		{"p256", "sha256", []string{"-cert"}},
		{"p384", "sha384", []string{"-cert", "-no_nonce"}},
		{"rsa3072", "sha512", []string{"-tspolicy", policy.String()}},
	} {
		t.Run(c.key, func(t *testing.T) {
			w := newWorld(t, c.key)
			url, dir := w.serve(t), t.TempDir()
			query, reply := filepath.Join(dir, "q"), filepath.Join(dir, "r")
			run(t, "openssl", append([]string{"ts", "-query", "-data", content, "-" + c.hash, "-out", query}, c.flags...)...)
			run(t, "curl", "-sSf", "-H", "Content-Type: "+QueryType, "--data-binary", "@"+query, "-o", reply, url)
			verify := []string{"ts", "-verify", "-in", reply, "-CAfile", signtest.CertificateFile(t, w.root), "-untrusted", signtest.CertificateFile(t, w.cert), "-attime", fmt.Sprint(w.now.Unix())}
			run(t, "openssl", append(verify, "-queryfile", query)...)
			run(t, "openssl", append(verify, "-data", content)...)
			if out, err := signtest.Run("openssl", append(verify, "-data", other)...); err == nil {
				t.Errorf("openssl verified it over another file: %s", out)
			}
			text := run(t, "openssl", "ts", "-reply", "-in", reply, "-text")
			for _, want := range []string{"Status: Granted.", "Policy OID: " + policy.String(), "Accuracy: 0x01 seconds", "Ordering: no", "Nov 21 12:00:00 2026 GMT"} {
				if !strings.Contains(text, want) {
					t.Errorf("openssl does not read %q in\n%s", want, text)
				}
			}
			flipInReply(t, reply, func(flipped string) error {
				_, err := signtest.Run("openssl", "ts", "-verify", "-in", flipped, "-data", content, "-CAfile", signtest.CertificateFile(t, w.root), "-untrusted", signtest.CertificateFile(t, w.cert), "-attime", fmt.Sprint(w.now.Unix()))
				return err
			})
		})
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := signtest.Run(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// flipInReply flips a bit of the signature, which stands at the end.
func flipInReply(t *testing.T, reply string, check func(string) error) {
	t.Helper()
	der, err := os.ReadFile(reply)
	if err != nil {
		t.Fatal(err)
	}
	der[len(der)-3] ^= 1
	if check(signtest.File(t, "flipped", der)) == nil {
		t.Error("openssl verified it with a flipped bit")
	}
}

func TestGranted(t *testing.T) {
	w := newWorld(t, "p256")
	url := w.serve(t)
	serials := map[string]bool{}
	for _, nonce := range [][]byte{nil, {2, 1, 5}, {2, 9, 0, 0xff, 1, 2, 3, 4, 5, 6, 7}, {2, 2, 0x80, 1}} {
		response, body := ask(t, url, QueryType, question(t, crypto.SHA256, []byte("firmware"), func(r *Request) { r.Nonce = nonce }))
		if response.StatusCode != 200 || response.Header.Get("Content-Type") != ReplyType {
			t.Fatalf("%s: %s", response.Status, body)
		}
		der, err := ReadResponse(body)
		if err != nil {
			t.Fatal(err)
		}
		token, err := Verify(der, w.roots)
		if err != nil {
			t.Fatal(err)
		}
		if err := token.Covers([]byte("firmware")); err != nil || token.Covers([]byte("other")) == nil {
			t.Errorf("it covers the wrong bytes: %v", err)
		}
		if !token.Time.Equal(w.now) || token.Accuracy != time.Second || !token.Policy.Equal(policy) {
			t.Errorf("the token says %+v", token)
		}
		if encoded, err := asn1.Marshal(token.Nonce); nonce != nil && (err != nil || !bytes.Equal(encoded, nonce)) || nonce == nil && token.Nonce != nil {
			t.Errorf("the nonce %x came back as %v", nonce, token.Nonce)
		}
		if serials[token.Serial.String()] || token.Serial.BitLen() != 127 {
			t.Errorf("the serial number is %x", token.Serial)
		}
		serials[token.Serial.String()] = true
		if !strings.HasPrefix(w.log.notes[len(w.log.notes)-1], fmt.Sprintf("%x of SHA-256 ", token.Serial)) {
			t.Errorf("the log has %q", w.log.notes)
		}
	}
}

func TestCertificatesOnlyWhereWanted(t *testing.T) {
	w := newWorld(t, "p256")
	for _, wanted := range []bool{true, false} {
		request, err := ParseRequest(question(t, crypto.SHA256, nil, func(r *Request) { r.Certificates = wanted }))
		if err != nil {
			t.Fatal(err)
		}
		token, err := w.Stamp(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(token, w.cert.Raw) != wanted {
			t.Errorf("certificates were wanted: %v, and it is otherwise", wanted)
		}
	}
}

// foreign is a query over a digest by any algorithm, of any version.
func foreign(version int64, algorithm asn1.ObjectIdentifier, digest int, more func(*cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(version)
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(algorithm); b.AddASN1NULL() })
			b.AddASN1OctetString(make([]byte, digest))
		})
		more(b)
	})
	return b.BytesOrPanic()
}

func nothing(*cryptobyte.Builder) {}

var (
	oidSHA1   = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
)

// TestRefused: each bad query is answered in form, with the failure that RFC
// 3161 has for it, and leaves nothing in the log.
func TestRefused(t *testing.T) {
	w := newWorld(t, "p256")
	url := w.serve(t)
	good := foreign(1, oidSHA256, 32, nothing)
	extension := func(b *cryptobyte.Builder) {
		b.AddASN1(tag.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 3})
				b.AddASN1OctetString([]byte{5, 0})
			})
		})
	}
	for name, c := range map[string]struct {
		query []byte
		want  Failure
	}{
		"SHA-1":               {foreign(1, oidSHA1, 20, nothing), BadAlgorithm},
		"an unknown hash":     {foreign(1, asn1.ObjectIdentifier{1, 2, 3, 4}, 32, nothing), BadAlgorithm},
		"a short digest":      {foreign(1, oidSHA256, 31, nothing), BadDataFormat},
		"another version":     {foreign(2, oidSHA256, 32, nothing), BadRequest},
		"another policy":      {foreign(1, oidSHA256, 32, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 3, 4}) }), UnacceptedPolicy},
		"an extension":        {foreign(1, oidSHA256, 32, extension), UnacceptedExtension},
		"nothing":             {nil, BadDataFormat},
		"text":                {[]byte("stamp this"), BadDataFormat},
		"half a query":        {good[:len(good)/2], BadDataFormat},
		"something behind":    {append(bytes.Clone(good), 0), BadDataFormat},
		"an unknown field":    {foreign(1, oidSHA256, 32, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nil) }), BadDataFormat},
		"a nonce with a zero": {foreign(1, oidSHA256, 32, func(b *cryptobyte.Builder) { b.AddBytes([]byte{2, 2, 0, 1}) }), BadDataFormat},
	} {
		response, body := ask(t, url, QueryType, c.query)
		if response.StatusCode != 200 || response.Header.Get("Content-Type") != ReplyType {
			t.Errorf("%s: %s", name, response.Status)
		}
		_, err := ReadResponse(body)
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Failure != c.want || refusal.Reason == "" {
			t.Errorf("%s: got %v (%+v), want failure %d", name, err, refusal, c.want)
		}
		if out, err := signtest.Run("openssl", "ts", "-reply", "-in", signtest.File(t, "reply", body), "-text"); err != nil || !strings.Contains(out, "Status: Rejected.") || strings.Contains(out, "Failure info: unspecified") {
			t.Errorf("%s: openssl reads %v\n%s", name, err, out)
		}
	}
	if len(w.log.notes) > 0 {
		t.Errorf("the log has %q", w.log.notes)
	}
}

// TestHTTP: what is no query at all is refused by HTTP.
func TestHTTP(t *testing.T) {
	w := newWorld(t, "p256")
	url := w.serve(t)
	good := foreign(1, oidSHA256, 32, nothing)
	if response, body := ask(t, url, "application/octet-stream", good); response.StatusCode != http.StatusUnsupportedMediaType || !bytes.Contains(body, []byte(QueryType)) {
		t.Errorf("another type: %s %s", response.Status, body)
	}
	if response, _ := ask(t, url, QueryType, make([]byte, MaxRequest+1)); response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("oversized: %s", response.Status)
	}
	if response, err := http.Get(url); err != nil || response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %v %v", response, err)
	}
	w.room = false
	if response, _ := ask(t, url, QueryType, good); response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("too many: %s", response.Status)
	}
	w.room = true
	w.Signatory = func(context.Context) (cms.Signatory, error) {
		return cms.Signatory{}, errors.New("the token is gone, PIN 1234")
	}
	response, body := ask(t, url, QueryType, good)
	var refusal *Refusal
	if _, err := ReadResponse(body); response.StatusCode != 200 || !errors.As(err, &refusal) || refusal.Failure != SystemFailure || strings.Contains(refusal.Reason, "PIN") {
		t.Errorf("without a key: %s %+v", response.Status, refusal)
	}
	if len(w.log.notes) > 0 {
		t.Errorf("the log has %q", w.log.notes)
	}
}

// TestClockBackwards: no time is before one that was given; a clock that
// jumped back further than the accuracy stops the authority until it is right.
func TestClockBackwards(t *testing.T) {
	w := newWorld(t, "p256")
	stamp := func() (*Token, error) {
		request, err := ParseRequest(question(t, crypto.SHA256, nil, plain))
		if err != nil {
			t.Fatal(err)
		}
		der, err := w.Stamp(t.Context(), request)
		if err != nil {
			return nil, err
		}
		return Verify(der, w.roots)
	}
	first, err := stamp()
	if err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(-time.Second)
	if second, err := stamp(); err != nil || !second.Time.Equal(first.Time) {
		t.Errorf("a second back: %v, %v", second, err)
	}
	w.now = w.now.Add(-time.Second)
	var refusal *Refusal
	if _, err := stamp(); !errors.As(err, &refusal) || refusal.Failure != TimeNotAvailable || !strings.Contains(refusal.Reason, "2s") {
		t.Errorf("two seconds back: %v", err)
	}
	if len(w.log.notes) != 2 {
		t.Errorf("the log has %q", w.log.notes)
	}
	w.now = w.now.Add(3 * time.Second)
	if third, err := stamp(); err != nil || !third.Time.After(first.Time) {
		t.Errorf("set right: %v, %v", third, err)
	}
}
