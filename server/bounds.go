package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

// Why a request is turned away.
const (
	shedRequests    = "requests"
	shedRequestRate = "request-rate"
	shedDeviceRate  = "device-rate"
	shedSiteRate    = "site-rate"
	shedCodeRate    = "code-rate"
	shedQueue       = "queue"
)

// bounds holds a door's requests to the limits of the door.
type bounds struct {
	http.Handler
	door    string
	exempt  networks
	rates   *rates[netip.Prefix]
	places  chan struct{}               // filled by the requests that are worked on
	clock   func(context.Context) error // nil is always right
	shed    *prometheus.CounterVec
	working prometheus.Gauge
}

func bounded(d door, h http.Handler, m *metrics) *bounds {
	return &bounds{
		Handler: h, door: d.name, exempt: d.exempt, rates: newRates[netip.Prefix](d.limits.RequestRate),
		places: make(chan struct{}, d.limits.MaxRequests), shed: m.shed, working: m.working.WithLabelValues(d.name),
	}
}

func (b *bounds) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if wait, ok := b.fair(r.RemoteAddr); !ok {
		b.shed.WithLabelValues(b.door, shedRequestRate).Inc()
		w.Header().Set("Connection", "close") // going on costs it a handshake
		b.refuse(w, http.StatusTooManyRequests, wait, "too many requests came from this address: send fewer, or have the server's operator exempt the address of a factory")
		return
	}
	if b.clock != nil && b.clock(r.Context()) != nil {
		b.refuse(w, http.StatusServiceUnavailable, time.Minute, "the server's clock is wrong: try again when it was set")
		return
	}
	select {
	case b.places <- struct{}{}:
	default:
		b.shed.WithLabelValues(b.door, shedRequests).Inc()
		b.refuse(w, http.StatusServiceUnavailable, time.Second, "the server has as many requests as it can work on: try again")
		return
	}
	b.working.Inc()
	p := &place{ReadCloser: r.Body, ctx: r.Context(), bounds: b}
	defer p.leave()
	r.Body = p
	b.Handler.ServeHTTP(w, r)
}

// fair holds an address to its rate.
func (b *bounds) fair(remote string) (wait time.Duration, ok bool) {
	from, err := netip.ParseAddrPort(remote)
	if err != nil {
		return 0, true // not from a network
	}
	home := neighbourhood(from.Addr())
	if b.exempt.hold(home) {
		return 0, true
	}
	return b.rates.take(home)
}

// refuse answers in the door's manner: problem details (RFC 9457) to
// operators, text (RFC 8951 §5) to devices.
func (b *bounds) refuse(w http.ResponseWriter, status int, wait time.Duration, text string) {
	w.Header().Set("Retry-After", seconds(wait))
	if b.door != "api" {
		http.Error(w, text, status)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	// The status is out; a client that is gone cannot be told any more.
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": text})
}

// seconds is a Retry-After: whole seconds, at least one.
func seconds(d time.Duration) string { return strconv.Itoa(max(1, int(math.Ceil(d.Seconds())))) }

// place is what a request takes while it is worked on. It gives its place up
// as long as it waits for its body: whoever sends a byte a second must not
// keep out those who are ready.
type place struct {
	io.ReadCloser
	ctx    context.Context
	bounds *bounds
	away   bool
}

func (p *place) Read(b []byte) (int, error) {
	p.leave()
	n, err := p.ReadCloser.Read(b)
	if err != nil && err != io.EOF {
		return n, err // all that is left is to say so
	}
	if late := p.enter(); late != nil {
		return n, late
	}
	return n, err
}

// enter takes the place again. It is inside already, so it waits, and goes
// before newcomers, who do not.
func (p *place) enter() error {
	select {
	case p.bounds.places <- struct{}{}:
	default:
		select {
		case p.bounds.places <- struct{}{}:
		case <-p.ctx.Done():
			// To whoever reads the body it came too late.
			return fmt.Errorf("wait for a place to go on: %w (%w)", p.ctx.Err(), os.ErrDeadlineExceeded)
		}
	}
	p.away = false
	p.bounds.working.Inc()
	return nil
}

// Leave gives the place up for good, while the answer goes on: a stream
// waits most of its time. server/api looks for it on a request's body.
func (p *place) Leave() { p.leave() }

func (p *place) leave() {
	if !p.away {
		p.away = true
		<-p.bounds.places
		p.bounds.working.Dec()
	}
}

// fairEnroller holds keys, sites and guesses to their rates. They are known
// here: the key was proved by the handshake, the site by the operator's entry,
// whether a code counts by the verdict.
type fairEnroller struct {
	enroller
	devices *rates[vetting.Fingerprint]
	sites   *rates[string]
	guesses *guesses
	shed    *prometheus.CounterVec
}

func newFairEnroller(c Enrol, exempt networks, m *metrics, e enroller) *fairEnroller {
	return &fairEnroller{enroller: e, shed: m.shed, devices: newRates[vetting.Fingerprint](c.DeviceRate),
		sites: newRates[string](c.SiteRate), guesses: newGuesses(c.CodeRate, exempt)}
}

func (f *fairEnroller) Enroll(ctx context.Context, r enroll.Request) (enroll.Outcome, error) {
	if err := f.admit(&r.Claim); err != nil {
		return enroll.Outcome{}, err
	}
	out, err := f.enroller.Enroll(ctx, r)
	if vetting.CodeRefused(out.Reasons) {
		f.guesses.failed(&r.Claim)
	}
	if busy := new(enroll.BusyError); errors.As(err, &busy) {
		f.shed.WithLabelValues(r.Claim.Transport, shedQueue).Inc()
	}
	return out, err
}

// admit refuses what is too much.
func (f *fairEnroller) admit(c *vetting.Claim) error {
	refuse := func(bound, whose string, wait time.Duration) error {
		f.shed.WithLabelValues(c.Transport, bound).Inc()
		return &enroll.BusyError{Reason: "too many requests " + whose + ": send fewer", RetryAfter: wait, Share: true}
	}
	coded := !c.Auth.CodeHash.IsZero()
	if coded {
		if wait, late := f.guesses.wait(c); late {
			return refuse(shedCodeRate, "with enrolment codes that do not count, from this address or for this serial number", wait)
		}
	}
	key := c.Auth.Key
	switch {
	case c.Auth.Proof == vetting.ProofRig:
		if wait, ok := f.sites.take(c.Auth.Site); !ok {
			return refuse(shedSiteRate, "by the rigs of site "+c.Auth.Site, wait)
		}
		return nil
	case key.IsZero() && coded: // a code alone stands for the device
		key = vetting.Fingerprint(c.Auth.CodeHash)
	}
	if wait, ok := f.devices.take(key); !ok {
		return refuse(shedDeviceRate, "by this key", wait)
	}
	return nil
}
