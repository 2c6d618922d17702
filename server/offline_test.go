package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/ocsp/offline"
	"github.com/touchmark/touchmark/ocsp/offline/publish"
	"github.com/touchmark/touchmark/vetting"
)

// offlineFile reads a file at the status door.
func (w *works) offlineFile(path string) []byte {
	w.t.Helper()
	r, err := http.Get("http://" + w.server.Addrs()["status"] + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 200 || r.Header.Get("Content-Type") != offline.MediaType {
		w.t.Fatalf("%s: %s %v\n%s", path, r.Status, err, b)
	}
	return b
}

func (w *works) revokeUnit(serial string) {
	w.t.Helper()
	if _, err := w.server.store.RevokeDevice(w.t.Context(), access.Act{Operator: "test"}, w.device(serial).ID, vetting.RevokedKeyCompromise, "test"); err != nil {
		w.t.Fatal(err)
	}
}

// TestOfflineStatus asks the files that the server makes about devices that it
// let in: a base a day, then a delta.
func TestOfflineStatus(t *testing.T) {
	w := opened(t)
	good, revoked := w.enrol(v13, w.build("A-1", w.now().Add(time.Hour)), "simpleenroll", nil), w.enrol(v13, w.build("A-2", w.now().Add(time.Hour)), "simpleenroll", nil)
	w.revokeUnit("A-2")
	step := func() {
		w.ahead.Add(int64(25 * time.Hour))
		w.server.offline.Round(t.Context())
	}
	w.ahead.Add(int64(6 * 24 * time.Hour))
	step() // eight days after a base that may have been made at the start
	_, text := get(t, http.DefaultClient, "http://"+w.server.Addrs()["ops"]+"/metrics")
	wantContains(t, text, `touchmark_offline_age_seconds{issuer="device-ca",kind="base"}`, fmt.Sprintf(`touchmark_offline_bytes{issuer="device-ca",kind="base"} %d`, len(w.offlineFile("/filter/device-ca"))), `touchmark_offline_next_update_seconds{issuer="device-ca"}`)
	filter, err := offline.Open(w.offlineFile("/filter/device-ca"), w.server.authorities.Device.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, p pair, want error) {
		t.Helper()
		if err := filter.Check(p.cert, w.now()); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	late := w.enrol(v13, w.build("A-3", w.now().Add(time.Hour)), "simpleenroll", nil)
	check("a good one", good, nil)
	check("a revoked one", revoked, offline.ErrNotGood)
	check("a later one", late, offline.ErrNotCovered)
	w.revokeUnit("A-1")
	check("revoked since", good, nil)

	step()
	if filter, err = filter.With(w.offlineFile("/filter/device-ca/delta")); err != nil {
		t.Fatal(err)
	}
	check("by the delta: revoked since", good, offline.ErrNotGood)
	check("by the delta: revoked before", revoked, offline.ErrNotGood)
	check("by the delta: a later one", late, nil)
	storetest.Verify(t, w.server.store)
	w.ahead.Add(int64(73 * time.Hour))
	check("without another delta for three days", late, offline.ErrOutdated)
	if err := w.server.offline.Check(t.Context()); err == nil {
		t.Error("nobody says that the files are late")
	}
}

// A file covers a certificate that no request could still be committing: to the
// second, and whichever door or database takes how long.
func TestOfflineCoverage(t *testing.T) {
	w := opened(t)
	first := w.enrol(v13, w.build("A-1", w.now().Add(time.Hour)), "simpleenroll", nil)
	makes := func() *offline.Filter {
		t.Helper()
		w.server.offline.Round(t.Context()) // the first, if it was not made yet
		before := w.offlineFile("/filter/device-ca")
		if _, err := w.server.offline.Want("test", vetting.DeviceCA, offline.Base); err != nil {
			t.Fatal(err)
		}
		for bytes.Equal(w.offlineFile("/filter/device-ca"), before) && t.Context().Err() == nil {
			continue // the server makes it in the background
		}
		filter, err := offline.Open(w.offlineFile("/filter/device-ca"), w.server.authorities.Device.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		return filter
	}
	filter := makes()
	if h := filter.Header(); h.ThisUpdate.Sub(h.CoversUntil) != 6*time.Minute+50*time.Second {
		t.Errorf("a file covers until %s before it was made: docs/offline-status.md says otherwise", h.ThisUpdate.Sub(h.CoversUntil))
	}
	if err := filter.Check(first.cert, w.now()); !errors.Is(err, offline.ErrNotCovered) {
		t.Errorf("a certificate from just now: %v", err)
	}
	w.ahead.Add(int64(5*time.Minute + 50*time.Second))
	if err := makes().Check(first.cert, w.now()); err != nil {
		t.Errorf("a certificate from 5 min 50 s before: %v", err)
	}
	for name, timeout := range map[string]func(*Config) *Duration{
		"est":      func(c *Config) *Duration { return &c.EST.RequestTimeout },
		"mqtt":     func(c *Config) *Duration { return &c.MQTT.RequestTimeout },
		"api":      func(c *Config) *Duration { return &c.API.RequestTimeout },
		"database": func(c *Config) *Duration { return &c.DatabaseTimeout },
	} {
		c := Default()
		*timeout(c) = Duration(time.Hour)
		if m := offlineMargin(c); m < time.Hour+ca.Backdate+clockDifference {
			t.Errorf("with an hour's timeout of %s the margin is %s", name, m)
		}
	}
}

// TestOfflineStatusOfNode gets the same bytes from a node that has no CA's
// key, and makes none there.
func TestOfflineStatusOfNode(t *testing.T) {
	w := opened(t)
	n := started(t, w.node(access.RoleResponder))
	w.server.offline.Round(t.Context())
	n.offline.Round(t.Context())
	made := w.offlineFile("/filter/device-ca")
	code, body := get(t, http.DefaultClient, "http://"+n.Addrs()["status"]+"/filter/device-ca")
	if code != 200 || body != string(made) {
		t.Errorf("the node serves %d bytes (%d), the server %d", len(body), code, len(made))
	}
	if _, err := n.offline.Want("test", vetting.DeviceCA, offline.Base); !errors.Is(err, publish.ErrNoKey) {
		t.Errorf("wanted from the node: %v", err)
	}
}
