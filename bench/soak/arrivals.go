package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/devicesim"
)

// visit is one unit that is to be switched on.
type visit struct {
	unit  *devicesim.Unit
	order *order
	kind  *kind
}

// kind is what a unit is, and how its day must end.
type kind struct {
	name    string
	verdict string // "" for the honest ones: as their order says
	because string // part of the reason
	fleet   func() devicesim.Fleet
}

// retry is how long a client waits after a broken line.
const retry = 300 * time.Millisecond

var (
	honest   = &kind{name: "honest", fleet: eventful}
	wrongKey = &kind{name: "wrong key", verdict: "refused", because: "another bootstrap key", fleet: calm}
	stranger = &kind{name: "in no manifest", verdict: "refused", because: "No manufacturing record", fleet: calm}
	waiting  = &kind{name: "before its record", verdict: "held", because: "No manufacturing record", fleet: calm}
	clone    = &kind{name: "clone", verdict: "refused", because: "no longer counts", fleet: calm}
)

func calm() devicesim.Fleet { return devicesim.Fleet{Retry: retry} }

// eventful is an honest unit's day: answers are lost, power is cut, most
// units come into service at once, and some renew.
func eventful() devicesim.Fleet {
	f := devicesim.Fleet{Retry: retry, LostReplies: 0.1, PowerCuts: 0.05, Activate: rand.IntN(10) < 7}
	if rand.IntN(10) == 0 {
		f.Renewals = 1 + rand.IntN(2)
	}
	return f
}

func (k *kind) run(ctx context.Context, s devicesim.Server, product string, u *devicesim.Unit) devicesim.Result {
	s.Label = product
	f := k.fleet()
	f.Servers, f.Units = []devicesim.Server{s}, []*devicesim.Unit{u}
	return f.Run(ctx)[0]
}

// arrivals switches units on.
type arrivals struct {
	server devicesim.Server
	stock  <-chan visit
	visits *ledger
	day    context.Context // of the units
	end    context.CancelFunc
	slots  chan struct{}
	wg     sync.WaitGroup
	// activated counts the devices of which every cloneEvery-th is cloned.
	activated atomic.Int64
}

const cloneEvery = 50

// mostUnderWay bounds the units that are under way at a time: while the
// server is away they only wait.
const mostUnderWay = 4096

func newArrivals(ctx context.Context, server devicesim.Server, stock <-chan visit, visits *ledger) *arrivals {
	a := &arrivals{server: server, stock: stock, visits: visits, slots: make(chan struct{}, mostUnderWay)}
	a.day, a.end = context.WithCancel(ctx)
	return a
}

// closedClients are how many units come at a time when the best rate is
// measured.
const closedClients = 64

// best lets units come as fast as they are done with, and returns how many
// that were each second.
func (a *arrivals) best(ctx context.Context, d time.Duration) float64 {
	for len(a.stock) < cap(a.stock)*3/4 && ctx.Err() == nil {
		pause(ctx, retry/10)
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	began := time.Now()
	var done atomic.Int64
	var wg sync.WaitGroup
	for range closedClients {
		wg.Go(func() {
			for {
				select {
				case v := <-a.stock:
					a.visit(v)
					done.Add(1)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(began).Seconds()
}

// offer switches units on at a rate, whether or not those before are done,
// until ctx ends.
func (a *arrivals) offer(ctx context.Context, perSecond float64) {
	began := time.Now()
	for i := 0; ; i++ {
		pause(ctx, time.Until(began.Add(time.Duration(float64(i)/perSecond*float64(time.Second)))))
		if ctx.Err() != nil {
			return
		}
		select {
		case v := <-a.stock:
			a.slots <- struct{}{}
			a.wg.Go(func() {
				defer func() { <-a.slots }()
				a.visit(v)
			})
		case <-ctx.Done():
			return
		}
	}
}

func (a *arrivals) visit(v visit) {
	r := v.kind.run(a.day, a.server, v.order.product, v.unit)
	a.visits.note(v, r)
	if v.kind != honest || r.Verdict != "admitted" || !r.Activated() || a.activated.Add(1)%cloneEvery != 0 {
		return
	}
	if u, err := cloneOf(v.unit); err == nil {
		a.visits.note(visit{u, v.order, clone}, clone.run(a.day, a.server, v.order.product, u))
	}
}

// drain waits for the units that are under way.
func (a *arrivals) drain(d time.Duration) error {
	late := time.AfterFunc(d, a.end)
	defer late.Stop()
	a.wg.Wait()
	if a.day.Err() != nil {
		return fmt.Errorf("some devices had not come to an end %s after the load did", d)
	}
	a.end()
	return nil
}
