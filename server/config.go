package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/events/webhook"
	"github.com/touchmark/touchmark/vetting"
)

// Config is everything that can be set, in one YAML file. The comments below
// are the manual: `touchmark config` prints them with the defaults.
type Config struct {
	// Dir is the data directory: CA certificates, key files, the checkpoint
	// file and, unless elsewhere, the database. A relative path counts from
	// the directory of this file.
	Dir string `yaml:"dir"`

	// Roles is what the server does: [all], or [ocsp] for a node that only
	// tells what became of certificates. Such a node needs neither the CAs'
	// keys nor the log's, opens no door but status and ops, and reads the
	// database as a user who may write nothing.
	Roles []string `yaml:"roles"`

	// Responder is how a node of role ocsp reaches a server that holds the
	// CAs' keys: the cli.yaml that `touchmark operator add NAME --role
	// responder` wrote. A relative path counts from the data directory.
	Responder string `yaml:"responder"`

	// Database is where everything is kept: "sqlite:PATH" for the embedded
	// default, a relative path counting from the data directory, or
	// "postgres://USER@HOST/NAME" for PostgreSQL 15 or newer. Leave the
	// password to a file that PGPASSFILE names, or protect this file.
	Database string `yaml:"database"`

	// DatabaseTimeout is how long a transaction or a query waits for
	// PostgreSQL, other servers' transactions included, before it is given
	// up. Keep it below est.request_timeout.
	DatabaseTimeout Duration `yaml:"database_timeout"`

	// Redis lets several servers tell each other at once what they otherwise
	// learn from the database a little later, and share OCSP answers.
	Redis Redis `yaml:"redis"`

	// Names are the DNS names and IP addresses that devices and operators
	// reach the server by. Its TLS certificate holds them; a change takes
	// effect at the next start.
	Names []string `yaml:"names"`

	// Keys says where private keys are that are not in the data directory:
	// device-ca, factory-ca, operator-ca, codesign-ca, log, issuer-NAME of each
	// further issuing CA, and licence-PRODUCT-NUMBER of each licence key, each
	// by a URI: "file:PATH", "pkcs11:…", "awskms:…", "cloudkms:…",
	// "azurekms:…". One that is missing is the file keys/NAME.key. The root's
	// key is never needed by a running server. Four more are used if they are
	// there, on P-256 or P-384. responder signs OCSP answers; without it they are signed with keys
	// that each server makes in memory, which an HSM does not slow down.
	// attestation certifies the attestation keys of TPMs; without it the key is
	// derived from what all servers share. tls is the key of the server's own
	// certificate; without it each server makes one in memory, and can say in
	// the absence of an HSM that it is absent. timestamp signs time stamps;
	// without it there are none. touchmark ca make-key makes them.
	// firmware is where keys are made that sign firmware: a URI with {name}, and
	// for PKCS#11 {id}; if it is missing, file:keys/firmware-{name}.key. licences
	// is the same for licence keys, whose name is licence-PRODUCT-NUMBER. tuf is
	// the same for the keys tuf-targets-N, tuf-snapshot-N and tuf-timestamp-N of
	// the TUF repository, each of which can also have a URI of its own by that
	// name; if it is missing, file:keys/{name}.key.
	// content is an RSA key that decrypts: it keeps what is secret of encrypted
	// firmware; if it is missing, file:keys/content.key. It is made when it is
	// first needed.
	Keys map[string]string `yaml:"keys"`

	// EST is where devices enrol (RFC 7030).
	EST EST `yaml:"est"`

	// MQTT is where devices enrol over MQTT 3.1.1 and 5, at a broker in this
	// process.
	MQTT MQTT `yaml:"mqtt"`

	// ACME is where ACME clients enrol devices that attest their keys (RFC 8555,
	// device-attest-01), and servers that prove their names.
	ACME ACME `yaml:"acme"`

	// API is where operators and rigs work, and where anybody may read the
	// published audit log.
	API API `yaml:"api"`

	// Workloads are builds that log in with a token of their CI system (OpenID
	// Connect) instead of a key that lies about: operator trust, operator login.
	Workloads Workloads `yaml:"workloads"`

	// Status is where anybody asks whether a certificate still counts: OCSP
	// (RFC 6960).
	Status Status `yaml:"status"`

	// Timestamp is the time-stamp authority (RFC 3161), at /tsa. It needs the
	// key timestamp.
	Timestamp Timestamp `yaml:"timestamp"`

	// TUF is the repository of published releases for TUF clients, at /tuf.
	TUF TUF `yaml:"tuf"`

	// Ops is where the machine's own supervision looks: /healthz, /readyz and
	// /metrics.
	Ops Ops `yaml:"ops"`

	// Enrol bounds requests for certificates, over all listeners.
	Enrol Enrol `yaml:"enrol"`

	// Exempt lists the addresses and networks that the limits for each
	// address do not count for: "192.0.2.7", "198.51.100.0/24". Put factories
	// here whose devices share an address (NAT), and load balancers that
	// forward TCP, whose address all their clients seem to have.
	Exempt []string `yaml:"exempt"`

	// Observe says when what brokers and gateways report of devices is
	// evidence.
	Observe Observe `yaml:"observe"`

	// Audit is the log of everything that is issued and changed.
	Audit Audit `yaml:"audit"`

	// Events are what became of devices, for webhooks and dashboards.
	Events Events `yaml:"events"`

	// Log is the server's own log, on standard error.
	Log Log `yaml:"log"`

	// Stop is how long an orderly stop waits for requests that are being
	// worked on before it cuts them off.
	Stop Duration `yaml:"stop"`
}

