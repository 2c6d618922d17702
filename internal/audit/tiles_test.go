package audit_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/touchmark/touchmark/internal/audit"
)

func newHandler(t testing.TB, m *memory) *audit.Handler {
	t.Helper()
	s := newSigner(t, 1)
	if m.head.Size() > 0 {
		m.kept = sign(t, s, m.head)
	}
	return &audit.Handler{Checkpoints: m, Tiles: audit.NewTiles(m), VerifierKey: s.VerifierKey(), Verifier: s.Verifier(), Log: quiet()}
}

func get(h http.Handler, path string, header ...string) *http.Response {
	r := httptest.NewRequest("GET", "/", nil)
	r.URL = &url.URL{Path: path}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t testing.TB, r *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// c2sp turns tlog's path of a tile into that of C2SP tlog-tiles.
func c2sp(tile tlog.Tile) string {
	return strings.Replace(strings.Replace(tile.Path(), "tile/8/", "/tile/", 1), "/data/", "/entries/", 1)
}

func TestTilesAgreeWithTlog(t *testing.T) {
	const size = 66*1024 + 100 // two full levels and three partial ones
	m := plain(size)
	_, stored := roots(t, m)
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = stored[x]
		}
		return out, nil
	})
	h := newHandler(t, m)
	tiles := tlog.NewTiles(8, 0, size)
	for _, tile := range tiles {
		want, err := tlog.ReadTileData(tile, reader)
		if err != nil {
			t.Fatal(err)
		}
		r := get(h, c2sp(tile))
		if got := body(t, r); r.StatusCode != 200 || !bytes.Equal(got, want) {
			t.Fatalf("%s: status %d, %d bytes, want %d", c2sp(tile), r.StatusCode, len(got), len(want))
		}
		if tile.L == 0 {
			tile.L = -1
			checkBundle(t, h, m, tile)
		}
	}
	if len(tiles) != 265+2+1 {
		t.Errorf("%d tiles were compared", len(tiles))
	}
}

func checkBundle(t *testing.T, h *audit.Handler, m *memory, tile tlog.Tile) {
	t.Helper()
	r := get(h, c2sp(tile))
	b := body(t, r)
	for i := range int64(tile.W) {
		n := int(binary.BigEndian.Uint16(b))
		if want := m.leaves[tile.N*256+i]; !bytes.Equal(b[2:2+n], want) {
			t.Fatalf("%s holds %q in place %d, want %q", c2sp(tile), b[2:2+n], i, want)
		}
		b = b[2+n:]
	}
	if len(b) > 0 || r.StatusCode != 200 {
		t.Fatalf("%s: status %d and %d bytes too many", c2sp(tile), r.StatusCode, len(b))
	}
}

// client is a tlog client over HTTP.
type client struct {
	t *testing.T
	h http.Handler
}

func (c client) Height() int                     { return 8 }
func (c client) SaveTiles([]tlog.Tile, [][]byte) {}
func (c client) ReadTiles(tiles []tlog.Tile) (out [][]byte, err error) {
	for _, tile := range tiles {
		r := get(c.h, c2sp(tile))
		if r.StatusCode != 200 {
			return nil, fmt.Errorf("%s: %s", c2sp(tile), r.Status)
		}
		out = append(out, body(c.t, r))
	}
	return out, nil
}

