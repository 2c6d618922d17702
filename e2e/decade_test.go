package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/devicesim"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/server"
	"github.com/touchmark/touchmark/vetting"
)

const day = 24 * time.Hour

// TestDecade lets a fleet, of TOUCHMARK_DECADE devices or a few, live through
// ten years, with a clock that the test moves: devices renew, by turns on new
// keys or on their own, lose answers, sleep beyond their certificates' ends,
// are sold on, and one in a hundred is copied. Every copy is found, no other
// device is taken for one, and each belongs to whom it was sold to.
func TestDecade(t *testing.T) {
	for name, dsn := range storetest.Databases(t) {
		t.Run(name, func(t *testing.T) {
			d := newDecade(t, dsn, number(t, "TOUCHMARK_DECADE", 1, 60))
			for d.today() < 3650 {
				d.trade()
				d.live()
				d.decide()
				d.clock.Add(int64(day))
			}
			d.judge()
			verifyLog(t, d.store)
		})
	}
}

// decade is a fleet and its server, at a time of the test's own.
type decade struct {
	t     *testing.T
	start time.Time
	clock atomic.Int64
	store *store.Store // as an operator's server beside the devices' one

	mu     sync.Mutex
	beings []*being
	count  map[string]int
	market market
}

// being is one physical thing that speaks for a device: the device itself, or
// a copy.
type being struct {
	*decade
	unit   *devicesim.Unit
	device *device.Device
	rand   *rand.Rand
	rekeys bool
	sleeps int // the day on which it falls asleep, once
	copied int // the day on which somebody copies it; 0 is never
	copy   bool
	twin   *being // its copy

	owner  string // "" is the manufacturer
	traded int    // the day on which it changed hands last
	came   int    // the day on which it got its newest certificate; on one day it changes hands first

	next    time.Time
	unused  bool // it has a new certificate that it did not use yet
	refused string
	found   int // the day on which it was refused as a copy, or the copied one
}

func (d *decade) now() time.Time { return d.start.Add(time.Duration(d.clock.Load())) }

func (d *decade) today() int { return int(time.Duration(d.clock.Load()) / day) }

func (d *decade) counted(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count[what]++
}

func newDecade(t *testing.T, dsn string, n int) *decade {
	t.Helper()
	d := &decade{t: t, start: time.Now(), count: map[string]int{}}
	i := install(t, dsn)
	i.serveHere(d.now)
	f, units := build(t, n)
	i.order(n, units, f)
	d.store = d.open(i)
	p, err := d.store.Product(t.Context(), "thermo")
	if err != nil {
		t.Fatal(err)
	}
	p.Profile.Validity, p.Life = "365d", vetting.Life{RenewWindow: "50%", Grace: "90d", Rescue: "3650d"}
	if _, err := d.store.UpdateProduct(t.Context(), storetest.By, p); err != nil {
		t.Fatal(err)
	}
	d.openMarket()
	s := i.server()
	for k, u := range units {
		r := rand.New(rand.NewPCG(uint64(k), 7))
		b := &being{decade: d, unit: u, rand: r, rekeys: k%5 != 0, next: d.start.Add(time.Duration(r.IntN(300)) * day)}
		if r.IntN(20) == 0 {
			b.sleeps = 300 + r.IntN(2500)
		}
		if k%100 == 7 || k%100 == 20 && n < 100 { // one on new keys, and in a small fleet one on its own
			b.copied = 400 + r.IntN(2400)
		}
		b.device = &device.Device{Serial: u.Serial, Store: u.Store, Root: s.Root, CAs: s.CAs, Client: s.Client()}
		b.wire()
		d.beings = append(d.beings, b)
	}
	return d
}

func (d *decade) open(i *installation) *store.Store {
	d.t.Helper()
	config, err := server.LoadConfig(filepath.Join(i.dir, server.ConfigFile))
	if err != nil {
		d.t.Fatal(err)
	}
	s, err := store.Open(d.t.Context(), store.Options{DSN: config.DSN(), Now: d.now})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { s.Close() })
	return s
}

// wire gives the being the fleet's clock, and a line that loses one answer in
// twenty.
func (b *being) wire() {
	b.device.Client.Now = b.now
	b.device.Client.Transport = func(c *tls.Config) http.RoundTripper {
		return &lossy{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}, lose: b.rand.IntN(20) == 0, count: b.counted}
	}
}

// lossy loses the answer after the server has done its work.
type lossy struct {
	*http.Transport
	lose  bool
	count func(string)
}

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := l.Transport.RoundTrip(r)
	if err != nil || !l.lose {
		return response, err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return nil, err
	}
	l.count("lost answers")
	return nil, errors.New("the answer was lost")
}

// live lets everybody do what is due today.
func (d *decade) live() {
	slots := make(chan struct{}, 16)
	var today sync.WaitGroup
	for _, b := range slices.Clone(d.beings) {
		if b.copied == d.today() && b.copied > 0 {
			d.copy(b)
		}
		if b.refused != "" || b.next.After(d.now()) {
			continue
		}
		slots <- struct{}{}
		today.Go(func() {
			b.live()
			<-slots
		})
	}
	today.Wait()
}

// copy is a thief with a reader: all of the device's storage, in another
// device.
func (d *decade) copy(b *being) {
	taken := new(device.MemoryStore)
	for _, slot := range []device.Slot{device.Bootstrap, device.Pending, device.Official} {
		c, err := b.unit.Store.Load(slot)
		if errors.Is(err, device.ErrEmpty) {
			continue
		}
		if err != nil {
			d.t.Fatal(err)
		}
		taken.Put(slot, *c)
	}
	own := *b.device
	client := *b.device.Client
	own.Store, own.Client = taken, &client
	b.twin = &being{decade: d, unit: b.unit, device: &own, rand: rand.New(rand.NewPCG(uint64(d.today()), 9)), rekeys: b.rekeys, copy: true, next: b.next}
	b.twin.wire()
	d.beings = append(d.beings, b.twin)
	d.count["copies"]++
}

