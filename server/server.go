// Package server puts Touchmark together: it reads the configuration, opens
// the authorities and the database, wires the subsystems, opens the doors,
// and stops all of it in an order that loses nothing.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/acme"
	"github.com/touchmark/touchmark/enroll/attest"
	"github.com/touchmark/touchmark/enroll/est"
	"github.com/touchmark/touchmark/enroll/mqtt"
	"github.com/touchmark/touchmark/enroll/rest"
	"github.com/touchmark/touchmark/firmware-sign/timestamp"
	"github.com/touchmark/touchmark/firmware-sign/tuf/repository"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/cluster"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/internal/events/webhook"
	"github.com/touchmark/touchmark/internal/idtoken"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/licensing"
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
	keys        *keyStore // of firmware and licences
	certificate *ca.ServerCertificate
	store       *store.Store     // nil on a node of role ocsp
	reader      *store.Reader    // there only
	news        *cluster.News    // nil without Redis
	answers     *cluster.Answers // nil without, or if they are not shared
	importer    *manifest.Importer
	publishing  *publishing
	metrics     *metrics
	health      *health
	feed        *events.Feed
	attestor    *attest.Attestor

	attestationCA *attest.CA
	dispatcher    *webhook.Dispatcher
	stopping      chan struct{} // closed when streams have to end

	handler *mqtt.Handler // of both carriers of MQTT
	connect func()        // to the operator's MQTT broker; nil if there is none
	broker  *cluster.MQTT // once connect was called
	notices *notices      // nil without MQTT

	status    *status
	timestamp http.Handler
	stamps    *timestamp.Authority // behind it; nil without a key
	tokens    *idtoken.Verifier    // of workloads
	offline   *publish.Maker
	tuf       *tufRepository // nil on a node of role ocsp
	doors     []*door        // ops last
	failed    chan error

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
	s.keys = newKeyStore(s.config.Dir)
	s.authorities.StatusPoints = s.config.Status.points()
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
	s.tuf = s.newTUF()
	if s.dispatcher, err = s.newDispatcher(); err != nil {
		return err
	}
	if err := s.store.Bind(ctx, s.authorities.Name(), s.authorities.Kin()...); err != nil {
		return err
	}
	if err := errors.Join(s.openAttestation(ctx), s.openTimestamp(), s.openTokens()); err != nil {
		return err
	}
	s.issuing = issuing{s.authorities, s.store, s.env.Now}
	if err := s.issuing.Refresh(ctx); err != nil {
		return err
	}
	if err := s.authorities.Ready(s.env.Now()); err != nil {
		return err
	}
	if s.certificate, err = ca.NewServerCertificate(s.authorities, s.config.Names, s.env.Now); err != nil {
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
	s.importer = &manifest.Importer{Store: s.store, FactoryCAs: s.authorities.FactoryCAs, Log: log, Now: now, MaxBody: int64(s.config.API.MaxManifest)}
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
		{"tls-key", s.checkTLSKey},
	}, warnings: append(s.newsCheck(), check{"issuers", s.issuing.check}, check{"responder-key", s.checkResponderKey}, check{"attestation-key", s.checkAttestationKey}, check{"timestamp-key", s.checkTimestampKey}, check{"signing-keys", s.keys.check}, check{"expiry", s.expiring}, check{"statuses", s.status.check}, check{"crls", s.status.lists.check}, check{"offline-status", s.offline.Check}, check{"tuf", s.tuf.check})}
	s.metrics.registry.MustRegister(s.health)
	s.door(door{name: "est", addr: s.config.EST.Listen, limits: s.config.EST.Limits, tls: TLSConfig(s.certificate.Get)},
		s.deviceHandler(pipeline, issuer), time.Duration(s.config.EST.RequestTimeout))
	s.door(door{name: "api", addr: s.config.API.Listen, limits: s.config.API.Limits, tls: TLSConfig(s.certificate.Get)},
		s.apiHandler(pipeline), 0)
	if err := s.acmeDoor(pipeline); err != nil {
		return err
	}
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
const maxDoors = 6

// opsLimits suit a door that only the machine's own supervision uses.
var opsLimits = Limits{
	MaxConnections: 64, MaxRequests: 64, MaxHeader: 16 << 10, HeaderTimeout: Duration(5 * time.Second),
	RequestTimeout: Duration(30 * time.Second), IdleTimeout: Duration(time.Minute),
}

