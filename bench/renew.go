package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/devicesim"
)

// renewals measures devices in service: each takes a new key on a connection
// of its own.
func (b *bench) renewals(ctx context.Context, db string, t *table) error {
	r := row{name: "renewals over EST, " + db, limit: "mutual TLS handshakes with a fixed reply", wanted: 0.70}
	for range b.runs {
		renewed, bare, err := b.measureRenewals(ctx, db, t)
		if err != nil {
			return err
		}
		r.add(renewed.rate, bare.rate)
	}
	t.rows = append(t.rows, r)
	return nil
}

func (b *bench) measureRenewals(ctx context.Context, db string, t *table) (renewed, bare *load, err error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	w, drop, err := b.world(ctx, db, filepath.Join(dir, "touchmark"), b.units)
	if err != nil {
		return nil, nil, err
	}
	defer drop()
	clients, err := w.inService(ctx, b.units)
	if err != nil {
		return nil, nil, err
	}
	limit, stop, err := w.bareServer()
	if err != nil {
		return nil, nil, err
	}
	defer stop()
	began := processor()
	bare, err = b.watched("renew-bare", func() (*load, error) { return drive(ctx, limit, clients, b.clients) })
	if err != nil {
		return nil, nil, fmt.Errorf("bare handshakes: %w", err)
	}
	middle := processor()
	renewed, err = b.watched("renew", func() (*load, error) {
		return drive(ctx, w.est+"/.well-known/est/simplereenroll", clients, b.clients)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("renewals: %w", err)
	}
	each := func(d time.Duration) time.Duration { return (d / time.Duration(len(clients))).Round(time.Microsecond) }
	t.note("renewals, %s: %s of a processor each, the client's part included; bare %s", db, each(processor()-middle), each(middle-began))
	return renewed, bare, nil
}

// inService enrols devices and makes the requests with which they renew.
func (w *world) inService(ctx context.Context, n int) ([]client, error) {
	units, err := w.units(ctx, 0, n)
	if err != nil {
		return nil, err
	}
	clients := make([]client, n)
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && failed.Load() == nil; i = int(next.Add(1)) - 1 {
				c, err := w.renewing(ctx, units[i])
				if err != nil {
					failed.Store(&err)
					return
				}
				clients[i] = c
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return clients, nil
}

func (w *world) renewing(ctx context.Context, u *devicesim.Unit) (client, error) {
	dev := &device.Device{Serial: u.Serial, Store: u.Store, Root: w.root, Client: devicesim.Server{EST: w.est, Root: w.root}.Client()}
	c, err := dev.PowerOn(ctx)
	if err != nil {
		return client{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return client{}, err
	}
	csr, err := device.RenewalCSR(key, c.Leaf())
	return client{w.tls(c), []byte(base64.StdEncoding.EncodeToString(csr))}, err
}