func TestClientProvesFromTilesAlone(t *testing.T) {
	m := plain(1234)
	h := newHandler(t, m)
	v, err := audit.ParseVerifier(string(body(t, get(h, "/verifier"))))
	if err != nil {
		t.Fatal(err)
	}
	c, err := audit.OpenCheckpoint(body(t, get(h, "/checkpoint")), v)
	if err != nil {
		t.Fatal(err)
	}
	reader := tlog.TileHashReader(tlog.Tree{N: c.Size, Hash: c.Root}, client{t, h})
	for _, i := range []int64{0, 300, 1023, 1024, 1233} {
		p, err := tlog.ProveRecord(c.Size, i, reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(p, c.Size, c.Root, i, tlog.RecordHash(m.leaves[i])); err != nil {
			t.Errorf("leaf %d: %v", i, err)
		}
	}
}

func TestHandlerStatuses(t *testing.T) {
	h := newHandler(t, plain(70000)) // the example of C2SP tlog-tiles
	for path, want := range map[string]int{
		"/checkpoint":       200,
		"/verifier":         200,
		"/tile/0/000":       200,
		"/tile/0/272":       200,
		"/tile/0/273.p/112": 200,
		"/tile/0/273.p/5":   200,
		"/tile/0/273.p/113": 404,
		"/tile/0/273":       404,
		"/tile/0/274.p/1":   404,
		"/tile/1/000":       200,
		"/tile/1/001.p/17":  200,
		"/tile/1/001.p/18":  404,
		"/tile/2/000.p/1":   200,
		"/tile/2/000":       404,
		"/tile/3/000.p/1":   404,
		"/tile/63/000":      404,
		"/tile/0/x001/000":  404,
		"/tile/0/x009/x223/x372/x036/x854/x775/807": 404,
		"/tile/entries/273.p/112":                   200,
		"/tile/entries/273":                         404,
		"/":                                         404,
		"":                                          404,
		"/tiles":                                    404,
		"/checkpoint/":                              404,
		"/tile/":                                    400,
		"/tile/0":                                   400,
		"/tile/0/":                                  400,
		"/tile/64/000":                              400,
		"/tile/00/000":                              400,
		"/tile/-1/000":                              400,
		"/tile/+1/000":                              400,
		"/tile/data/000":                            400,
		"/tile/8/0/000":                             400, // the checksum database's form
		"/tile/0/0":                                 400,
		"/tile/0/0000":                              400,
		"/tile/0/x000/000":                          400,
		"/tile/0/001/000":                           400,
		"/tile/0/x001":                              400,
		"/tile/0/000.p/0":                           400,
		"/tile/0/000.p/256":                         400,
		"/tile/0/000.p/01":                          400,
		"/tile/0/000.p/":                            400,
		"/tile/0/../0/000":                          400,
		"/tile/entries/000/extra":                   400,
		"/tile/0/x999/x999/x999/x999/x999/x999/x999/999":   400, // overflows
		"/tile/0/" + strings.Repeat("x001/", 1000) + "000": 400,
	} {
		r := get(h, path)
		if r.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, r.StatusCode, want)
		}
		text := string(body(t, r))
		if r.StatusCode >= 400 && (r.Header.Get("Cache-Control") != "no-store" || len(text) < 20 || len(text) > 400 ||
			!strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain")) {
			t.Errorf("%s: %v %q", path, r.Header, text)
		}
	}
}

func TestHandlerHeaders(t *testing.T) {
	h := newHandler(t, plain(300))
	for path, want := range map[string][2]string{
		"/checkpoint":            {"text/plain; charset=utf-8", "no-cache"},
		"/verifier":              {"text/plain; charset=utf-8", "no-cache"},
		"/tile/0/000":            {"application/octet-stream", "public, max-age=31536000, immutable"},
		"/tile/0/001.p/44":       {"application/octet-stream", "public, max-age=31536000, immutable"},
		"/tile/entries/001.p/44": {"application/octet-stream", "public, max-age=31536000, immutable"},
	} {
		r := get(h, path)
		if got := [2]string{r.Header.Get("Content-Type"), r.Header.Get("Cache-Control")}; got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
		if got := body(t, r); r.Header.Get("Content-Length") != fmt.Sprint(len(got)) {
			t.Errorf("%s: Content-Length %s for %d bytes", path, r.Header.Get("Content-Length"), len(got))
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("HEAD", "/tile/0/000", nil))
	if w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") != "8192" {
		t.Errorf("HEAD: %d, %d bytes, %v", w.Code, w.Body.Len(), w.Header())
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/checkpoint", nil))
	if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d, %v", w.Code, w.Header())
	}
}