// authenticator tells who speaks at a door for devices.
func (s *Server) authenticator() *enroll.Authenticator {
	return &enroll.Authenticator{Authorities: s.authorities, Operators: s.store, Vendors: &vendorid.Book{Products: s.store, Vendors: vendorid.ByCertificate, Now: s.env.Now}, Now: s.env.Now}
}

// deviceHandler serves what devices ask for.
func (s *Server) deviceHandler(pipeline enroller, forms est.Forms) http.Handler {
	clients := s.authenticator()
	est, own := s.estHandler(clients, pipeline, forms), http.NewServeMux()
	(&rest.Handler{Clients: clients, Lives: s.store, Challenges: s.store, Issuers: s.authorities.DeviceKeyIDs, Log: s.env.Log, Now: s.env.Now,
		TPM: rest.TPM{Attestor: s.attestor, CA: s.attestationCA, Enroller: pipeline, Products: s.store, CACerts: s.authorities.CACerts}}).Routes(own)
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
		Signatory: s.certificate.Signatory,
		Log:       s.env.Log,
		Now:       s.env.Now,
	}
}

// apiHandler serves the operators' API and, for everybody, the log.
func (s *Server) apiHandler(pipeline enroller) http.Handler {
	signer := s.publishing.publisher.Signer
	tiles := audit.NewTiles(s.store)
	licenceKeys := newLicenceKeys(s.config, s.keys)
	mux := http.NewServeMux()
	operators := api.New(api.Config{
		Store:       s.store,
		Authorities: s.authorities,
		Enroller:    pipeline,
		Operators:   ca.OperatorIssuer{Authorities: s.authorities, Now: s.env.Now},
		Tokens:      s.tokens,
		Vouchers:    ca.VoucherSigner{Authorities: s.authorities, Now: s.env.Now},
		Profiles:    s.authorities,
		IssuingCAs:  s.issuing,
		Responders:  s.responders,
		Firmware:    s.firmware(),
		TUF:         s.tuf,
		Offline:     offlineFiles{s.offline, s.issuerID},
		CRLs:        s.status.lists,
		Examiner:    s.authorities,
		Observing:   s.config.Observe.rules(),
		Manifests:   s.importer,
		Licenser:    &licensing.Desk{Ledger: s.store, Keys: licenceKeys, Count: s.metrics.licensed},
		LicenceKeys: licenceKeys,
		EST:         s.estAddress,
		ACME:        func() string { return s.acmeURL() + acme.Prefix + "directory" },
		AccountKeys: s.acmeSecret().AccountKey,
		Prover:      prover{checkpoints: s.store, tiles: tiles, verifier: signer.Verifier()},
		Feed:        s.feed,
		Webhooks:    s.dispatcher,
		Streams:     api.Streams{Max: s.config.Events.MaxStreams, Stopping: s.stopping, Count: s.metrics.streams.Set},
		Log:         s.env.Log,
		Now:         s.env.Now,
		MaxManifest: int64(s.config.API.MaxManifest),
		Stall:       time.Duration(s.config.API.UploadStall),
	})
	mux.Handle(api.Base+"/", operators)
	mux.Handle(timestamp.Path, within(time.Duration(s.config.API.RequestTimeout), operators.Only(s.timestamp)))
	mux.Handle(repository.Prefix, within(time.Duration(s.config.API.RequestTimeout), s.tuf.handler()))
	mux.Handle("/audit/", http.StripPrefix("/audit", &audit.Handler{
		Checkpoints: s.store, Tiles: tiles, VerifierKey: signer.VerifierKey(), Verifier: signer.Verifier(), Log: s.env.Log,
	}))
	return mux
}

// estAddress is where devices find the EST door, as far as the configuration
// tells.
func (s *Server) estAddress() string { return s.address("est") }

// acmeURL is where ACME clients find the server.
func (s *Server) acmeURL() string {
	if s.config.ACME.URL != "" {
		return s.config.ACME.URL
	}
	return "https://" + s.address("acme")
}

// address is a door's at the first of the server's names.
func (s *Server) address(door string) string {
	_, port, err := net.SplitHostPort(s.Addrs()[door])
	if err != nil { // the door is not open
		return s.config.Names[0]
	}
	return net.JoinHostPort(s.config.Names[0], port)
}
