package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/touchmark/touchmark/enroll/acme/acmetest"
	"github.com/touchmark/touchmark/server"
)

// attestations measures first enrolments by device-attest-01 over ACME, on a
// durable store, against smallstep's own server with a store in memory: the
// same clients, requests and attestations, the same key of the CA.
func (b *bench) attestations(ctx context.Context, db string, t *table) error {
	r := row{name: "first enrolments over ACME (device-attest-01), " + db, limit: "smallstep's server, its store in memory", wanted: 1}
	for n := range b.runs {
		own, other, err := b.attest(ctx, db, n%2 == 1)
		if err != nil {
			return err
		}
		r.add(own.rate, other.rate)
		t.note("latency over ACME, %s: median %s, 99%% %s; smallstep's %s and %s", db, own.quantile(0.5).Round(time.Millisecond), own.quantile(0.99).Round(time.Millisecond),
			other.quantile(0.5).Round(time.Millisecond), other.quantile(0.99).Round(time.Millisecond))
		t.note("processor time of this process, its clients included, for an enrolment over ACME, %s: %.2f ms; smallstep's %.2f", db, own.cpu.Seconds()*1e3, other.cpu.Seconds()*1e3)
	}
	t.rows = append(t.rows, r)
	return nil
}

// attest times both servers, one after the other.
func (b *bench) attest(ctx context.Context, db string, ownFirst bool) (own, other *load, err error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	var address string
	w, drop, err := b.worldWith(ctx, db, filepath.Join(dir, "touchmark"), 1, func(ctx context.Context, c *server.Config) (map[string]string, func(), error) {
		c.ACME.Listen, c.ACME.Bound = "127.0.0.1:0", false
		addrs, stop, err := serveHere(ctx, c)
		address = addrs["acme"]
		return addrs, stop, err
	})
	if err != nil {
		return nil, nil, err
	}
	defer drop()
	maker, err := acmetest.NewMaker()
	if err != nil {
		return nil, nil, err
	}
	devices, err := maker.Devices(b.units)
	if err != nil {
		return nil, nil, err
	}
	if err := w.takes(ctx, maker, devices); err != nil {
		return nil, nil, err
	}
	directory, stop, err := w.stepCA(maker.PEM())
	if err != nil {
		return nil, nil, err
	}
	defer stop()
	for _, mine := range []bool{ownFirst, !ownFirst} {
		into, at := &other, directory
		if mine {
			into, at = &own, "https://"+address+"/acme/directory"
		}
		phase := map[bool]string{true: "acme", false: "acme-smallstep"}[mine]
		if *into, err = b.watched(phase, func() (*load, error) { return b.enrolOver(ctx, w, at, devices) }); err != nil {
			return nil, nil, fmt.Errorf("at %s: %w", at, err)
		}
	}
	return own, other, nil
}

func (b *bench) enrolOver(ctx context.Context, w *world, directory string, devices []acmetest.Device) (*load, error) {
	roots := x509.NewCertPool()
	roots.AddCert(w.root)
	return share(devices, b.clients, func() (func(acmetest.Device) error, error) {
		c := &acmetest.Client{Directory: directory, HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}}
		return func(d acmetest.Device) error {
			_, err := c.Enrol(ctx, d)
			return err
		}, c.Open(ctx)
	})
}

// takes opens an order for the devices and hands in their records.
func (w *world) takes(ctx context.Context, m *acmetest.Maker, devices []acmetest.Device) error {
	type object = map[string]any
	product := object{"name": "gateway", "profile": object{"validity": "825d"}, "proofs": []string{"attestation"}, "vendors": []object{{"name": "chips", "anchors": m.PEM()}}}
	if err := w.admin.Do(ctx, http.MethodPost, "/products", product, nil); err != nil {
		return err
	}
	order := object{"name": "po-2", "product": "gateway", "site": "hsinchu", "quantity": len(devices), "state": "open"}
	if err := w.admin.Do(ctx, http.MethodPost, "/orders", order, nil); err != nil {
		return err
	}
	lin, err := w.admin.Hire(ctx, "lin", "site-operator", "hsinchu")
	if err != nil {
		return err
	}
	_, err = lin.HandIn(ctx, "po-2", acmetest.Manifest(devices))
	return err
}
