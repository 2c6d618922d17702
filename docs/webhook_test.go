package docs

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/events"
)

// TestEventTypesAreDocumented holds the guide to the types that there are.
func TestEventTypesAreDocumented(t *testing.T) {
	guide := read(t, "guides/events.md")
	for _, m := range events.Types {
		if !strings.Contains(guide, "`"+string(m.Type)+"`") {
			t.Errorf("docs/guides/events.md does not tell of %s", m.Type)
		}
	}
}

// genuine is the guide's example, word for word.
func genuine(secret string, h http.Header, body []byte, now time.Time) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return false
	}
	sent, err := strconv.ParseInt(h.Get("webhook-timestamp"), 10, 64)
	if err != nil || now.Sub(time.Unix(sent, 0)).Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "."))
	mac.Write(body)
	for _, signature := range strings.Fields(h.Get("webhook-signature")) {
		given, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signature, "v1,"))
		if err == nil && hmac.Equal(given, mac.Sum(nil)) {
			return true
		}
	}
	return false
}

// TestVerifyWebhook verifies what a real server sends with both of the guide's
// examples, and forgeries of it.
func TestVerifyWebhook(t *testing.T) {
	source := read(t, "webhook_test.go")
	example := source[strings.Index(source, "func genuine("):]
	example = example[:strings.Index(example, "\n}\n")+3]
	if !strings.Contains(read(t, "guides/events.md"), example) {
		t.Error("the guide's example is not the one that is tested")
	}
	type message struct {
		header http.Header
		body   []byte
	}
	got := make(chan message, 10)
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- message{r.Header, body}
	}))
	defer target.Close()
	w := newWorld(t, "sqlite:touchmark.db")
	w.stop()
	file := filepath.Join(w.dir, "touchmark.yaml")
	config := strings.Replace(read(t, file), "#allow_targets: []", "allow_targets: [127.0.0.1]", 1)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	w.serve()
	secret := field[string](t, w.cli(t, "webhook", "create", "erp", "--url", target.URL, "--json"), "secret")
	if out := w.cli(t, "webhook", "test", "erp"); !strings.Contains(out, "took the message") {
		t.Fatal(out)
	}
	m := <-got
	other := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, c := range map[string]struct {
		secret, body string
		id           string
		want         bool
	}{
		"genuine":        {secret, string(m.body), m.header.Get("webhook-id"), true},
		"another secret": {other, string(m.body), m.header.Get("webhook-id"), false},
		"another body":   {secret, string(m.body) + " ", m.header.Get("webhook-id"), false},
		"another ID":     {secret, string(m.body), "x", false},
	} {
		h := m.header.Clone()
		h.Set("webhook-id", c.id)
		if genuine(c.secret, h, []byte(c.body), time.Now()) != c.want {
			t.Errorf("%s: the example in Go errs", name)
		}
		body := write(t, "body", c.body)
		out, err := script(t, ".", "", "guides/verify-webhook.sh '"+c.id+"' '"+h.Get("webhook-timestamp")+"' '"+h.Get("webhook-signature")+"' < "+body, "WEBHOOK_SECRET="+c.secret)
		if (err == nil) != c.want {
			t.Errorf("%s: the example with openssl says %s (%v)", name, out, err)
		}
	}
	if genuine(secret, m.header, m.body, time.Now().Add(time.Hour)) {
		t.Error("an old message is taken")
	}
	if out := w.cli(t, "webhook", "show", "erp"); strings.Contains(out, "whsec_") {
		t.Errorf("the secret is shown again: %s", out)
	}
	w.cli(t, "webhook", "delete", "erp", "--yes")
}
