package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/devicesim"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/server"
)

// world makes a running Touchmark on a database of one kind. drop ends it
// and removes the database.
func (b *bench) world(ctx context.Context, db, dir string, quantity int) (w *world, drop func(), err error) {
	return b.worldWith(ctx, db, dir, quantity, serveHere)
}

func (b *bench) worldWith(ctx context.Context, db, dir string, quantity int, serve serving) (w *world, drop func(), err error) {
	dsn, undo := "sqlite:touchmark.db", []func(){}
	drop = func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
	if db == "postgres" {
		made, dropDatabase, err := b.database(ctx)
		if err != nil {
			return nil, nil, err
		}
		dsn, undo = made, append(undo, dropDatabase)
	}
	if w, err = newWorld(ctx, dir, dsn, quantity, serve); err != nil {
		drop()
		return nil, nil, err
	}
	undo = append(undo, w.stop)
	return w, drop, nil
}

// database makes a database in the test PostgreSQL.
func (b *bench) database(ctx context.Context) (dsn string, drop func(), err error) {
	u, err := url.Parse(b.postgres)
	if err != nil {
		return "", nil, err
	}
	conn, err := pgx.Connect(ctx, b.postgres)
	if err != nil {
		return "", nil, err
	}
	name := fmt.Sprintf("bench_%d", time.Now().UnixNano())
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", nil, err
	}
	u.Path = "/" + name
	return u.String(), func() {
		_, _ = conn.Exec(context.WithoutCancel(ctx), "DROP DATABASE "+name+" WITH (FORCE)")
		_ = conn.Close(context.WithoutCancel(ctx))
	}, nil
}

// world is a running server with an open order.
type world struct {
	dir, dsn    string
	stop        func()
	authorities *ca.Authorities
	root        *x509.Certificate
	est, api    string
	status      string // an address
	mqtt        string // an address
	admin       *devicesim.Operator
}

func newWorld(ctx context.Context, dir, dsn string, quantity int, serve serving) (w *world, err error) {
	c := server.Default()
	c.Database, c.Names, c.Audit.Origin = dsn, []string{"127.0.0.1"}, "bench"
	c.EST.Listen, c.MQTT.Listen, c.API.Listen, c.Status.Listen, c.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", ""
	c.Enrol.SiteRate = 0 // one rig stands for all
	if _, err := server.Init(ctx, server.Plan{Dir: dir, Organization: "Bench", Config: c, Admin: "admin"}, server.Environment{}); err != nil {
		return nil, err
	}
	config, err := server.LoadConfig(filepath.Join(dir, server.ConfigFile))
	if err != nil {
		return nil, err
	}
	addrs, stop, err := serve(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	w = &world{dir: dir, dsn: config.DSN(), stop: stop, est: "https://" + addrs["est"], api: "https://" + addrs["api"], status: addrs["status"], mqtt: addrs["mqtt"]}
	if w.authorities, err = ca.Open(ctx, config.Places(), time.Now()); err != nil {
		return nil, err
	}
	w.root = w.authorities.Root
	if w.admin, err = devicesim.LoadOperator(w.api, w.root, filepath.Join(dir, "admin.crt"), filepath.Join(dir, "admin.key")); err != nil {
		return nil, err
	}
	type object = map[string]any
	for _, step := range []struct {
		path string
		body object
	}{
		{"/products", object{"name": "thermo", "profile": object{"validity": "825d"}, "proofs": []string{"bootstrap-key", "rig"}}},
		{"/sites", object{"name": "hsinchu"}},
		{"/orders", object{"name": "po-1", "product": "thermo", "site": "hsinchu", "quantity": quantity, "state": "open"}},
	} {
		if err := w.admin.Do(ctx, http.MethodPost, step.path, step.body, nil); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// alone builds n units that will come on their own, hands in their records
// and prepares their requests, so that nothing of that is timed. Each round
// has its own units.
func (w *world) alone(ctx context.Context, round, n int) ([]client, error) {
	units, err := w.units(ctx, round, n)
	if err != nil {
		return nil, err
	}
	clients := make([]client, n)
	for i, u := range units {
		c, err := u.Store.Load(device.Bootstrap)
		if err != nil {
			return nil, err
		}
		if clients[i], err = w.client(u, w.tls(c)); err != nil {
			return nil, err
		}
	}
	return clients, nil
}

// rigged is alone for units that a rig speaks for.
func (w *world) rigged(ctx context.Context, round, n int) ([]client, error) {
	units, err := w.units(ctx, round, n)
	if err != nil {
		return nil, err
	}
	rig, err := w.admin.Hire(ctx, fmt.Sprintf("rig-%d", round), "rig", "hsinchu")
	if err != nil {
		return nil, err
	}
	ofRig := w.tls(&device.Credential{Key: rig.Key, Chain: []*x509.Certificate{rig.Cert}})
	clients := make([]client, n)
	for i, u := range units {
		if clients[i], err = w.client(u, ofRig); err != nil {
			return nil, err
		}
	}
	return clients, nil
}

func (w *world) units(ctx context.Context, round, n int) ([]*devicesim.Unit, error) {
	f := devicesim.Factory{Prefix: fmt.Sprintf("SN%d-", round), Block: byte(1 + round), Now: time.Now}
	units, err := f.Build(0, n)
	if err != nil {
		return nil, err
	}
	lin, err := w.admin.Hire(ctx, fmt.Sprintf("lin-%d", round), "site-operator", "hsinchu")
	if err != nil {
		return nil, err
	}
	_, err = lin.HandIn(ctx, "po-1", f.Manifest(units))
	return units, err
}

// client makes a unit's request.
func (w *world) client(u *devicesim.Unit, as *tls.Config) (client, error) {
	key, err := u.Store.Create(device.Pending, device.P256)
	if err != nil {
		return client{}, err
	}
	csr, err := device.NewCSR(key.Key, u.Serial)
	if err != nil {
		return client{}, err
	}
	return client{as, []byte(base64.StdEncoding.EncodeToString(csr))}, nil
}

func (w *world) tls(c *device.Credential) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(w.root)
	cert := c.TLS()
	return &tls.Config{RootCAs: roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }}
}
