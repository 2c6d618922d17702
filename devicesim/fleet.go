package devicesim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/device"
)

// Arrival says when units power on, as the delay of unit i of n.
type Arrival func(i, n int) time.Duration

// AtOnce powers everything on together.
func AtOnce(int, int) time.Duration { return 0 }

// Steady powers units on at a rate per second.
func Steady(perSecond float64) Arrival {
	return func(i, _ int) time.Duration { return time.Duration(float64(i) / perSecond * float64(time.Second)) }
}

// Waves powers units on in groups of a size, one every gap: a pallet, then
// the next.
func Waves(size int, gap time.Duration) Arrival {
	return func(i, _ int) time.Duration { return time.Duration(i/size) * gap }
}

// Poisson powers units on independently of each other at a mean rate per
// second.
func Poisson(perSecond float64, seed uint64) Arrival {
	r := rand.New(rand.NewPCG(seed, 0))
	var at time.Duration
	return func(int, int) time.Duration {
		at += time.Duration(r.ExpFloat64() / perSecond * float64(time.Second))
		return at
	}
}

// Server is where a fleet enrols.
type Server struct {
	EST   string // https://HOST:PORT
	MQTT  string // HOST:PORT of its broker; "" is none
	Label string
	Root  *x509.Certificate
	CAs   []*x509.Certificate
}

func (s Server) roots() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(s.Root)
	return p
}

// Client is a device's EST client of the server.
func (s Server) Client() *device.Client {
	return &device.Client{URL: s.EST, Label: s.Label, Roots: s.roots()}
}

// MQTTClient is a device's MQTT client of the server.
func (s Server) MQTTClient() *device.MQTTClient {
	return &device.MQTTClient{Address: s.MQTT, Product: s.Label, Roots: s.roots()}
}

// Fleet is a number of units that power on.
type Fleet struct {
	Servers []Server // unit i uses number i modulo their count
	Units   []*Unit
	Arrival Arrival
	// Workers is how many units act at the same time at most.
	Workers int
	// LostReplies is the share (0 to 1) of requests whose answer is lost:
	// the line is cut as soon as the request was sent, or when the answer
	// has come. PowerCuts is the share of boots that end while the unit
	// writes to its store, before or after a write was durable.
	LostReplies, PowerCuts float64
	// OverMQTT has the units speak MQTT instead of EST. No replies are lost
	// there.
	OverMQTT bool
	// Activate makes every admitted unit use its certificate once.
	Activate bool
	// Renewals is how often a unit that was activated renews, by turns on a
	// new key and on the same one, and uses what it got.
	Renewals int
	// Retry is the pause before another attempt after a broken line; 0 ends
	// the unit's day at the first failure.
	Retry time.Duration
	// Progress, if set, is told after each unit.
	Progress func(done, total int, r Result)
}

// Result is how one unit's day ended.
type Result struct {
	Unit *Unit
	// Verdict is "admitted", "held", "refused" or "failed".
	Verdict string
	// Text is the server's reason.
	Text string
	// Certificates are all that the server ever answered to it, also in
	// answers that were lost on the last yard.
	Certificates []*x509.Certificate
	Attempts     int
	Took         time.Duration // of the last attempt
	steps        int           // of its life that are behind it
}

// Activated reports whether the unit has used its certificate.
func (r Result) Activated() bool { return r.steps > 1 }

// Renewed is how many renewals the unit has used.
func (r Result) Renewed() int { return max(0, r.steps/2-1) }

// Run powers the fleet on and waits until every unit's day has ended or ctx
// does.
func (f *Fleet) Run(ctx context.Context) []Result {
	results := make([]Result, len(f.Units))
	arrival := f.Arrival
	if arrival == nil {
		arrival = AtOnce
	}
	begin := time.Now()
	var done atomic.Int64
	slots := make(chan struct{}, max(1, f.Workers))
	var wg sync.WaitGroup
	for i, u := range f.Units {
		wait(ctx, time.Until(begin.Add(arrival(i, len(f.Units)))))
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			results[i] = f.live(ctx, u, f.Servers[i%len(f.Servers)])
			n := done.Add(1)
			if f.Progress != nil {
				f.Progress(int(n), len(f.Units), results[i])
			}
		})
	}
	wg.Wait()
	return results
}

