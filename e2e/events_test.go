package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/devicesim"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/server"
)

// receiver takes deliveries, but for every fifth, which it answers 500.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex
	got  []events.Position
	n    int
	news chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{news: make(chan struct{}, 1)}
	r.Server = httptest.NewServer(http.HandlerFunc(r.receive))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) receive(w http.ResponseWriter, req *http.Request) {
	var m struct {
		Events []struct{ ID events.Position }
	}
	b, err := io.ReadAll(req.Body)
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n++; err != nil || r.n%5 == 0 {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	for _, e := range m.Events {
		r.got = append(r.got, e.ID)
	}
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// checkEvents demands that each event came, in order, apart from repetitions
// of what came before. It reports whether all have come.
func (r *receiver) check(t *testing.T, want []events.Position) (all bool) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	next := 0
	for _, id := range r.got {
		i, found := slices.BinarySearchFunc(want, id, func(a, b events.Position) int {
			switch {
			case a.Before(b):
				return -1
			case b.Before(a):
				return 1
			}
			return 0
		})
		if !found || i > next {
			t.Fatalf("event %s came after %d of %d", id, next, len(want))
		}
		next = max(next, i+1)
	}
	return next == len(want)
}

func eventsOf(t *testing.T, s *store.Store) (list []events.Position) {
	t.Helper()
	for after := (events.Position{}); ; {
		p, err := s.Events(context.Background(), after, events.Filter{}, 500)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Events {
			list = append(list, e.ID)
		}
		if after = p.Next; !p.More() {
			return list
		}
	}
}

// TestEventsSurviveKill kills the server again and again while a fleet enrols
// and a webhook is delivered to. At the end each event has come, in order.
func TestEventsSurviveKill(t *testing.T) {
	for name, dsn := range storetest.Databases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time it waits
			const n, kills = 60, 2
			r := newReceiver(t)
			i := install(t, dsn)
			i.allowTargets("127.0.0.1")
			i.start()
			f, units := build(t, n)
			if err := i.admin().Do(context.Background(), "POST", "/webhooks", map[string]any{"name": "erp", "url": r.URL, "after": "0-0"}, nil); err != nil {
				t.Fatal(err)
			}
			i.order(n, units, f)
			steps := make(chan struct{}, n)
			fleet := devicesim.Fleet{Servers: []devicesim.Server{i.server()}, Units: units, Workers: 4, Retry: 20 * time.Millisecond,
				Progress: func(int, int, devicesim.Result) { steps <- struct{}{} }}
			ended := make(chan struct{})
			go func() { fleet.Run(context.Background()); close(ended) }()
			for range kills {
				for range 10 {
					<-steps
				}
				<-r.news // while it is being delivered to
				i.kill()
				i.start()
			}
			<-ended
			want := eventsOf(t, i.store())
			if len(want) < 2*n {
				t.Errorf("only %d events of %d devices", len(want), n)
			}
			patience := time.After(time.Minute)
			for !r.check(t, want) {
				select {
				case <-r.news:
				case <-patience:
					t.Fatal("not all events came")
				}
			}
			i.stop()
			verifyLog(t, i.store())
		})
	}
}

// allowTargets has the installation's webhooks go to an address of this
// machine.
func (i *installation) allowTargets(list ...string) {
	i.t.Helper()
	file := filepath.Join(i.dir, server.ConfigFile)
	c, err := server.LoadConfig(file)
	if err != nil {
		i.t.Fatal(err)
	}
	c.Events.AllowTargets, c.Dir = list, "."
	if err := os.WriteFile(file, []byte(server.Sample(c)), 0o600); err != nil {
		i.t.Fatal(err)
	}
}
