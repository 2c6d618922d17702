package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/devicesim"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/server"
)

// measurement is one run on one database.
type measurement struct {
	handshake, enrol, rig, over *load
	bare                        float64
	turned                      int // away, under overload
}

// measure makes a Touchmark, its devices and their requests, and then times
// the limits and Touchmark in turn.
func (b *bench) measure(ctx context.Context, db string) (m measurement, err error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	w, drop, err := b.world(ctx, db, filepath.Join(dir, "touchmark"), (2+overload)*b.units)
	if err != nil {
		return m, err
	}
	defer drop()
	devices, err := w.devices(ctx, 0, b.units)
	if err != nil {
		return m, err
	}
	bare, stop, err := w.bareServer()
	if err != nil {
		return m, err
	}
	defer stop()
	if m.handshake, err = drive(ctx, bare, devices.first, b.clients); err != nil {
		return m, fmt.Errorf("bare handshakes: %w", err)
	}
	url := w.est + "/.well-known/est/simpleenroll"
	if m.enrol, err = b.watched("first", func() (*load, error) { return drive(ctx, url, devices.first, b.clients) }); err != nil {
		return m, fmt.Errorf("first enrolments: %w", err)
	}
	if m.over, m.turned, err = overdrive(ctx, url, devices.over, overload*m.enrol.rate); err != nil {
		return m, fmt.Errorf("overload: %w", err)
	}
	if m.bare, err = bareIssuing(devices.rigged, w.authorities.Device); err != nil {
		return m, err
	}
	if m.rig, err = b.watched("rig", func() (*load, error) { return driveKept(ctx, url, devices.rigged, b.clients) }); err != nil {
		return m, fmt.Errorf("enrolments through the RA: %w", err)
	}
	return m, nil
}

// world makes a running Touchmark on a database of one kind. drop ends it
// and removes the database.
func (b *bench) world(ctx context.Context, db, dir string, quantity int) (w *world, drop func(), err error) {
	dsn, undo := "sqlite:touchmark.db", []func(){}
	drop = func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
	if db == "sqlite" {
		undo = append(undo, server.SpareProcessor()) // as `touchmark serve` does
	}
	if db == "postgres" {
		made, dropDatabase, err := b.database(ctx)
		if err != nil {
			return nil, nil, err
		}
		dsn, undo = made, append(undo, dropDatabase)
	}
	if w, err = newWorld(ctx, dir, dsn, quantity); err != nil {
		drop()
		return nil, nil, err
	}
	undo = append(undo, func() { _ = w.server.Stop(context.WithoutCancel(ctx)) })
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
	server      *server.Server
	authorities *ca.Authorities
	root        *x509.Certificate
	est, api    string
	admin       *devicesim.Operator
}

func newWorld(ctx context.Context, dir, dsn string, quantity int) (*world, error) {
	c := server.Default()
	c.Database, c.Names, c.Audit.Origin = dsn, []string{"127.0.0.1"}, "bench"
	c.EST.Listen, c.API.Listen, c.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0", ""
	c.Enrol.SiteRate = 0 // one rig stands for all
	if _, err := server.Init(ctx, server.Plan{Dir: dir, Organization: "Bench", Config: c, Admin: "admin"}, server.Environment{}); err != nil {
		return nil, err
	}
	config, err := server.LoadConfig(filepath.Join(dir, server.ConfigFile))
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, dsn: config.DSN()}
	if w.server, err = server.New(ctx, config, server.Environment{}); err != nil {
		return nil, err
	}
	if err := w.server.Start(ctx); err != nil {
		return nil, err
	}
	w.est, w.api = "https://"+w.server.Addrs()["est"], "https://"+w.server.Addrs()["api"]
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

// requests are what the devices will send: n on their own, n by a rig, and
// those that come all at once.
type requests struct{ first, rigged, over []client }

// overload is how many times the best rate is offered in the end.
const overload = 3

// devices builds the units, hands in their records and prepares their
// requests, so that nothing of that is timed. Each round has its own.
func (w *world) devices(ctx context.Context, round, n int) (r requests, err error) {
	f := devicesim.Factory{Prefix: fmt.Sprintf("SN%d-", round), Block: byte(1 + round), Now: time.Now}
	units, err := f.Build(0, (2+overload)*n)
	if err != nil {
		return r, err
	}
	lin, err := w.admin.Hire(ctx, fmt.Sprintf("lin-%d", round), "site-operator", "hsinchu")
	if err != nil {
		return r, err
	}
	rig, err := w.admin.Hire(ctx, fmt.Sprintf("rig-%d", round), "rig", "hsinchu")
	if err != nil {
		return r, err
	}
	if _, err := lin.HandIn(ctx, "po-1", f.Manifest(units)); err != nil {
		return r, err
	}
	ofRig := w.tls(&device.Credential{Key: rig.Key, Chain: []*x509.Certificate{rig.Cert}})
	for i, u := range units {
		c, err := u.Store.Load(device.Bootstrap)
		if err != nil {
			return r, err
		}
		key, err := u.Store.Create(device.Pending, device.P256)
		if err != nil {
			return r, err
		}
		csr, err := device.NewCSR(key.Key, u.Serial)
		if err != nil {
			return r, err
		}
		body := []byte(base64.StdEncoding.EncodeToString(csr))
		switch {
		case i < n:
			r.first = append(r.first, client{w.tls(c), body})
		case i < 2*n:
			r.rigged = append(r.rigged, client{ofRig, body})
		default:
			r.over = append(r.over, client{w.tls(c), body})
		}
	}
	return r, nil
}

func (w *world) tls(c *device.Credential) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(w.root)
	cert := c.TLS()
	return &tls.Config{RootCAs: roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }}
}

// bareServer answers everybody with the same bytes, about as many as an
// enrolment's answer, behind the same TLS.
func (w *world) bareServer() (url string, stop func(), err error) {
	own, err := ca.NewServerCertificate(w.authorities, []string{"127.0.0.1"}, time.Now)
	if err != nil {
		return "", nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	reply := make([]byte, 1000)
	s := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(reply) })}
	go func() { _ = s.Serve(tls.NewListener(listener, server.TLSConfig(own.Get))) }()
	return "https://" + listener.Addr().String() + "/", func() { _ = s.Close() }, nil
}

// bareIssuing checks the requests' signatures and signs certificates on all
// cores, with nothing around it.
func bareIssuing(clients []client, issuer ca.Authority) (float64, error) {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	began := time.Now()
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(clients) {
					return
				}
				if err := issueBare(clients[i].body, int64(i), issuer); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	rate := float64(len(clients)) / time.Since(began).Seconds()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return rate, nil
}

func issueBare(body []byte, serial int64, issuer ca.Authority) error {
	der, err := base64.StdEncoding.DecodeString(string(body))
	if err != nil {
		return err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return err
	}
	if err := csr.CheckSignature(); err != nil {
		return err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(serial + 1), Subject: csr.Subject, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	_, err = x509.CreateCertificate(rand.Reader, t, issuer.Certificate, csr.PublicKey, issuer.Signer)
	return err
}