// Redis configures how servers tell each other what is new, and share what
// they have signed. Nothing but speed depends on it.
type Redis struct {
	// URL is redis://[USER@]HOST[:PORT][/DB], or rediss:// for TLS; any server
	// of its protocol will do. Empty is none.
	URL string `yaml:"url"`
	// PasswordFile is a file that holds the password, alone. A relative path
	// counts from the data directory.
	PasswordFile string `yaml:"password_file"`
	// CA is a PEM file with the roots that a TLS server is checked by; empty
	// is the system's. A relative path counts from the data directory.
	CA string `yaml:"ca"`
	// Answers is whether OCSP answers are shared: each is signed once, and
	// all servers give the same bytes, which HTTP caches know again. Set it
	// the same on all servers.
	Answers bool `yaml:"answers"`
}

// Enrol bounds who may ask for certificates how often. What is beyond is
// answered 429 or 503 with Retry-After.
type Enrol struct {
	// DeviceRate bounds the requests by one bootstrap or official key, in each
	// second; after a rest 20 come through. 0 means no bound.
	DeviceRate int `yaml:"device_rate"`
	// SiteRate bounds the requests by all rigs of one site together, in each
	// second; after a rest twice as many come through. 0 means no bound.
	SiteRate int `yaml:"site_rate"`
	// CodeRate bounds the requests with an enrolment code that does not count,
	// of one address, and for one serial number, in each second; after a rest
	// 20 come through. 0 means no bound.
	CodeRate int `yaml:"code_rate"`
	// MaxQueue bounds the registrations that wait to be written into the
	// database.
	MaxQueue int `yaml:"max_queue"`
}

// Observe says what the observations of devices show.
type Observe struct {
	// Speed is how fast a device may travel, in km/h.
	Speed int `yaml:"speed"`
	// Tolerance is by how many km a place may be wrong that was found by an
	// address.
	Tolerance int `yaml:"tolerance"`
	// Returns is how often within Window a certificate must come back to one
	// network (an IPv4 /24, an IPv6 /48), while it is connected from another,
	// to be in use at two places at once.
	Returns int `yaml:"returns"`
	// Window is the time for that.
	Window Duration `yaml:"window"`
	// Grace is how long a superseded certificate may still connect after its
	// successor was first used.
	Grace Duration `yaml:"grace"`
}

