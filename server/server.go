// Package server puts Touchmark together: it reads the configuration, opens
// the authorities and the database, wires the subsystems, opens the doors,
// and stops all of it in an order that loses nothing.
package server

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/est"
	"github.com/touchmark/touchmark/enroll/mqtt"
	"github.com/touchmark/touchmark/enroll/rest"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/cluster"
	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/internal/events/webhook"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/ocsp/offline/publish"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting/manifest"
	"github.com/touchmark/touchmark/vetting/rules"
	"github.com/touchmark/touchmark/vetting/vendorid"
)

// Environment is what a server gets from its process and not from its
// configuration.
type Environment struct {
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (e Environment) complete() Environment {
	if e.Now == nil {
		e.Now = time.Now
	}
	if e.Log == nil {
		e.Log = slog.New(slog.DiscardHandler)
	}
	return e
}

// Server is one Touchmark server.
type Server struct {
	config      *Config
	env         Environment
	authorities *ca.Authorities
	issuing     issuing
	responders  responders
	certificate *ca.ServerCertificate
	store       *store.Store  // nil on a node of role ocsp
	reader      *store.Reader // there only
	news        *cluster.News // nil without Redis
	importer    *manifest.Importer
	publishing  *publishing
	metrics     *metrics
	health      *health
	feed        *events.Feed
	dispatcher  *webhook.Dispatcher
	stopping    chan struct{} // closed when streams have to end

	handler *mqtt.Handler // of both carriers of MQTT
	connect func()        // to the operator's MQTT broker; nil if there is none
	broker  *cluster.MQTT // once connect was called
	notices *notices      // nil without MQTT

	status  *status
	offline *publish.Maker
	doors   []*door // ops last
	failed  chan error

	background context.CancelFunc
	working    sync.WaitGroup
	serving    sync.WaitGroup
	stop       sync.Once
	stopped    error
}

// New opens everything that a server works with and refuses what does not
// fit together: keys, certificates, a database of another CA or a newer
// schema, a log that is behind its checkpoint. It answers nobody before
// Start. Stop must be called also if Start is not.
func New(ctx context.Context, c *Config, env Environment) (*Server, error) {
	s := &Server{config: c, env: env.complete(), failed: make(chan error, maxDoors), stopping: make(chan struct{})}
	open, wire := s.open, s.wire
	if c.statusOnly() {
		open, wire = s.openNode, s.wireNode
	}
	err := open(ctx)
	if err == nil {
		err = wire()
	}
	if err != nil {
		return nil, errors.Join(err, s.closeNews(), s.closeDatabase())
	}
	return s, nil
}

// open opens keys and database. What may be refused is refused here.
func (s *Server) open(ctx context.Context) (err error) {
	if s.authorities, err = ca.Open(ctx, s.config.Places(), s.env.Now()); err != nil {
		return err
	}
	s.authorities.StatusPoints = s.config.Status.points()
	if s.certificate, err = ca.NewServerCertificate(s.authorities, s.config.Names, s.env.Now); err != nil {
		return err
	}
	signer, err := audit.NewSigner(s.config.Audit.Origin, s.authorities.Log)
	if err != nil {
		return err
	}
	s.metrics = newMetrics(s.allExpiries, s.env.Now)
	if err := s.openNews(); err != nil {
		return err
	}
	s.feed = events.NewFeed(nil)
	s.store, err = store.Open(ctx, store.Options{DSN: s.config.DSN(), Log: s.env.Log, Now: s.env.Now,
		Observe: s.metrics.observeCommit, MaxQueue: s.config.Enrol.MaxQueue, Patience: time.Duration(s.config.DatabaseTimeout), Grew: s.feed.Grew,
		Told:     s.changed,
		Panicked: func(p any) { s.metrics.panicked(s.env.Log, p, "where", "database writer") }})
	if err != nil {
		return err
	}
	s.feed.Source = s.store
	s.responders = responders{s.authorities, s.store, &forged{store: s.store, now: s.env.Now}, s.env.Now}
	s.status = s.newStatus(s.store, s.responders.own, s.keepForgeries)
	s.offline = s.newOffline(s.store)
	if s.dispatcher, err = s.newDispatcher(); err != nil {
		return err
	}
	if err := s.store.Bind(ctx, s.authorities.Name(), s.authorities.Kin()...); err != nil {
		return err
	}
	s.issuing = issuing{s.authorities, s.store, s.env.Now}
	if err := s.issuing.Refresh(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.config.checkpointFile()), 0o755); err != nil {
		return err
	}
	s.publishing = &publishing{
		publisher: &audit.Publisher{Store: s.store, Signer: signer, Path: s.config.checkpointFile(), Log: s.env.Log},
		metrics:   s.metrics, now: s.env.Now, good: s.env.Now(),
		patience: 30*time.Second + 10*time.Duration(s.config.Audit.Interval),
	}
	if err := s.publishing.publisher.CheckStart(ctx); err != nil {
		return err
	}
	return s.store.NoteAuthorities(ctx, s.authorities.OfFiles())
}