// live is a being's day: enrol or renew, use what it got, and plan when to
// come again.
func (b *being) live() {
	ctx := b.t.Context()
	err := b.obtain(ctx)
	if err == nil {
		b.unused = true
		if err = b.device.Use(ctx); err == nil {
			b.unused = false
		}
	}
	b.plan(ctx, err)
}

func (b *being) obtain(ctx context.Context) error {
	if b.unused {
		return nil
	}
	_, err := b.device.Store.Load(device.Official)
	switch {
	case errors.Is(err, device.ErrEmpty):
		_, err = b.device.PowerOn(ctx)
	case err == nil:
		_, err = b.renew(ctx)
	}
	if err == nil {
		b.arrived()
	}
	return err
}

// arrived notes that it has a new certificate.
func (b *being) arrived() {
	if b.came < b.traded {
		b.counted("came to another owner")
	}
	b.came = b.today()
}

// renew takes the same key if the certificate ran out: nothing else is
// allowed then.
func (b *being) renew(ctx context.Context) (*device.Credential, error) {
	c, err := b.device.Store.Load(device.Official)
	if err != nil {
		return nil, err
	}
	late := c.Leaf().NotAfter.Before(b.now())
	if late {
		b.counted("woke up late")
	}
	return b.device.Renew(ctx, b.rekeys && !late)
}

func (b *being) plan(ctx context.Context, err error) {
	var refused *device.StatusError
	var held *device.PendingError
	switch {
	case errors.As(err, &refused) && refused.Final():
		b.refused, b.found = refused.Text, b.today()
		return
	case errors.As(err, &held):
		b.next = b.now().Add(2 * day)
		return
	case err != nil:
		b.next = b.now().Add(day)
		return
	}
	b.counted("renewals")
	c, err := b.device.Store.Load(device.Official)
	if err != nil {
		b.t.Error(err)
		return
	}
	b.next = device.RenewAt(c.Leaf())
	if info, err := b.device.Client.RenewalInfo(ctx, c.Leaf()); err == nil {
		b.next = info.Start.Add(time.Duration(b.rand.Float64() * float64(info.End.Sub(info.Start))))
	}
	if b.sleeps > 0 && b.today() > b.sleeps {
		b.sleeps = 0
		b.next = c.Leaf().NotAfter.Add(time.Duration(b.rand.IntN(800)) * day)
		b.counted("sleepers")
	}
}

// decide is the person who looks at what is held: whoever slept may come
// back, and who renews for the second time may not, if it was copied.
func (d *decade) decide() {
	ctx := d.t.Context()
	list, err := d.store.Registrations(ctx, vetting.RegistrationFilter{Undecided: true}, vetting.Page{Limit: 1000})
	if err != nil {
		d.t.Fatal(err)
	}
	for _, r := range list {
		code := r.Reasons[0].Code
		d.count["decided: "+string(code)]++
		w := vetting.Decision{Admit: code == vetting.ReasonAsleep, By: "petra", Note: "looked at it"}
		if _, err := d.store.DecideRegistration(ctx, access.Act{Operator: "petra"}, r.ID, w); err != nil {
			d.t.Fatal(err)
		}
	}
}

// judge holds what the server knows against what happened.
func (d *decade) judge() {
	t, found, days := d.t, 0, 0
	for _, b := range d.beings {
		if b.copy {
			continue
		}
		dev := d.device(b)
		evidence, err := d.store.Evidence(t.Context(), vetting.EvidenceFilter{DeviceID: dev.ID}, vetting.Page{})
		if err != nil {
			t.Fatal(err)
		}
		if dev.Owner != b.owner {
			t.Errorf("%s belongs to %q, and was sold to %q", b.unit.Serial, dev.Owner, b.owner)
		}
		switch state := dev.State; {
		case b.twin == nil && (state != b.expected() || len(evidence) > 0 || b.refused != ""):
			t.Errorf("%s, which nobody copied, is %s, with %d pieces of evidence: %s", b.unit.Serial, state, len(evidence), b.refused)
		case b.twin != nil && len(evidence) == 0:
			t.Errorf("%s was copied on day %d, and nobody noticed: it is %s", b.unit.Serial, b.copied, state)
		case b.twin != nil:
			found++
			days += evidenceDay(d, evidence) - b.copied
		}
		oneValid(t, d.store, dev)
	}
	for _, what := range []string{"copies", "sleepers", "lost answers", "decided: overslept", "offers accepted", "offers withdrawn", "offers expired", "transfers reversed", "came to another owner"} {
		if d.count[what] == 0 {
			t.Errorf("no %s: %v", what, d.count)
		}
	}
	t.Logf("%d devices, ten years: %v", len(d.beings)-d.count["copies"], d.count)
	t.Logf("%d of %d copies found, after %d days on average", found, d.count["copies"], days/max(1, found))
}

// expected is the state of a device that nobody copied: it is not back in
// service if it was asleep ever since it changed hands.
func (b *being) expected() vetting.DeviceState {
	if b.came < b.traded {
		return vetting.DeviceManufactured
	}
	return vetting.DeviceActive
}

// evidenceDay is the day of the first evidence, which is the last of the list.
func evidenceDay(d *decade, list []*vetting.Evidence) int {
	return int(list[len(list)-1].At.Sub(d.start) / day)
}