func (o Observe) check(bad func(string, ...any)) {
	inRange("observe.speed", o.Speed, 1, 1<<20, bad)
	inRange("observe.tolerance", o.Tolerance, 0, 20_000, bad)
	// More would need more sightings than are kept.
	inRange("observe.returns", o.Returns, 1, vetting.MaxSightings-2, bad)
	for name, d := range map[string]Duration{"window": o.Window, "grace": o.Grace} {
		if d <= 0 {
			bad("observe.%s is %s: want more than 0s", name, d)
		}
	}
}

func (o Observe) rules() vetting.ObservationRules {
	return vetting.ObservationRules{Speed: float64(o.Speed), Tolerance: float64(o.Tolerance), Returns: o.Returns,
		Window: time.Duration(o.Window), Grace: time.Duration(o.Grace)}
}

// Audit configures the audit log.
type Audit struct {
	// Origin is the log's name, which its checkpoints carry and auditors
	// pin: the server's address without "https://". It cannot change in the
	// life of a log; init chooses it.
	Origin string `yaml:"origin"`
	// Interval is how often a checkpoint of the log is signed and published,
	// if something was added.
	Interval Duration `yaml:"interval"`
}

// Events configures webhooks and streams.
type Events struct {
	// AllowTargets lists the host names, addresses and networks that webhooks
	// may go to besides public addresses by https: "erp.example.com",
	// "10.1.0.0/16". To these they may also go by http. Whoever may create a
	// webhook can have the server send requests there.
	AllowTargets []string `yaml:"allow_targets"`
	// MaxStreams bounds the streams of events that are open at a time. One
	// beyond is answered 503 with Retry-After.
	MaxStreams int `yaml:"max_streams"`
}

// Log configures the server's own log.
type Log struct {
	// Level is debug, info, warn or error. At debug each request is logged.
	Level slog.Level `yaml:"level"`
	// Format is json or text.
	Format string `yaml:"format"`
}

// Default is the configuration of an empty file. It lacks audit.origin.
func Default() *Config {
	limits := Limits{
		MaxConnections: 4096,
		MaxRequests:    256,
		MaxPerAddress:  256,
		ConnectionRate: 50,
		RequestRate:    100,
		MaxHeader:      16 << 10,
		HeaderTimeout:  Duration(10 * time.Second),
		RequestTimeout: Duration(30 * time.Second),
		IdleTimeout:    Duration(2 * time.Minute),
	}
	c := &Config{
		Dir:       ".",
		Roles:     []string{RoleAll},
		Database:  "sqlite:touchmark.db",
		Names:     []string{"localhost", "127.0.0.1", "::1"},
		Keys:      map[string]string{},
		Redis:     Redis{Answers: true},
		EST:       EST{Listen: ":8443", RetryAfter: Duration(time.Minute), Limits: limits},
		MQTT:      MQTT{Listen: ":8883", Window: Duration(5 * time.Minute), Limits: limits},
		ACME:      ACME{Bound: true, Limits: limits},
		API:       API{Listen: ":8444", MaxManifest: 512 << 20, UploadStall: Duration(time.Minute), Limits: limits},
		Workloads: Workloads{Allow: []string{}},
		Enrol:     Enrol{DeviceRate: 1, SiteRate: 500, CodeRate: 1, MaxQueue: 512},
		Exempt:    []string{"127.0.0.0/8", "::1/128"},
		Status:    Status{Listen: ":8446", Partitions: 16, Validity: Duration(time.Hour), MaxStale: Duration(5 * time.Minute), Cache: 64 << 20, CRL: defaultCRL(), Limits: limits},
		Timestamp: Timestamp{Open: true, Policy: "1.3.6.1.4.1.99999.3161", Accuracy: Duration(time.Second), Rate: 20},
		TUF:       defaultTUF(),
		Ops:       Ops{Listen: "127.0.0.1:8445", Tally: Duration(time.Minute)},
		Observe:   Observe{Speed: 1000, Tolerance: 300, Returns: 3, Window: Duration(10 * time.Minute), Grace: Duration(24 * time.Hour)},
		Audit:     Audit{Interval: Duration(time.Second)},
		Events:    Events{AllowTargets: []string{}, MaxStreams: 100},
		Log:       Log{Level: slog.LevelInfo, Format: "json"},
		Stop:      Duration(30 * time.Second),
	}
	c.API.MaxConnections, c.API.MaxRequests = 1024, 128
	c.ACME.Servers = Servers{Allow: []string{}, HTTPPort: 80, TLSPort: 443}
	c.MQTT.IdleTimeout = Duration(10 * time.Minute)
	c.DatabaseTimeout = Duration(20 * time.Second)
	c.Status.Offline = Offline{Every: Duration(24 * time.Hour), BaseEvery: Duration(7 * 24 * time.Hour), Validity: Duration(3 * 24 * time.Hour)}
	return c
}

