package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// flaky is a server that fails the first requests in some way.
func flaky(t *testing.T, h http.HandlerFunc) (*client, *[]time.Duration) {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	var waited []time.Duration
	return &client{base: s.URL, http: s.Client(), pause: func(_ context.Context, d time.Duration) error {
		waited = append(waited, d)
		return nil
	}}, &waited
}

func TestPostIsRepeatedUnderOneKey(t *testing.T) {
	var keys, bodies []string
	c, waited := flaky(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		keys, bodies = append(keys, r.Header.Get("Idempotency-Key")), append(bodies, string(b))
		switch len(keys) {
		case 1:
			panic(http.ErrAbortHandler) // the answer is lost
		case 2:
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			fmt.Fprint(w, `{"name":"done"}`)
		}
	})
	var out struct{ Name string }
	if err := c.api(t.Context(), http.MethodPost, "/sites", map[string]string{"name": "x"}, &out); err != nil || out.Name != "done" {
		t.Fatalf("%+v, %v", out, err)
	}
	if len(keys) != 3 || keys[0] == "" || keys[0] != keys[1] || keys[1] != keys[2] {
		t.Errorf("keys %q", keys)
	}
	if bodies[0] != `{"name":"x"}` || bodies[2] != bodies[0] {
		t.Errorf("bodies %q", bodies)
	}
	if len(*waited) != 2 || (*waited)[1] != 2*time.Second {
		t.Errorf("waited %v", *waited)
	}
	if err := c.api(t.Context(), http.MethodPost, "/sites", nil, nil); err != nil || keys[3] == keys[0] {
		t.Errorf("another invocation has the same key (%v)", err)
	}
}

func TestChangesAreNotRepeated(t *testing.T) {
	n := 0
	c, _ := flaky(t, func(http.ResponseWriter, *http.Request) { n++; panic(http.ErrAbortHandler) })
	for _, method := range []string{http.MethodPut, http.MethodPatch} {
		n = 0
		if err := c.api(t.Context(), method, "/orders/x", nil, nil); err == nil || n != 1 {
			t.Errorf("%s: %d attempts, %v", method, n, err)
		}
	}
	n = 0
	if err := c.api(t.Context(), http.MethodGet, "/orders/x", nil, nil); err == nil || n < attempts {
		t.Errorf("GET: %d attempts, %v", n, err)
	}
}

func TestRefusalsAreReadable(t *testing.T) {
	lines := make([]string, 60)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"line":%d,"message":"broken"}`, i+1)
	}
	answers := map[string]struct {
		body string
		want []string
	}{
		"fields":    {`{"detail":"no good","errors":[{"location":"body.name","message":"too short"}]}`, []string{"no good\n  body.name: too short"}},
		"lines":     {`{"detail":"bad file","lineCount":1234,"lines":[` + strings.Join(lines, ",") + `]}`, []string{"line 50: broken", "… and 1184 more"}},
		"reference": {`{"detail":"internal","reference":"abc"}`, []string{"reference abc"}},
		"proxy":     {"<html>no</html>", []string{"<html>no</html>"}},
		"empty":     {"", []string{"the server answered 422"}},
	}
	for name, a := range answers {
		c, _ := flaky(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnprocessableEntity)
			io.WriteString(w, a.body)
		})
		err := c.api(t.Context(), http.MethodPost, "/x", nil, nil)
		var refused *refusal
		if !errors.As(err, &refused) {
			t.Fatalf("%s: %v", name, err)
		}
		for _, want := range a.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %q in %q", name, want, err)
			}
		}
	}
}

func TestListFollowsPages(t *testing.T) {
	var asked []string
	c, _ := flaky(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		if r.URL.Query().Get("cursor") == "" {
			fmt.Fprint(w, `{"items":[{"a":1},{"a":2}],"next":"c2"}`)
			return
		}
		fmt.Fprint(w, `{"items":[{"a":3}]}`)
	})
	p, err := c.list(t.Context(), "/x", map[string][]string{"site": {"s"}, "state": {""}}, 0)
	if err != nil || len(p.Items) != 3 || p.Next != "" {
		t.Errorf("%v, %v", p, err)
	}
	if len(asked) != 2 || asked[0] != "limit=1000&site=s" || asked[1] != "cursor=c2&limit=1000&site=s" {
		t.Errorf("asked %q", asked)
	}
	asked = nil
	if p, err = c.list(t.Context(), "/x", nil, 2); err != nil || len(p.Items) != 2 || p.Next != "c2" || len(asked) != 1 {
		t.Errorf("limited: %v, %v, %q", p, err, asked)
	}
}

func TestUploadForm(t *testing.T) {
	const boundary = "xyz"
	text := strings.Repeat("{}\n", 100_000)
	body := formBody(io.NopCloser(strings.NewReader(text)), boundary, `un"its.jsonl`, "application/jsonl", [][]byte{[]byte("one"), []byte("two")})
	r := multipart.NewReader(body, boundary)
	for _, want := range []struct{ name, file, kind, text string }{
		{"signature", "signature.p7s", "application/pkcs7-signature", "one"}, {"signature", "signature.p7s", "application/pkcs7-signature", "two"},
		{"manifest", `un"its.jsonl`, "application/jsonl", text},
	} {
		p, err := r.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil || string(b) != want.text || p.FormName() != want.name || p.FileName() != want.file || p.Header.Get("Content-Type") != want.kind {
			t.Errorf("part %q %q %q, %d bytes, %v", p.FormName(), p.FileName(), p.Header, len(b), err)
		}
	}
	if _, err := r.NextPart(); err != io.EOF {
		t.Errorf("after the last part: %v", err)
	}
}

// What a device calls itself must not move the operator's cursor.
func TestCellsAreHarmless(t *testing.T) {
	if got := text("a\x1b[2J\u009bb\nc\td"); got != "a\uFFFD[2J\uFFFDb\uFFFDc\uFFFDd" {
		t.Errorf("%q", got)
	}
	if text("") != "-" || text(time.Time{}) != "-" {
		t.Error("nothing is not shown as a dash")
	}
}

func TestBar(t *testing.T) {
	var b bytes.Buffer
	line := &bar{w: &b, live: true, what: "Loading"}
	line.set(50_000, 100_000)
	line.set(100_000, 100_000)
	line.done()
	for _, want := range []string{"\rLoading  [###############...............]  50 %  50,000 of 100,000", "100 %"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in %q", want, b.String())
		}
	}
	if !strings.HasSuffix(b.String(), " \r") {
		t.Errorf("the line stays: %q", b.String())
	}
	b.Reset()
	quiet := &bar{w: &b, what: "Loading"}
	quiet.set(1, 2)
	quiet.done()
	if b.Len() != 0 {
		t.Errorf("a file got %q", b.String())
	}
	if count(1234567) != "1,234,567" || count(12) != "12" || count(0) != "0" {
		t.Error("count")
	}
}
