package crl_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/crl"
)

// serve serves the world's lists.
func (w *world) serve() (base string, h *crl.Handler) {
	h = &crl.Handler{Directory: w.maker.Directory, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.now },
		Issuer: func(name string) (int64, bool) { return 0, name == w.issuer.Name },
		MaxAge: func(crl.Scope) time.Duration { return time.Minute }}
	s := httptest.NewServer(h)
	w.t.Cleanup(s.Close)
	return s.URL, h
}

func (w *world) ask(method, url string, header ...string) (*http.Response, []byte) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, body
}

func TestListsAreServed(t *testing.T) {
	w := newWorld(t, schedule)
	for n := range 30_000 { // more than two chunks
		w.revoke(serial(n), ocsp.KeyCompromise)
	}
	w.round()
	base, _ := w.serve()
	for _, k := range w.maker.Directory.Of(0) {
		url, want := base+k.Scope.Path("device-ca"), w.memory.bodies[k.Body]
		resp, body := w.ask("GET", url)
		h := resp.Header
		if resp.StatusCode != 200 || !bytes.Equal(body, want) || h.Get("Content-Type") != "application/pkix-crl" || resp.ContentLength != k.Size {
			t.Errorf("%s: %d, %d bytes of %d, %v", url, resp.StatusCode, len(body), len(want), h)
		}
		tag, modified := h.Get("ETag"), h.Get("Last-Modified")
		if tag != fmt.Sprintf("%q", fmt.Sprintf("%x", k.Digest)) || modified != epoch.Format(http.TimeFormat) ||
			h.Get("Expires") != epoch.Add(time.Minute).Format(http.TimeFormat) || h.Get("Cache-Control") != "max-age=60, public, no-transform, must-revalidate" {
			t.Errorf("%s: %v", url, h)
		}
		if resp, body := w.ask("HEAD", url); resp.StatusCode != 200 || resp.ContentLength != k.Size || len(body) > 0 {
			t.Errorf("HEAD %s: %d, Content-Length %d", url, resp.StatusCode, resp.ContentLength)
		}
		for name, value := range map[string]string{"If-None-Match": tag, "If-Modified-Since": modified} {
			if resp, body := w.ask("GET", url, name, value); resp.StatusCode != 304 || len(body) > 0 || resp.Header.Get("ETag") != tag {
				t.Errorf("%s with %s: %d", url, name, resp.StatusCode)
			}
		}
		from := k.Size - 10
		if resp, body := w.ask("GET", url, "Range", fmt.Sprintf("bytes=%d-", from)); resp.StatusCode != 206 || !bytes.Equal(body, want[from:]) {
			t.Errorf("%s from byte %d: %d, %x", url, from, resp.StatusCode, body)
		}
	}
}

// TestNamedBy finds no number in what only looks like a distribution point.
// The server's tests ask it of certificates.
func TestNamedBy(t *testing.T) {
	for der, want := range map[string]int{
		"\x86\x2ahttp://status.example.com" + crl.PartitionOf(serial(1), 4).Path("device-ca") + "0\x0a": 4,
		"\x86\x2ahttp://x/pki" + crl.PartitionOf(serial(1), 4096).Path("device-ca"):                     4096,
		"http://x/crl/device-ca.crl": 0, "http://x/crl/acme/4/1.crl": 0, "http://x/crl/device-ca/5/1.crl": 0, "http://x/crl/device-ca/8192/1.crl": 0, "http://x/crl/device-ca/delta.crl": 0,
		"": 0, "/crl/device-ca/": 0, "/crl/device-ca/16": 0, "/crl/device-ca//": 0, "/crl/device-ca/-4/": 0,
	} {
		if n := crl.NamedBy([]byte(der), "device-ca"); n != want {
			t.Errorf("%q names one of %d, want %d", der, n, want)
		}
	}
}

func TestAListThatRanOutIsNotKeptByCaches(t *testing.T) {
	w := newWorld(t, schedule)
	w.round()
	base, _ := w.serve()
	for _, c := range []struct {
		left time.Duration
		want string
	}{{30 * time.Second, "max-age=30"}, {-time.Hour, "max-age=0"}} {
		w.now = epoch.Add(schedule.Validity - c.left)
		resp, _ := w.ask("GET", base+"/crl/device-ca.crl")
		if h := resp.Header; h.Get("Cache-Control") != c.want+", public, no-transform, must-revalidate" {
			t.Errorf("%s before the end: %v", c.left, h)
		}
	}
}

