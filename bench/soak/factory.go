package soak

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/devicesim"
)

// factory builds units without end on several lines. Each line works on an
// order of its own, builds a few units more than were ordered, and opens the
// next.
type factory struct {
	admin, lin      *devicesim.Operator
	server          devicesim.Server
	visits          *ledger
	batch, perOrder int
	// stock is the units that are ready to be switched on, with their records
	// in place if they have any.
	stock chan visit
}

// site is where everything is built; products are what the lines build. The
// last one's devices may come before their records.
const site = "hsinchu"

var products = []string{"thermo", "meter", "late"}

func openFactory(ctx context.Context, p *process, visits *ledger, batch, perOrder int) (*factory, error) {
	f := &factory{visits: visits, batch: batch, perOrder: perOrder, stock: make(chan visit, 2*len(products)*batch)}
	root, err := devicesim.LoadCertificate(filepath.Join(p.dir, "ca", "root.crt"))
	if err != nil {
		return nil, err
	}
	f.server = devicesim.Server{EST: p.est, Root: root}
	issuer, err := devicesim.LoadCertificate(filepath.Join(p.dir, "ca", "device-ca.crt"))
	if err != nil {
		return nil, err
	}
	f.server.CAs = append(f.server.CAs, issuer)
	if f.admin, err = devicesim.LoadOperator(p.api, root, filepath.Join(p.dir, "admin.crt"), filepath.Join(p.dir, "admin.key")); err != nil {
		return nil, err
	}
	if err := f.admin.Do(ctx, http.MethodPost, "/sites", map[string]any{"name": site}, nil); err != nil {
		return nil, err
	}
	for _, name := range products {
		product := map[string]any{"name": name, "profile": map[string]any{"validity": "825d"}, "proofs": []string{"bootstrap-key"}}
		if name == "late" {
			product["awaitRecords"] = "24h"
		}
		if err := f.admin.Do(ctx, http.MethodPost, "/products", product, nil); err != nil {
			return nil, err
		}
	}
	f.lin, err = f.admin.Hire(ctx, "lin", "site-operator", site)
	return f, err
}

// run builds until ctx ends, and then says on the channel what went wrong.
func (f *factory) run(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	errs := make([]error, len(products))
	var wg sync.WaitGroup
	for n := range products {
		wg.Go(func() {
			if err := f.line(ctx, n); ctx.Err() == nil {
				errs[n] = err
			}
		})
	}
	go func() {
		wg.Wait()
		done <- errors.Join(errs...)
	}()
	return done
}

// line builds for one order after the other.
func (f *factory) line(ctx context.Context, n int) error {
	over := max(1, f.perOrder/20)
	for serial, number := 0, 1; ; number++ {
		o := &order{name: fmt.Sprintf("PO-%d-%04d", n, number), product: products[n], quantity: int64(f.perOrder)}
		if err := f.open(ctx, o); err != nil {
			return err
		}
		for left := f.perOrder + over; left > 0; left -= f.batch {
			l, err := f.build(n, &serial, o, min(left, f.batch))
			if err != nil {
				return err
			}
			if err := f.deliver(ctx, l); err != nil {
				return err
			}
		}
	}
}

// open makes an order. One that is there was made by a call whose answer was
// lost.
func (f *factory) open(ctx context.Context, o *order) error {
	f.visits.expect(o)
	return persist(ctx, func() error {
		err := f.admin.Do(ctx, http.MethodPost, "/orders", map[string]any{
			"name": o.name, "product": o.product, "site": site, "quantity": o.quantity, "state": "open"}, nil)
		var problem *devicesim.Problem
		if errors.As(err, &problem) && problem.Status == http.StatusConflict {
			return nil
		}
		return err
	})
}

// lot is what one manifest is about.
type lot struct {
	order                   *order
	factory                 devicesim.Factory
	honest, wrong, unlisted []*devicesim.Unit
}

// build makes a lot of honest units, and a few others.
func (f *factory) build(line int, serial *int, o *order, honest int) (*lot, error) {
	others := max(1, honest/50)
	l := &lot{order: o, factory: devicesim.Factory{Prefix: fmt.Sprintf("L%d-", line), Block: byte(line), Now: time.Now}}
	units, err := l.factory.Build(*serial, *serial+honest+2*others)
	if err != nil {
		return nil, err
	}
	*serial += len(units)
	l.honest, l.wrong, l.unlisted = units[:honest], units[honest:honest+others], units[honest+others:]
	for i, u := range l.wrong {
		u.Listed = fmt.Sprintf("%02x%062x", line, *serial-i) // nobody's key
	}
	return l, nil
}

// deliver hands a lot's manifest in and puts its units into the stock. Some
// units of products that wait for their records come before.
func (f *factory) deliver(ctx context.Context, l *lot) error {
	var early []*devicesim.Unit
	unlisted := stranger
	if l.order.product == "late" {
		early, unlisted = l.honest[:max(1, len(l.honest)/20)], waiting
	}
	for _, u := range early {
		f.visits.note(visit{unit: u, kind: waiting, order: l.order}, waiting.run(ctx, f.server, l.order.product, u))
	}
	if err := f.handIn(ctx, l); err != nil {
		return err
	}
	for _, of := range []struct {
		kind  *kind
		units []*devicesim.Unit
	}{{honest, l.honest}, {wrongKey, l.wrong}, {unlisted, l.unlisted}} {
		for _, u := range of.units {
			select {
			case f.stock <- visit{unit: u, kind: of.kind, order: l.order}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

func (f *factory) handIn(ctx context.Context, l *lot) error {
	listed := append(l.honest[:len(l.honest):len(l.honest)], l.wrong...)
	manifest := l.factory.Manifest(listed)
	return persist(ctx, func() error {
		m, err := f.lin.HandIn(ctx, l.order.name, manifest)
		if err == nil && (m.State != "loaded" || m.Fresh != int64(len(listed))) {
			return fmt.Errorf("a manifest of %d new records for %s ended as %+v", len(listed), l.order.name, m)
		}
		if err == nil {
			f.visits.manifest(len(listed))
		}
		return err
	})
}

// persist repeats an operator's call for as long as the server is away.
func persist(ctx context.Context, call func() error) error {
	for {
		err := call()
		var problem *devicesim.Problem
		var line interface{ Temporary() bool } // *url.Error: there was no answer
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case errors.As(err, &problem) && problem.Status < 500 && problem.Status != http.StatusTooManyRequests:
			return err
		case !errors.As(err, &problem) && !errors.As(err, &line):
			return err
		}
		pause(ctx, retry)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// cloneOf is a unit with the bootstrap key that was read out of another.
func cloneOf(u *devicesim.Unit) (*devicesim.Unit, error) {
	c, err := u.Store.Load(device.Bootstrap)
	if err != nil {
		return nil, err
	}
	clone, store := *u, new(device.MemoryStore)
	store.Put(device.Bootstrap, *c)
	clone.Store = store
	return &clone, nil
}