// wire connects the subsystems.
func (s *Server) wire() error {
	log, now := s.env.Log, s.env.Now
	factory := x509.NewCertPool()
	factory.AddCert(s.authorities.Factory.Certificate)
	s.importer = &manifest.Importer{Store: s.store, FactoryCA: factory, Log: log, Now: now, MaxBody: int64(s.config.API.MaxManifest)}
	issuer := ca.NewDeviceIssuer(s.authorities, now)
	issuer.Refresh = s.issuing.Refresh
	pipeline := newFairEnroller(s.config.Enrol, s.config.exempt(), s.metrics, countedEnroller{metrics: s.metrics, enroller: &enroll.Enroller{
		Ledger: s.store, Issuer: issuer, Rules: new(rules.Cache),
		Log: log, Now: now, RetryAfter: time.Duration(s.config.EST.RetryAfter),
	}})
	s.health = &health{checks: []check{
		{"database", s.store.Ping},
		{"writes", s.store.CheckWrites},
		{"clock", s.clock},
		{"checkpoint", s.publishing.check},
		{"certificates", validity(s.expiries, now)},
		{"default-issuer", s.issuing.checkDefault},
	}, warnings: append(s.newsCheck(), check{"issuers", s.issuing.check}, check{"expiry", s.expiring}, check{"statuses", s.status.check}, check{"crls", s.status.lists.check}, check{"offline-status", s.offline.Check})}
	s.metrics.registry.MustRegister(s.health)
	s.door(door{name: "est", addr: s.config.EST.Listen, limits: s.config.EST.Limits, tls: TLSConfig(s.certificate.Get)},
		s.deviceHandler(pipeline, issuer), time.Duration(s.config.EST.RequestTimeout))
	s.door(door{name: "api", addr: s.config.API.Listen, limits: s.config.API.Limits, tls: TLSConfig(s.certificate.Get)},
		s.apiHandler(pipeline), 0)
	if err := s.mqttDoors(pipeline); err != nil {
		return err
	}
	s.statusDoors()
	return nil
}

// statusDoors are the doors that every server has, if they are to be open.
func (s *Server) statusDoors() {
	if s.config.Status.Listen != "" {
		s.door(door{name: "status", addr: s.config.Status.Listen, limits: s.config.Status.Limits}, s.statusHandler(), 0)
	}
	if s.config.Ops.Listen != "" {
		s.door(door{name: "ops", addr: s.config.Ops.Listen, limits: opsLimits}, opsHandler(s.health, s.metrics), 0)
	}
}

// door adds a door, whose requests' contexts end after timeout unless it is 0.
func (s *Server) door(d door, h http.Handler, timeout time.Duration) {
	d.exempt = s.config.exempt()
	d.bounds = bounded(d, h, s.metrics)
	if d.tls != nil {
		d.bounds.clock = s.clock
	}
	made := newDoor(d, s.metrics, s.env.Log)
	made.answering(watched(d.name, d.bounds, s.metrics, s.env.Log, timeout))
	s.add(made)
}

func (s *Server) add(made *door) {
	s.metrics.connections.of[made.name] = made
	s.doors = append(s.doors, made)
}

// maxDoors is how many doors a server can have.
const maxDoors = 5

// opsLimits suit a door that only the machine's own supervision uses.
var opsLimits = Limits{
	MaxConnections: 64, MaxRequests: 64, MaxHeader: 16 << 10, HeaderTimeout: Duration(5 * time.Second),
	RequestTimeout: Duration(30 * time.Second), IdleTimeout: Duration(time.Minute),
}

// authenticator tells who speaks at a door for devices.
func (s *Server) authenticator() *enroll.Authenticator {
	return &enroll.Authenticator{Authorities: s.authorities, Operators: s.store, Vendors: &vendorid.Book{Products: s.store, Now: s.env.Now}, Now: s.env.Now}
}

// deviceHandler serves what devices ask for.
func (s *Server) deviceHandler(pipeline enroller, forms est.Forms) http.Handler {
	clients := s.authenticator()
	est, own := s.estHandler(clients, pipeline, forms), http.NewServeMux()
	(&rest.Handler{Clients: clients, Lives: s.store, Challenges: s.store, Issuers: s.authorities.DeviceKeyIDs, Log: s.env.Log, Now: s.env.Now}).Routes(own)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, rest.Prefix) {
			own.ServeHTTP(w, r)
		} else {
			est.ServeHTTP(w, r)
		}
	})
}