// Check reports everything that is wrong with the values themselves, one
// error a value. It opens nothing.
func (c *Config) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Dir == "" {
		bad("dir is empty: name the data directory that `touchmark init` made")
	}
	if kind, rest, _ := strings.Cut(c.Database, ":"); rest == "" || !slices.Contains([]string{"sqlite", "postgres", "postgresql"}, kind) {
		bad("database is of kind %q: want sqlite:PATH or postgres://USER@HOST/NAME", kind)
	}
	c.checkRoles(bad)
	if len(c.Names) == 0 {
		bad("names is empty: the server's TLS certificate needs at least one DNS name or IP address")
	}
	for _, n := range c.Names {
		if err := checkHostName(n); err != nil {
			bad("names: %w", err)
		}
	}
	for name, uri := range c.Keys {
		if !slices.Contains(keyNames, name) && !ca.IsIssuingKeyName(name) && !isLicenceKeyName(name) && !tufKeyName.MatchString(name) {
			bad("keys: %q is no key of a server: known are %s, %s of an issuing CA, licence-PRODUCT-NUMBER of a licence key, and tuf-ROLE-NUMBER of a TUF key", name, strings.Join(keyNames, ", "), ca.IssuingKeyName("NAME"))
		}
		if !strings.Contains(uri, ":") {
			bad("keys: %s is no URI: want file:PATH, pkcs11:…, awskms:…, cloudkms:… or azurekms:…", name)
		}
	}
	for _, n := range c.Exempt {
		if _, err := parseNetwork(n); err != nil {
			bad("exempt: %q is no IP address or network: want 192.0.2.7 or 198.51.100.0/24", n)
		}
	}
	checkListen("est.listen", c.EST.Listen, false, bad)
	checkListen("mqtt.listen", c.MQTT.Listen, true, bad)
	c.ACME.check(bad)
	checkListen("api.listen", c.API.Listen, false, bad)
	c.Workloads.check(bad)
	checkListen("ops.listen", c.Ops.Listen, true, bad)
	c.Status.check(bad)
	c.Timestamp.check(bad)
	c.TUF.check(bad)
	c.EST.check("est", bad)
	c.API.check("api", bad)
	c.MQTT.check("mqtt", bad)
	c.MQTT.Broker.check(bad)
	atLeast("mqtt.window", c.MQTT.Window, time.Second, bad)
	inRange("enrol.device_rate", c.Enrol.DeviceRate, 0, maxRate, bad)
	inRange("enrol.site_rate", c.Enrol.SiteRate, 0, maxRate, bad)
	inRange("enrol.code_rate", c.Enrol.CodeRate, 0, maxRate, bad)
	inRange("enrol.max_queue", c.Enrol.MaxQueue, 1, 1<<20, bad)
	c.Observe.check(bad)
	atLeast("database_timeout", c.DatabaseTimeout, time.Second, bad)
	atLeast("est.retry_after", c.EST.RetryAfter, time.Second, bad)
	atLeast("api.upload_stall", c.API.UploadStall, time.Second, bad)
	atLeast("audit.interval", c.Audit.Interval, 10*time.Millisecond, bad)
	if _, err := webhook.NewTargets(c.Events.AllowTargets); err != nil {
		bad("events.allow_targets: %w", err)
	}
	inRange("events.max_streams", c.Events.MaxStreams, 0, 1<<16, bad)
	if c.API.MaxManifest < 1<<10 {
		bad("api.max_manifest is %s: no manifest would fit; want 1KiB or more", c.API.MaxManifest)
	}
	if o := c.Audit.Origin; c.statusOnly() && o == "" {
		// it signs no log
	} else if o == "" || strings.ContainsAny(o, " +\n") || strings.Contains(o, "://") {
		bad("audit.origin is %q: want the log's name as init wrote it, such as touchmark.example.com/audit, without spaces, '+' and https://", o)
	}
	if c.Log.Format != "json" && c.Log.Format != "text" {
		bad("log.format is %q: want json or text", c.Log.Format)
	}
	return errors.Join(errs...)
}