// live is one unit's day: power on, again and again until the server decides.
func (f *Fleet) live(ctx context.Context, u *Unit, s Server) Result {
	r := Result{Unit: u}
	for {
		began := time.Now()
		r.Attempts++
		err := f.attempt(ctx, u, s, &r)
		r.Took = time.Since(began)
		var refused *device.StatusError
		var held *device.PendingError
		switch {
		case err == nil:
			r.Verdict = "admitted"
			return r
		case errors.Is(err, errPowerCut) && ctx.Err() == nil:
			continue // it boots again
		case errors.As(err, &held):
			r.Verdict, r.Text = "held", held.Text
			return r
		case errors.As(err, &refused) && refused.Final():
			r.Verdict, r.Text = "refused", refused.Text
			return r
		case f.Retry == 0 || ctx.Err() != nil:
			r.Verdict, r.Text = "failed", err.Error()
			return r
		}
		wait(ctx, time.Duration(float64(f.Retry)*(0.5+rand.Float64())))
	}
}

// attempt is one boot of a unit: all that it remembers is in its store.
func (f *Fleet) attempt(ctx context.Context, u *Unit, s Server, r *Result) error {
	client := s.Client()
	client.Transport = func(cfg *tls.Config) http.RoundTripper {
		l := &line{next: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}, answered: r.add}
		if rand.Float64() < f.LostReplies {
			l.cut = cuts[rand.IntN(len(cuts))]
		}
		return l
	}
	if u.Code != "" {
		client.Login = &device.Login{User: u.Serial, Code: u.Code}
	}
	d := &device.Device{Serial: u.Serial, Store: u.Store, Client: client, Root: s.Root, CAs: s.CAs}
	if f.OverMQTT {
		d.MQTT = s.MQTTClient()
	}
	if rand.Float64() < f.PowerCuts {
		d.Store = &failingStore{KeyStore: u.Store, left: rand.IntN(writes), after: rand.IntN(2) == 0}
	}
	if u.Replays != nil {
		return replay(ctx, d, u.Replays)
	}
	for steps := f.life(); r.steps < len(steps); r.steps++ {
		if err := steps[r.steps](ctx, d); err != nil {
			return err
		}
		if c, err := u.Store.Load(device.Official); err == nil && f.OverMQTT { // else the line saw it
			r.add(c.Leaf())
		}
	}
	return nil
}

// life is what a unit does between its first power-on and the end of its
// day. A step that failed is done again at the next boot.
func (f *Fleet) life() []func(context.Context, *device.Device) error {
	use := func(ctx context.Context, d *device.Device) error { return d.Use(ctx) }
	steps := []func(context.Context, *device.Device) error{
		func(ctx context.Context, d *device.Device) error { _, err := d.PowerOn(ctx); return err },
	}
	if !f.Activate {
		return steps
	}
	steps = append(steps, use)
	for i := range f.Renewals {
		steps = append(steps, func(ctx context.Context, d *device.Device) error { _, err := d.Renew(ctx, i%2 == 0); return err }, use)
	}
	return steps
}

// replay sends somebody else's request under the unit's own name.
func replay(ctx context.Context, d *device.Device, csr []byte) error {
	bootstrap, err := d.Store.Load(device.Bootstrap)
	if err != nil {
		return err
	}
	_, err = d.Client.Enrol(ctx, bootstrap, csr)
	return err
}

func (r *Result) add(cert *x509.Certificate) {
	for _, c := range r.Certificates {
		if c.Equal(cert) {
			return
		}
	}
	r.Certificates = append(r.Certificates, cert)
}

// wait pauses, or returns when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
