package publish

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp/offline"
)

// memory is a store that can fail.
type memory struct {
	files   map[place]Kept
	bytes   map[place][]byte
	good    map[int64]bool // certificates by serial number
	asked   int            // for all certificates
	err     error
	hurried bool // another node keeps a file before each of ours
}

func (m *memory) OfflineFiles(context.Context) ([]Kept, error) {
	return slices.Collect(maps.Values(m.files)), m.err
}

func (m *memory) OfflineFile(_ context.Context, issuer int64, kind offline.Kind) ([]byte, error) {
	return m.bytes[place{issuer, kind}], m.err
}

func (m *memory) KeepOfflineFile(_ context.Context, _, _ string, follows int64, f Kept, b []byte) (bool, error) {
	if m.err != nil || m.hurried {
		return false, m.err
	}
	newest := int64(0)
	for _, k := range m.files {
		newest = max(newest, k.Number)
	}
	if follows != newest || f.Number <= newest {
		return false, errors.New("it follows another file")
	}
	at := place{f.Issuer, f.Kind}
	m.files[at], m.bytes[at] = f, b
	return true, nil
}

func (m *memory) IssuedCertificates(_ context.Context, _ int64, _ time.Time, each func([]byte, bool) error) error {
	m.asked++
	for serial, good := range m.good {
		if err := each(big.NewInt(serial).Bytes(), good); err != nil {
			return err
		}
	}
	return m.err
}

// world is a maker on a memory, with a clock.
type world struct {
	*Maker
	store *memory
	clock time.Time
	log   bytes.Buffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{store: &memory{files: map[place]Kept{}, bytes: map[place][]byte{}, good: map[int64]bool{}}, clock: time.Now()}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Device CA"}, NotAfter: w.clock.Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for serial := int64(1); serial <= 20_000; serial++ {
		w.store.good[serial] = serial%50 != 0
	}
	issuers := []Issuer{{0, "device-ca", cert, key}, {7, "elsewhere", cert, nil}}
	w.Maker = NewMaker(Maker{
		Schedule:  Schedule{Every: 24 * time.Hour, BaseEvery: 7 * 24 * time.Hour, Validity: 72 * time.Hour, Margin: 10 * time.Minute},
		Directory: &Directory{Store: w.store}, Issuers: func() []Issuer { return issuers },
		Spool: t.TempDir(), Log: slog.New(slog.NewTextHandler(&w.log, nil)), Now: func() time.Time { return w.clock },
	})
	return w
}

// made is the newest file's kind and number.
func (w *world) made() (offline.Kind, int64) {
	f := w.Directory.newest(0)
	if f == nil {
		return 0, 0
	}
	return f.Kind, f.Number
}

func TestSchedule(t *testing.T) {
	w := newWorld(t)
	for _, step := range []struct {
		after time.Duration
		kind  offline.Kind
	}{
		{0, offline.Base}, {time.Hour, 0}, {23 * time.Hour, offline.Delta}, {time.Minute, 0}, {24 * time.Hour, offline.Delta}, {5 * 24 * time.Hour, offline.Base}, {24 * time.Hour, offline.Delta},
		{-48 * time.Hour, offline.Base}, // the clock was set back
	} {
		_, before := w.made()
		w.clock = w.clock.Add(step.after)
		w.Round(t.Context())
		kind, number := w.made()
		if number > before != (step.kind != 0) || step.kind != 0 && kind != step.kind {
			t.Fatalf("%s later: %s %d is the newest after %d, want %s\n%s", step.after, kind, number, before, step.kind, &w.log)
		}
	}
	left, err := os.ReadDir(w.Spool)
	if err != nil || len(left) > 0 {
		t.Errorf("%d temporary files are left (%v)", len(left), err)
	}
	if w.store.asked != 6 {
		t.Errorf("all certificates were read %d times for 6 files", w.store.asked)
	}
}