func (s *Server) estHandler(clients est.Identifier, pipeline enroller, forms est.Forms) http.Handler {
	return &est.Handler{
		Enroller:  pipeline,
		Clients:   clients,
		Active:    s.store,
		Products:  s.store,
		Forms:     forms,
		CACerts:   s.authorities.CACerts,
		Signatory: s.signatory,
		Log:       s.env.Log,
		Now:       s.env.Now,
	}
}

// signatory signs in the server's own name.
func (s *Server) signatory() (cms.Signatory, error) {
	c, err := s.certificate.Get(nil)
	if err != nil {
		return cms.Signatory{}, err
	}
	return cms.Signatory{
		Certificate: c.Leaf, Chain: s.authorities.Chain(s.authorities.Operator), Key: c.PrivateKey.(crypto.Signer),
	}, nil
}

// apiHandler serves the operators' API and, for everybody, the log.
func (s *Server) apiHandler(pipeline enroller) http.Handler {
	signer := s.publishing.publisher.Signer
	tiles := audit.NewTiles(s.store)
	mux := http.NewServeMux()
	mux.Handle(api.Base+"/", api.New(api.Config{
		Store:       s.store,
		Authorities: s.authorities,
		Enroller:    pipeline,
		Operators:   ca.OperatorIssuer{Authorities: s.authorities, Now: s.env.Now},
		Vouchers:    ca.VoucherSigner{Authorities: s.authorities, Now: s.env.Now},
		Profiles:    s.authorities,
		IssuingCAs:  s.issuing,
		Responders:  s.responders,
		Offline:     offlineFiles{s.offline, s.issuerID},
		CRLs:        s.status.lists,
		Examiner:    s.authorities,
		Observing:   s.config.Observe.rules(),
		Manifests:   s.importer,
		EST:         s.estAddress,
		Prover:      prover{checkpoints: s.store, tiles: tiles, verifier: signer.Verifier()},
		Feed:        s.feed,
		Webhooks:    s.dispatcher,
		Streams:     api.Streams{Max: s.config.Events.MaxStreams, Stopping: s.stopping, Count: s.metrics.streams.Set},
		Log:         s.env.Log,
		Now:         s.env.Now,
		MaxManifest: int64(s.config.API.MaxManifest),
		Stall:       time.Duration(s.config.API.UploadStall),
	}))
	mux.Handle("/audit/", http.StripPrefix("/audit", &audit.Handler{
		Checkpoints: s.store, Tiles: tiles, VerifierKey: signer.VerifierKey(), Verifier: signer.Verifier(), Log: s.env.Log,
	}))
	return mux
}

// estAddress is where devices find the EST door, as far as the configuration
// tells: at the first of the server's names.
func (s *Server) estAddress() string {
	_, port, err := net.SplitHostPort(s.Addrs()["est"])
	if err != nil { // the door is not open
		return s.config.Names[0]
	}
	return net.JoinHostPort(s.config.Names[0], port)
}

// Start opens the doors and begins the work in the background.
func (s *Server) Start(ctx context.Context) error {
	for _, d := range s.doors {
		if err := d.open(ctx); err != nil {
			return err
		}
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.background = cancel
	if s.reader != nil {
		s.beginNode(work)
	} else if err := s.begin(work); err != nil {
		return err
	}
	if s.connect != nil {
		s.connect()
	}
	if s.notices != nil {
		if err := s.notices.start(ctx); err != nil {
			return err
		}
		s.every(work, noticesEvery, s.notices.run)
	}
	for _, d := range s.doors {
		s.serving.Go(func() {
			if err := d.serve(); err != nil {
				s.failed <- err
			}
		})
	}
	s.env.Log.InfoContext(ctx, "serving", "addresses", s.Addrs(), "roles", s.config.Roles, "names", s.config.Names, "log", s.config.Audit.Origin)
	return nil
}

// begin begins the work in the background.
func (s *Server) begin(work context.Context) error {
	if err := s.publishing.publish(work); err != nil {
		return err
	}
	if err := s.importer.Resume(work); err != nil {
		return err
	}
	s.every(work, time.Duration(s.config.Audit.Interval), s.publishing.run)
	s.every(work, resumeEvery, s.resume)
	s.every(work, jobsEvery, s.jobs)
	s.every(work, forgetEvery, s.forgetMessages)
	s.every(work, watchEvery, s.feed.Watch)
	s.status.credentials.refresh(work)
	s.tellStatus(work)
	s.every(work, offlineEvery, s.offline.Run)
	s.every(work, webhook.HoldFor/3, s.dispatcher.Run)
	if t := time.Duration(s.config.Ops.Tally); t > 0 && s.config.Ops.Listen != "" {
		s.count(work)
		s.every(work, t, s.tally)
	}
	return nil
}

// every runs a loop in the background with a ticker.
func (s *Server) every(ctx context.Context, d time.Duration, loop func(context.Context, <-chan time.Time)) {
	s.working.Go(func() {
		t := time.NewTicker(d)
		defer t.Stop()
		for ctx.Err() == nil {
			s.contained(func() { loop(ctx, t.C) })
		}
	})
}

// contained runs a step of the work in the background. A panic ends that
// step; the loop it was in goes on with its next tick.
func (s *Server) contained(step func()) {
	defer func() {
		if p := recover(); p != nil {
			s.metrics.panicked(s.env.Log, p, "where", "background")
		}
	}()
	step()
}

// resumeEvery is how often manifests are looked for that another server has
// accepted but not loaded, because it was stopped.
const resumeEvery = 30 * time.Second

func (s *Server) resume(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			if err := s.importer.Resume(ctx); err != nil && ctx.Err() == nil {
				s.env.Log.ErrorContext(ctx, "manifests that wait to be loaded could not be looked up; it is tried again", "error", err)
			}
		}
	}
}

