//go:build unix

package server

import (
	"crypto/tls"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// full keeps every file of this process from growing beyond the size that
// the database's journal has now, as a full disk does, until the returned
// function is called.
func (w *works) full() (free func()) {
	w.t.Helper()
	journal, err := os.Stat(strings.TrimPrefix(w.config.DSN(), "sqlite:") + "-wal")
	if err != nil {
		w.t.Fatal(err)
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		w.t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ) // a write that is too long shall fail, no more
	set := func(l syscall.Rlimit) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
			w.t.Fatal(err)
		}
	}
	set(syscall.Rlimit{Cur: uint64(journal.Size()), Max: before.Max})
	free = func() {
		set(before)
		signal.Reset(syscall.SIGXFSZ)
	}
	w.t.Cleanup(free) // a failed test must not fill the disk of the next
	return free
}

// The disk is full, and then it is not: clear refusals meanwhile, readiness
// says so, and afterwards everything goes on without a restart.
func TestDiskFull(t *testing.T) {
	w := opened(t)
	var units []pair
	for n := range 4 {
		units = append(units, w.build(fmt.Sprintf("S-%d", n), w.now().Add(time.Hour)))
	}
	w.enrol(tls.VersionTLS13, units[0], "simpleenroll", nil)
	for n := range 2 {
		free := w.full()
		w.unavailable(units[n+1])
		if code, body := w.ready(); code != 503 || !strings.Contains(body, `"writes":"`) || !strings.Contains(body, `"database":"ok"`) {
			t.Errorf("readyz on a full disk: %d %s", code, body)
		}
		// What is there can still be read, and devices still get the CAs.
		if code, _, _ := w.est(tls.VersionTLS13, pair{}, "cacerts", nil); code != 200 {
			t.Errorf("cacerts: %d", code)
		}
		free()
		if code, body := w.ready(); code != 200 {
			t.Errorf("readyz with room again: %d %s", code, body)
		}
		w.enrol(tls.VersionTLS13, units[n+1], "simpleenroll", nil)
	}
	w.enrol(tls.VersionTLS13, units[3], "simpleenroll", nil)
	w.enrolled(4)
}