// TestLargeDeltaBecomesABase lets so much change that a delta saves nothing.
func TestLargeDeltaBecomesABase(t *testing.T) {
	w := newWorld(t)
	w.Round(t.Context())
	for serial := range w.store.good {
		w.store.good[serial] = serial%30 != 0
	}
	for _, want := range []offline.Kind{offline.Delta, offline.Base, offline.Delta} {
		w.clock = w.clock.Add(24 * time.Hour)
		w.Round(t.Context())
		if kind, _ := w.made(); kind != want {
			t.Fatalf("made was a %s, want a %s", kind, want)
		}
	}
}

// TestLag lets the node that comes first make the file.
func TestLag(t *testing.T) {
	first := newWorld(t)
	second := *first
	second.Maker = NewMaker(*first.Maker)
	second.Schedule.Lag = 10 * time.Minute
	first.Round(t.Context())
	second.Round(t.Context())
	_, base := first.made()
	first.clock = first.clock.Add(24*time.Hour + 5*time.Minute)
	second.clock = first.clock
	second.Round(t.Context())
	if _, number := second.made(); number != base {
		t.Errorf("the second node made number %d before its time", number)
	}
	first.Round(t.Context())
	if _, number := first.made(); number <= base {
		t.Error("the first node made nothing")
	}
}

