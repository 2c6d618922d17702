package server

import (
	"net/netip"
	"testing"
	"time"
)

// frozen makes a limiter whose clock moves only when told to.
func frozen[K comparable](perSecond int) (r *rates[K], pass func(time.Duration)) {
	r = newRates[K](perSecond)
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	r.now = func() time.Time { return now }
	return r, func(d time.Duration) {
		r.mu.Lock()
		defer r.mu.Unlock()
		now = now.Add(d)
	}
}

// takes counts how often key gets through before it is refused.
func takes[K comparable](r *rates[K], key K) (n int) {
	for n < 1<<20 {
		if _, ok := r.take(key); !ok {
			return n
		}
		n++
	}
	return n
}

func TestRates(t *testing.T) {
	for _, c := range []struct{ perSecond, burst int }{{1, 20}, {100, 200}} {
		r, pass := frozen[string](c.perSecond)
		if n := takes(r, "a"); n != c.burst {
			t.Errorf("%d a second: a burst of %d, want %d", c.perSecond, n, c.burst)
		}
		if n := takes(r, "b"); n != c.burst {
			t.Errorf("%d a second: another key has %d", c.perSecond, n)
		}
		wait, ok := r.take("a")
		if ok || wait != time.Second/time.Duration(c.perSecond) {
			t.Errorf("%d a second: told to wait %v, %t", c.perSecond, wait, ok)
		}
		pass(wait)
		if n := takes(r, "a"); n != 1 {
			t.Errorf("%d a second: after the wait %d", c.perSecond, n)
		}
		pass(3 * time.Second)
		if n := takes(r, "a"); n != min(3*c.perSecond, c.burst) {
			t.Errorf("%d a second: after 3 seconds %d", c.perSecond, n)
		}
		pass(time.Hour)
		if n := takes(r, "a"); n != c.burst {
			t.Errorf("%d a second: after an hour %d, want a burst", c.perSecond, n)
		}
	}
	if r, _ := frozen[string](0); takes(r, "a") != 1<<20 {
		t.Error("0 is a bound")
	}
}

// However many keys come, the limiter holds no more than its bound, and one
// that keeps coming is not forgotten over the others.
func TestRatesForget(t *testing.T) {
	r, _ := frozen[int](1)
	r.most = 100
	takes(r, -1)
	for key := range 10_000 {
		if _, ok := r.take(key); !ok {
			t.Fatalf("key %d was refused at its first time", key)
		}
		if n := len(r.younger) + len(r.older); n > r.most {
			t.Fatalf("%d keys are held", n)
		}
	}
	r, _ = frozen[int](1)
	r.most = 100
	for n := range leastBurst {
		if _, ok := r.take(-1); !ok {
			t.Fatalf("refused after %d", n)
		}
		for key := range 30 {
			r.take(n*30 + key)
		}
	}
	if _, ok := r.take(-1); ok {
		t.Error("a key that kept coming was forgotten")
	}
}

func TestNeighbourhood(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::ffff:1:2:3", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
	} {
		a, b := neighbourhood(netip.MustParseAddr(c.a)), neighbourhood(netip.MustParseAddr(c.b))
		if (a == b) != c.same {
			t.Errorf("%s and %s: %s and %s", c.a, c.b, a, b)
		}
	}
}

func TestExempt(t *testing.T) {
	c := Default()
	c.Exempt = []string{"198.51.100.0/24", "192.0.2.7", "2001:db8:1::/48", "::ffff:203.0.113.9"}
	for text, want := range map[string]bool{
		"198.51.100.200": true, "198.51.101.1": false, "192.0.2.7": true, "192.0.2.8": false,
		"2001:db8:1:5::1": true, "2001:db8:2::1": false, "203.0.113.9": true,
	} {
		if got := c.exempt().hold(neighbourhood(netip.MustParseAddr(text))); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}
