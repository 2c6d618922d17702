package devicesim_test

import (
	"context"
	"crypto/x509"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/device/devicetest"
	"github.com/touchmark/touchmark/devicesim"
)

func build(t *testing.T, n int) []*devicesim.Unit {
	t.Helper()
	units, err := devicesim.Factory{Prefix: "SN-", Now: time.Now}.Build(0, n)
	if err != nil {
		t.Fatal(err)
	}
	return units
}

func serverOf(s *devicetest.Server) devicesim.Server {
	return devicesim.Server{EST: s.URL, Root: s.Root}
}

// TestFleetThroughMisfortune: whatever breaks on the way, each unit ends
// with one certificate on one key, and the fleet knows every certificate
// that the server gave.
func TestFleetThroughMisfortune(t *testing.T) {
	for name, stores := range map[string]func(string) (device.KeyStore, error){
		"memory": nil,
		"files": func(dir string) func(string) (device.KeyStore, error) {
			return func(serial string) (device.KeyStore, error) { return device.OpenFileStore(filepath.Join(dir, serial)) }
		}(t.TempDir()),
	} {
		t.Run(name, func(t *testing.T) {
			const n = 40
			s := devicetest.New(t)
			units, err := devicesim.Factory{Prefix: "SN-", Now: time.Now, Stores: stores}.Build(0, n)
			if err != nil {
				t.Fatal(err)
			}
			var told atomic.Int64
			fleet := devicesim.Fleet{Servers: []devicesim.Server{serverOf(s)}, Units: units, Workers: 8, Retry: time.Millisecond,
				LostReplies: 0.4, PowerCuts: 0.4, Activate: true,
				Progress: func(int, int, devicesim.Result) { told.Add(1) }}
			results := fleet.Run(context.Background())
			sum := devicesim.Summarize(results)
			if sum.Verdicts["admitted"] != n || told.Load() != n || len(sum.Reasons) != 0 {
				t.Errorf("%d told, %s", told.Load(), sum)
			}
			if sum.Again == 0 || sum.Attempts <= n {
				t.Error("nothing went wrong with so much misfortune")
			}
			if s.Keys() != n {
				t.Errorf("%d keys were certified for %d units", s.Keys(), n)
			}
			for _, r := range results {
				c, err := r.Unit.Store.Load(device.Official)
				if err != nil {
					t.Errorf("%s: %v", r.Unit.Serial, err)
					continue
				}
				if len(r.Certificates) != 1 || !r.Certificates[0].Equal(c.Leaf()) || !s.Used(c.Leaf()) {
					t.Errorf("%s was answered %d certificates", r.Unit.Serial, len(r.Certificates))
				}
			}
		})
	}
}

// TestVerdicts: a refusal and a hold end a unit's day with the server's
// words, a broken line only if it may not try again.
func TestVerdicts(t *testing.T) {
	s, n := devicetest.New(t), 0
	s.Answer = func(w http.ResponseWriter, _ *x509.Certificate, csr *x509.CertificateRequest) bool {
		switch csr.Subject.SerialNumber {
		case "SN-000001", "SN-000002":
			http.Error(w, "All 1 units are used up, "+csr.Subject.SerialNumber+" too many.", http.StatusForbidden)
		case "SN-000003":
			w.Header().Set("Retry-After", "60")
			http.Error(w, "The order is a draft.", http.StatusAccepted)
		case "SN-000004":
			n++
			if n%2 == 1 {
				http.Error(w, "busy", http.StatusServiceUnavailable)
				return true
			}
			return false
		default:
			return false
		}
		return true
	}
	units := build(t, 5)
	fleet := devicesim.Fleet{Servers: []devicesim.Server{serverOf(s)}, Units: units, Workers: 2, Retry: time.Millisecond}
	results := fleet.Run(context.Background())
	for i, want := range []string{"admitted", "refused", "refused", "held", "admitted"} {
		if results[i].Verdict != want || results[i].Unit != units[i] {
			t.Errorf("unit %d: %s: %s", i, results[i].Verdict, results[i].Text)
		}
	}
	sum := devicesim.Summarize(results)
	if len(sum.Reasons) != 2 || sum.Reasons[0].Units != 2 || !strings.HasPrefix(sum.Reasons[0].Text, "All 1 units") || sum.Again != 1 || sum.Attempts != 6 {
		t.Errorf("%+v", sum)
	}
	if text := sum.String(); !strings.Contains(text, "admitted 2, held 1, refused 2, failed 0") || !strings.Contains(text, "2 refused: All 1 units") {
		t.Error(text)
	}
	away := devicesim.Fleet{Servers: []devicesim.Server{{EST: "https://localhost:1", Root: s.Root}}, Units: build(t, 1)}
	if r := away.Run(context.Background())[0]; r.Verdict != "failed" || r.Attempts != 1 {
		t.Errorf("a server that is away: %+v", r)
	}
	ended, end := context.WithCancel(context.Background())
	end()
	away.Retry = time.Hour
	if r := away.Run(ended)[0]; r.Verdict != "failed" {
		t.Errorf("a day that is over: %+v", r)
	}
}