func TestListsThatThereAreNot(t *testing.T) {
	w := newWorld(t, schedule)
	w.round()
	base, _ := w.serve()
	for _, path := range []string{
		"/crl/", "/crl/.crl", "/crl/device-ca", "/crl/device-ca.crl/", "/crl/none.crl", "/crl/device-ca/4/4.crl", "/crl/device-ca/8/0.crl", "/crl/device-ca/3/0.crl",
		"/crl/device-ca/4/-1.crl", "/crl/device-ca/4/+1.crl", "/crl/device-ca/04/1.crl", "/crl/device-ca/4/1.crl.crl", "/crl/device-ca/4/1/0.crl", "/crl/device-ca//delta.crl",
		"/crl//device-ca.crl", "/crl/device%2Dca.crl", "/crl/device-ca%2Fdelta.crl", "/crl/device-ca%00.crl", "/crl/..%2fdevice-ca.crl", "/crl/\u00fcber.crl",
		"/crl/device-ca/99999999999999999999/0.crl", "/crl/device-ca/full.crl", "/crl/device-ca/0/0.crl", "/crl/device-ca.crl%3fx",
	} {
		resp, body := w.ask("GET", base+path)
		if resp.StatusCode != 404 || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || string(body) != "there is no such revocation list\n" {
			t.Errorf("%s: %d %q, %v", path, resp.StatusCode, body, resp.Header)
		}
	}
	if resp, _ := w.ask("POST", base+"/crl/device-ca.crl"); resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("POST: %d, %v", resp.StatusCode, resp.Header)
	}
}

// TestAListIsReplacedWhileItIsRead has a client read the list that it began
// to read.
func TestAListIsReplacedWhileItIsRead(t *testing.T) {
	w := newWorld(t, schedule)
	for n := range 40_000 {
		w.revoke(serial(n), ocsp.KeyCompromise)
	}
	w.round()
	want := w.memory.bodies[w.maker.Directory.Find(0, crl.Full).Body]
	base, _ := w.serve()
	resp, err := http.Get(base + "/crl/device-ca.crl")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	w.now = w.now.Add(24 * time.Hour)
	bodies := maps.Clone(w.memory.bodies)
	w.round()
	w.memory.mu.Lock()
	maps.Copy(w.memory.bodies, bodies) // they stay for a while
	w.memory.mu.Unlock()
	if body, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(body, want) {
		t.Errorf("%d bytes of %d, %v", len(body), len(want), err)
	}
}

// broken is a Store of which chunks cannot be read.
type broken struct {
	*memory
	from int
}

func (b broken) CRLChunk(ctx context.Context, body int64, n int) ([]byte, error) {
	if n >= b.from {
		return nil, errFault
	}
	return b.memory.CRLChunk(ctx, body, n)
}

func TestAListThatCannotBeRead(t *testing.T) {
	w := newWorld(t, schedule)
	for n := range 40_000 {
		w.revoke(serial(n), ocsp.KeyCompromise)
	}
	w.round()
	for from, want := range []int{503, 200} {
		base, h := w.serve()
		h.Directory = &crl.Directory{Store: broken{w.memory, from}}
		if err := h.Directory.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		resp, err := http.Get(base + "/crl/device-ca.crl")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != want || want == 503 && (resp.Header.Get("Retry-After") == "" || resp.Header.Get("Cache-Control") != "no-store") {
			t.Errorf("without chunks from %d on: %d, %v", from, resp.StatusCode, resp.Header)
		}
		if _, err := io.ReadAll(resp.Body); want == 200 && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a list that breaks off ends with %v", err)
		}
	}
}

// FuzzParsePath holds that each list has one path, and each path that is
// taken one list.
func FuzzParsePath(f *testing.F) {
	for _, p := range []string{"/crl/device-ca.crl", "/crl/device-ca/delta.crl", "/crl/acme/1024/77.crl", "/crl/a%2Fb.crl", "/crl/%zz.crl", "/crl/a/4/04.crl"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		issuer, s, ok := crl.ParsePath(path)
		if !ok {
			return
		}
		if issuer == "" || s.Path(issuer) != path {
			t.Errorf("%q is read as list %s of %q, which is at %q", path, s, issuer, s.Path(issuer))
		}
		if s.Delta && s.Partitions != 0 || s.Partitions != 0 && (crl.CheckPartitions(s.Partitions) != nil || s.Partition < 0 || s.Partition >= s.Partitions) {
			t.Errorf("%q is read as %+v", path, s)
		}
	})
}
