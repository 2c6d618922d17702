package api

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// slowly is a client that sends a number of bytes at a time, and pauses
// before each; it notes until when the server would have waited.
type slowly struct {
	*httptest.ResponseRecorder
	data     io.Reader
	clock    time.Time
	pause    time.Duration
	each     int
	deadline time.Time
}

func (s *slowly) SetReadDeadline(t time.Time) error { s.deadline = t; return nil }

func (s *slowly) Read(b []byte) (int, error) {
	if s.clock = s.clock.Add(s.pause); s.clock.After(s.deadline) {
		return 0, io.ErrNoProgress
	}
	return s.data.Read(b[:min(len(b), s.each)])
}

func (s *slowly) Close() error { return nil }

// An upload that trickles ends when 64 KiB took too long; one that is as fast
// as that goes on, however long it is, and however slow the server is.
func TestUploadHasALeastRate(t *testing.T) {
	for name, c := range map[string]struct {
		pause    time.Duration
		each     int
		server   time.Duration // what it does between two reads
		received int
	}{
		"a byte every ten seconds":     {10 * time.Second, 1, 0, 6},
		"1,000 bytes a second":         {time.Second, 1000, 0, 60_000},
		"1,100 bytes a second":         {time.Second, 1100, 0, 1 << 20},
		"one pause of two minutes":     {2 * time.Minute, 1 << 20, 0, 0},
		"a server that is slow itself": {time.Second, 1100, time.Hour, 1 << 20},
	} {
		s := &slowly{ResponseRecorder: httptest.NewRecorder(), data: bytes.NewReader(make([]byte, 1<<20)), clock: time.Unix(0, 0), pause: c.pause, each: c.each}
		p := newPatient(s, http.NewResponseController(s), time.Minute)
		p.now = func() time.Time { return s.clock }
		received, err := 0, error(nil)
		for b := make([]byte, 4096); err == nil; s.clock = s.clock.Add(c.server) {
			var n int
			n, err = p.Read(b)
			received += n
		}
		if received != c.received || (err == io.EOF) != (received == 1<<20) {
			t.Errorf("%s: %d bytes, %v; want %d", name, received, err, c.received)
		}
	}
}