// TestReplay: the request that is sent is the caught one, under the unit's
// own bootstrap key.
func TestReplay(t *testing.T) {
	s, units := devicetest.New(t), build(t, 2)
	victim, err := units[0].Store.Load(device.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	own, err := units[1].Store.Load(device.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	if units[1].Replays, err = device.NewCSR(victim.Key, units[0].Serial); err != nil {
		t.Fatal(err)
	}
	s.Answer = func(w http.ResponseWriter, peer *x509.Certificate, csr *x509.CertificateRequest) bool {
		if !peer.Equal(own.Leaf()) || csr.Subject.SerialNumber != units[0].Serial {
			t.Errorf("%s asks for %s", peer.Subject, csr.Subject)
		}
		http.Error(w, "no", http.StatusForbidden)
		return true
	}
	fleet := devicesim.Fleet{Servers: []devicesim.Server{serverOf(s)}, Units: units[1:]}
	if r := fleet.Run(context.Background())[0]; r.Verdict != "refused" {
		t.Errorf("%+v", r)
	}
}

func TestArrivals(t *testing.T) {
	const n = 1000
	for name, c := range map[string]struct {
		arrival devicesim.Arrival
		last    time.Duration // of unit n-1
		slack   time.Duration
	}{
		"at once": {devicesim.AtOnce, 0, 0},
		"steady":  {devicesim.Steady(100), 9990 * time.Millisecond, 0},
		"waves":   {devicesim.Waves(300, time.Second), 3 * time.Second, 0},
		"poisson": {devicesim.Poisson(100, 1), 10 * time.Second, 2 * time.Second},
	} {
		var before, at time.Duration
		for i := range n {
			if at = c.arrival(i, n); at < before {
				t.Fatalf("%s: unit %d comes before unit %d", name, i, i-1)
			}
			before = at
		}
		if d := (at - c.last).Abs(); d > c.slack {
			t.Errorf("%s: the last unit comes after %s instead of %s", name, at, c.last)
		}
	}
}

// TestArrivalIsKept: units come when the pattern says. No unit has a key, so
// each ends at once.
func TestArrivalIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		units := make([]*devicesim.Unit, 6)
		for i := range units {
			units[i] = &devicesim.Unit{Store: new(device.MemoryStore)}
		}
		began := time.Now()
		var came [6]time.Duration
		fleet := devicesim.Fleet{Servers: []devicesim.Server{{Root: &x509.Certificate{}}}, Units: units, Arrival: devicesim.Waves(2, time.Minute),
			Progress: func(done, _ int, _ devicesim.Result) { came[done-1] = time.Since(began) }}
		fleet.Run(t.Context())
		if want := [6]time.Duration{0, 0, time.Minute, time.Minute, 2 * time.Minute, 2 * time.Minute}; came != want {
			t.Errorf("%v", came)
		}
	})
}

// TestRenewals: a unit renews as often as it is told, through misfortune,
// and ends with the certificate that it was answered last.
func TestRenewals(t *testing.T) {
	s, units := devicetest.New(t), build(t, 20)
	fleet := devicesim.Fleet{Servers: []devicesim.Server{serverOf(s)}, Units: units, Workers: 8, Retry: time.Millisecond,
		LostReplies: 0.2, PowerCuts: 0.2, Activate: true, Renewals: 3}
	for _, r := range fleet.Run(context.Background()) {
		c, err := r.Unit.Store.Load(device.Official)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != "admitted" || !r.Activated() || r.Renewed() != 3 || !s.Used(c.Leaf()) {
			t.Errorf("%s: %s after %d renewals: %s", r.Unit.Serial, r.Verdict, r.Renewed(), r.Text)
		}
		if last := r.Certificates[len(r.Certificates)-1]; !last.Equal(c.Leaf()) {
			t.Errorf("%s holds %x and was answered %x last", r.Unit.Serial, c.Leaf().SerialNumber, last.SerialNumber)
		}
	}
	if s.Keys() < 3*len(units) { // the first, and two re-keyed renewals at least: one is done again if power is cut as it ends
		t.Errorf("%d keys were certified for %d units", s.Keys(), len(units))
	}
}