// maxRate is the highest rate that can be set, per second.
const maxRate = 1_000_000

func inRange(key string, n, least, most int, bad func(string, ...any)) {
	if n < least || n > most {
		bad("%s is %d: want %d to %d", key, n, least, most)
	}
}

func atLeast(key string, d Duration, least time.Duration, bad func(string, ...any)) {
	if time.Duration(d) < least {
		bad("%s is %s: want %s or more", key, d, Duration(least))
	}
}

func checkListen(key, addr string, optional bool, bad func(string, ...any)) {
	if addr == "" && optional {
		return
	}
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		bad("%s is %q: want HOST:PORT or :PORT", key, addr)
	}
}

// checkHostName accepts what can stand in a certificate's SAN as a DNS name
// or IP address.
func checkHostName(n string) error {
	if net.ParseIP(n) != nil {
		return nil
	}
	if n == "" || len(n) > 253 {
		return fmt.Errorf("%q is no DNS name or IP address", n)
	}
	for label := range strings.SplitSeq(n, ".") {
		ok := label != "" && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-'
		for _, r := range label {
			ok = ok && (r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
		}
		if !ok {
			return fmt.Errorf("%q is no DNS name or IP address (leave out \"https://\" and the port)", n)
		}
	}
	return nil
}

// keyNames are the keys that a running server uses.
var keyNames = append([]string{ca.DeviceName, ca.FactoryName, ca.OperatorName, ca.CodeSignName, ca.LogKeyName, firmwareKeys, licenceKeysPlace, tufKeys, contentKeyName}, ca.OwnKeys...)

// Places is where the authorities are.
func (c *Config) Places() ca.Places { return ca.Places{Dir: c.Dir, Keys: c.Keys} }

// DSN is the database's address with paths resolved.
func (c *Config) DSN() string {
	if path, ok := strings.CutPrefix(c.Database, "sqlite:"); ok && !filepath.IsAbs(path) {
		return "sqlite:" + filepath.Join(c.Dir, path)
	}
	return c.Database
}

// Files of the data directory.
const (
	ConfigFile  = "touchmark.yaml"
	ProfileFile = "cli.yaml"
)

// exempt gives the networks that limits by address do not count for.
func (c *Config) exempt() networks {
	var list networks
	for _, text := range c.Exempt {
		if n, err := parseNetwork(text); err == nil { // Check saw to the others
			list = append(list, n)
		}
	}
	return list
}

func (c *Config) checkpointFile() string { return filepath.Join(c.Dir, "log", "checkpoint") }

// VerifierFile holds the audit log's public key for auditors.
func (c *Config) VerifierFile() string { return filepath.Join(c.Dir, "log", "verifier") }