func TestBundlesAreCompressed(t *testing.T) {
	h := newHandler(t, plain(300))
	want := body(t, get(h, "/tile/entries/000"))
	r := get(h, "/tile/entries/000", "Accept-Encoding", "br, gzip")
	if r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Vary") != "Accept-Encoding" {
		t.Fatalf("headers %v", r.Header)
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v, %d bytes, want %d", err, len(got), len(want))
	}
	for _, e := range []string{"", "br", "gzip;q=0", "identity"} {
		if r := get(h, "/tile/entries/000", "Accept-Encoding", e); r.Header.Get("Content-Encoding") != "" {
			t.Errorf("Accept-Encoding %q: compressed", e)
		}
	}
}

// TestNothingBeyondTheCheckpoint: what is in the log but not published yet
// is not shown.
func TestNothingBeyondTheCheckpoint(t *testing.T) {
	m := plain(10)
	h := newHandler(t, m)
	m.append([]byte("eleventh"))
	for path, want := range map[string]int{"/tile/0/000.p/10": 200, "/tile/0/000.p/11": 404, "/tile/entries/000.p/11": 404} {
		if r := get(h, path); r.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, r.StatusCode, want)
		}
	}
	empty := newHandler(t, newMemory())
	for _, path := range []string{"/checkpoint", "/tile/0/000.p/1"} {
		if r := get(empty, path); r.StatusCode != 404 {
			t.Errorf("%s of an unpublished log: status %d", path, r.StatusCode)
		}
	}
}

func TestHandlerFailures(t *testing.T) {
	m := plain(300)
	h := newHandler(t, m)
	m.failRead = errors.New("secret inner workings")
	for _, path := range []string{"/checkpoint", "/tile/0/000", "/tile/entries/000"} {
		r := get(h, path)
		if b := body(t, r); r.StatusCode != 500 || bytes.Contains(b, []byte("secret")) {
			t.Errorf("%s: %d %q", path, r.StatusCode, b)
		}
	}
	m.failRead = nil
	m.kept = sign(t, newSigner(t, 2), m.head) // somebody else's
	if r := get(h, "/tile/0/000"); r.StatusCode != 500 {
		t.Errorf("with a checkpoint of another key: %d", r.StatusCode)
	}
	m = newMemory()
	m.append(make([]byte, audit.MaxLeaf), make([]byte, audit.MaxLeaf+1))
	h = newHandler(t, m)
	if r := get(h, "/tile/entries/000.p/1"); r.StatusCode != 200 || len(body(t, r)) != audit.MaxLeaf+2 {
		t.Errorf("the longest leaf: %d", r.StatusCode)
	}
	if r := get(h, "/tile/entries/000.p/2"); r.StatusCode != 500 {
		t.Errorf("a leaf that is too long: %d", r.StatusCode)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/tile/0/000.p/2", nil).WithContext(ctx))
	if w.Body.Len() != 0 {
		t.Errorf("somebody who went away got %q", w.Body)
	}
}

func FuzzTilePath(f *testing.F) {
	for _, s := range []string{"tile/0/000", "tile/entries/x001/234.p/9", "tile/63/x001/x000/000", "tile/0/000.p/256", "tile/x/000"} {
		f.Add(s)
	}
	h := newHandler(f, plain(1))
	form := regexp.MustCompile(`^tile/(0|[1-9]|[1-5][0-9]|6[0-3]|entries)/(x[0-9]{3}/)*[0-9]{3}(\.p/([1-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?$`)
	f.Fuzz(func(t *testing.T, path string) {
		path, _ = strings.CutPrefix(path, "/")
		if !strings.HasPrefix(path, "tile/") {
			return
		}
		status := get(h, path).StatusCode
		there := path == "tile/0/000.p/1" || path == "tile/entries/000.p/1"
		switch {
		case there != (status == 200):
			t.Fatalf("%q: status %d in a log of one leaf", path, status)
		case status != 400 && !form.MatchString(path):
			t.Fatalf("%q: status %d for what is no path of a tile", path, status)
		case status == 400 && len(path) < 30 && form.MatchString(path) && !strings.Contains(path, "/x000/"):
			t.Fatalf("%q: refused, but it is a path of a tile", path)
		}
	})
}