func (s *Server) tally(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			s.count(ctx)
		}
	}
}

func (s *Server) count(ctx context.Context) {
	t, err := s.store.Tally(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.env.Log.ErrorContext(ctx, "devices could not be counted for the metrics", "error", err)
		}
		return
	}
	s.metrics.tally.newest.Store(&t)
}

// Addrs gives the bound addresses by door: "est", "mqtt", "api", "status", "ops".
func (s *Server) Addrs() map[string]string {
	m := map[string]string{}
	for _, d := range s.doors {
		if d.keeper != nil {
			m[d.name] = d.keeper.Addr().String()
		}
	}
	return m
}

// Failed receives an error when a door stops serving by itself.
func (s *Server) Failed() <-chan error { return s.failed }

// Stop ends the server: readiness goes, devices and operators are no longer
// accepted and those being worked on are answered until ctx ends, the loading
// of manifests pauses at a safe place, the log's last checkpoint is published,
// the database is closed. It may be called more than once.
func (s *Server) Stop(ctx context.Context) error {
	s.stop.Do(func() { s.stopped = s.shutdown(ctx) })
	return s.stopped
}

// closingTime is what the last steps get, even if the requests used up all
// the time there was: they make the next start easy.
const closingTime = 5 * time.Second

func (s *Server) shutdown(ctx context.Context) error {
	s.env.Log.InfoContext(ctx, "stopping", "deadline", s.config.Stop.String())
	s.health.stopping.Store(true)
	close(s.stopping)
	var errs [maxDoors + 1]error
	var closing sync.WaitGroup
	if s.broker != nil {
		closing.Go(func() { errs[maxDoors] = s.broker.Stop(ctx) })
	}
	for i, d := range s.doors {
		if d.name != "ops" {
			closing.Go(func() { errs[i] = d.close(ctx) })
		}
	}
	closing.Wait()

	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closingTime)
	defer cancel()
	err := errors.Join(errs[:]...)
	if s.importer != nil {
		err = errors.Join(err, s.importer.Stop(last))
	}
	if s.background != nil {
		s.background()
	}
	s.working.Wait()
	if s.background != nil && s.publishing != nil { // else nothing was written
		err = errors.Join(err, s.publishing.publish(last))
	}
	for _, d := range s.doors {
		if d.name == "ops" {
			err = errors.Join(err, d.close(last))
		}
	}
	s.serving.Wait()
	err = errors.Join(err, s.closeNews())
	if cerr := s.closeDatabase(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("close the database: %w", cerr))
	}
	s.env.Log.InfoContext(ctx, "stopped")
	return err
}

func (s *Server) closeDatabase() error {
	switch {
	case s.store != nil:
		return s.store.Close()
	case s.reader != nil:
		return s.reader.Close()
	}
	return nil
}

// SpareProcessor lets Go run one thread more than there are cores, unless
// GOMAXPROCS is set, and returns what undoes that. SQLite waits for the disk
// inside a system call, and Go leaves such a thread its share of the
// processor for up to 10 ms: on two cores half the machine would wait too.
func SpareProcessor() (undo func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	return runtime.SetDefaultGOMAXPROCS
}

// Run serves until ctx ends or a door fails, then stops in order.
func Run(ctx context.Context, c *Config, env Environment) error {
	if strings.HasPrefix(c.Database, "sqlite:") {
		defer SpareProcessor()()
	}
	s, err := New(ctx, c, env)
	if err != nil {
		return err
	}
	err = s.Start(ctx)
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-s.Failed():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(c.Stop))
	defer cancel()
	return errors.Join(err, s.Stop(last))
}

func goVersion() string { return runtime.Version() }