func TestWanted(t *testing.T) {
	w := newWorld(t)
	for name, want := range map[string]error{"nobody": ErrNoIssuer, "elsewhere": ErrNoKey} {
		if _, err := w.Want("anna", name, offline.Base); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	ended, ticks := make(chan struct{}), make(chan time.Time)
	go func() { defer close(ended); w.Run(ctx, ticks) }()
	after, err := w.Want("anna", "device-ca", offline.Delta)
	if err != nil || after != 0 {
		t.Fatal(after, err)
	}
	for w.Directory.Base(0) == nil {
		ticks <- w.clock // a round makes it, if the wish does not
	}
	stop()
	<-ended
	for range cap(w.wanted) {
		if _, err := w.Want("anna", "device-ca", offline.Delta); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Want("anna", "device-ca", offline.Delta); !errors.Is(err, ErrBusy) {
		t.Errorf("one wish too many: %v", err)
	}
}

// TestOvertaken keeps nothing that another node was faster with, and goes on
// from what that made.
func TestOvertaken(t *testing.T) {
	w := newWorld(t)
	w.store.hurried = true
	w.Round(t.Context())
	if kind, number := w.made(); number != 0 {
		t.Errorf("kept is %s %d", kind, number)
	}
	w.store.hurried = false
	w.Round(t.Context())
	if _, number := w.made(); number != w.clock.Unix() {
		t.Errorf("the newest is number %d, want the time", number)
	}
}

// TestFailures goes on with what was read before, says once that it fails, and
// makes the file when it can.
func TestFailures(t *testing.T) {
	w := newWorld(t)
	w.Round(t.Context())
	_, first := w.made()
	w.clock = w.clock.Add(25 * time.Hour)
	w.store.err = errors.New("the database is gone")
	for range 3 {
		w.Round(t.Context())
	}
	if n := strings.Count(w.log.String(), "could not be read"); n != 1 {
		t.Errorf("the log says %d times that the files cannot be read:\n%s", n, &w.log)
	}
	if kind, number := w.made(); kind != offline.Base || number != first {
		t.Errorf("without a database the newest is %s %d", kind, number)
	}
	w.store.err = nil
	spool, failures := w.Spool, 0
	w.Spool, w.Failed = "/dev/null/nowhere", func(issuer string) {
		if failures++; issuer == "" {
			t.Error("a failure is nobody's")
		}
	}
	for range 3 {
		w.Round(t.Context())
		w.clock = w.clock.Add(retryAfter)
	}
	if n := strings.Count(w.log.String(), "could not be made"); n != 1 {
		t.Errorf("the log says %d times that it fails:\n%s", n, &w.log)
	}
	if failures != 3 {
		t.Errorf("%d failures are counted, want 3", failures)
	}
	w.clock = w.clock.Add(-time.Second)
	w.Spool = spool
	w.Round(t.Context())
	if kind, _ := w.made(); kind != offline.Base {
		t.Error("it is tried again too soon")
	}
	w.clock = w.clock.Add(time.Second)
	w.Round(t.Context())
	if kind, number := w.made(); kind != offline.Delta || number <= first {
		t.Errorf("afterwards the newest is %s %d\n%s", kind, number, &w.log)
	}
}

// TestReplay tells from the file what was told first.
func TestReplay(t *testing.T) {
	type entry struct {
		serial string
		good   bool
	}
	first := []entry{{"\x01", true}, {"", false}, {strings.Repeat("\xff", 20), false}, {"\x80\x00", true}}
	asked := 0
	u, done := replayed(t.TempDir(), func(_ context.Context, each func([]byte, bool) error) error {
		asked++
		for _, e := range first {
			if err := each([]byte(e.serial), e.good); err != nil {
				return err
			}
		}
		return nil
	})
	defer done()
	for range 3 {
		var told []entry
		if err := u(t.Context(), func(serial []byte, good bool) error {
			told = append(told, entry{string(serial), good})
			return nil
		}); err != nil || !slices.Equal(told, first) {
			t.Errorf("told %v, %v", told, err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	stop := errors.New("enough")
	if err := u(t.Context(), func([]byte, bool) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("broken off: %v", err)
	}
}

func TestHandler(t *testing.T) {
	w := newWorld(t)
	s := httptest.NewServer(&Handler{Directory: w.Directory, Issuer: func(name string) (int64, bool) { return 0, name == "device-ca" }})
	defer s.Close()
	ask := func(method, path string, want int, header ...string) (*http.Response, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("%s %s: %s, want %d (%v)", method, path, resp.Status, want, err)
		}
		if cached := resp.Header.Get("Cache-Control"); strings.Contains(cached, "public") != (want < 400) {
			t.Errorf("%s %s: %d with Cache-Control %q", method, path, want, cached)
		}
		return resp, b
	}
	ask("GET", "/filter/device-ca", 404)
	w.Round(t.Context())
	resp, b := ask("GET", "/filter/device-ca", 200)
	base := w.Directory.Base(0)
	if !bytes.Equal(b, base.Bytes) || resp.Header.Get("ETag") != `"`+hex.EncodeToString(base.Digest[:])+`"` || resp.Header.Get("Content-Type") != offline.MediaType {
		t.Errorf("%d bytes, %v", len(b), resp.Header)
	}
	if _, b := ask("HEAD", "/filter/device-ca", 200); len(b) != 0 {
		t.Errorf("HEAD has %d bytes", len(b))
	}
	ask("GET", "/filter/device-ca", 304, "If-None-Match", resp.Header.Get("ETag"))
	ask("GET", "/filter/device-ca", 304, "If-Modified-Since", resp.Header.Get("Last-Modified"))
	if _, b := ask("GET", "/filter/device-ca", 206, "Range", "bytes=10-19"); !bytes.Equal(b, base.Bytes[10:20]) {
		t.Errorf("a range: %x", b)
	}
	ask("POST", "/filter/device-ca", 405)
	ask("GET", "/filter/device-ca/delta", 404)
	for _, path := range []string{"/filter/", "/filter/other", "/filter/device-ca/", "/filter/device-ca/delta/delta", "/filter/device%2Dca/x"} {
		ask("GET", path, 404)
	}
	w.clock = w.clock.Add(25 * time.Hour)
	w.Round(t.Context())
	if _, b := ask("GET", "/filter/device-ca/delta", 200); !bytes.Equal(b, w.Directory.Delta(0).Bytes) {
		t.Errorf("%d bytes of a delta", len(b))
	}
	w.clock = w.clock.Add(8 * 24 * time.Hour)
	w.Round(t.Context())
	ask("GET", "/filter/device-ca/delta", 404) // there is none of the new base
}
