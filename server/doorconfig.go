package server

import (
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/egress"
	"github.com/touchmark/touchmark/ocsp/crl"
)

// EST configures the devices' listener.
type EST struct {
	// Listen is the TLS address for devices, "HOST:PORT" or ":PORT".
	Listen string `yaml:"listen"`
	// RetryAfter is when a device whose registration is held shall ask again.
	RetryAfter Duration `yaml:"retry_after"`
	Limits     `yaml:",inline"`
}

// MQTT configures the devices' broker. Its limits read for MQTT as follows: a
// request is a message to the server. header_timeout is for the handshake, for
// the CONNECT after it, and for a client to take a message. idle_timeout is
// how long a client may be silent, pings included; its keep alive time is held
// to two thirds of that. A client whose message is beyond a bound is cut off,
// and the message not acknowledged. max_header counts for nothing.
type MQTT struct {
	// Listen is the TLS address of the broker, "HOST:PORT" or ":PORT". Empty
	// turns it off.
	Listen string `yaml:"listen"`
	// Window is how far the signing time of a request may be from the
	// server's clock.
	Window Duration `yaml:"window"`
	// Broker is a broker of your own, in place of listen or beside it. Servers
	// share the requests on it; of the limits, max_requests and
	// request_timeout count there.
	Broker MQTTBroker `yaml:"broker"`
	Limits `yaml:",inline"`
}

// MQTTBroker is a broker of the operator's, which several servers share.
type MQTTBroker struct {
	// URL is the broker's address, mqtts://HOST:PORT, or mqtt://HOST:PORT
	// without TLS. Empty is none.
	URL string `yaml:"url"`
	// ClientID is this server's name at the broker. Each server needs its
	// own, and keeps it: the broker holds under it what is yet to be answered.
	ClientID string `yaml:"client_id"`
	// CA is a file with the certificates that the broker's must chain to;
	// empty is those of the system. A relative path, here and below, counts
	// from the data directory.
	CA string `yaml:"ca"`
	// Certificate is a file with this server's certificate at the broker, if
	// it wants one.
	Certificate string `yaml:"certificate"`
	// Key is the file with the key to that.
	Key string `yaml:"key"`
	// User is this server's user name at the broker, if it wants one.
	User string `yaml:"user"`
	// PasswordFile is a file with the password to that.
	PasswordFile string `yaml:"password_file"`
}

// ACME configures the listener for ACME clients.
type ACME struct {
	// Listen is the TLS address for ACME, "HOST:PORT" or ":PORT". Empty turns
	// it off.
	Listen string `yaml:"listen"`
	// URL is where clients reach the listener, "https://HOST" or
	// "https://HOST:PORT", if that is not where they connect to: behind a proxy
	// that changes the Host header. Empty takes the Host of each request.
	URL string `yaml:"url"`
	// Bound says that an account is opened only with an account key, which
	// `touchmark acme eab create` makes, and then speaks for the devices of one
	// order or site alone. Without it anybody may open accounts, which speak for
	// all devices whose proofs they bring.
	Bound bool `yaml:"bound"`
	// Terms is the URL of the terms of service that clients must agree to; empty
	// is none.
	Terms string `yaml:"terms"`
	// Website is a URL that the directory names; empty is none.
	Website string `yaml:"website"`
	// Servers is how servers are reached that prove their names (http-01,
	// dns-01, tls-alpn-01).
	Servers Servers `yaml:"servers"`
	Limits  `yaml:",inline"`
}

// Servers configures how the server looks whether others have the names that
// they ask certificates for.
type Servers struct {
	// Allow lists the host names, addresses and networks that may be connected
	// to besides public addresses: "portal.lab.example.com", "10.1.0.0/16". ACME
	// clients can have the server send requests to ports 80 and 443 there.
	Allow []string `yaml:"allow"`
	// Resolver is the DNS server that is asked, "ADDRESS:PORT"; empty asks as
	// the machine does.
	Resolver string `yaml:"resolver"`
	// HTTPPort is where http-01 looks instead of port 80, which RFC 8555 has:
	// clients elsewhere do not know others.
	HTTPPort int `yaml:"http_port"`
	// TLSPort is where tls-alpn-01 looks instead of port 443, which RFC 8737 has.
	TLSPort int `yaml:"tls_port"`
}

func (s Servers) check(bad func(string, ...any)) {
	if _, err := egress.Parse(s.Allow); err != nil {
		bad("acme.servers.allow: %w", err)
	}
	if _, err := netip.ParseAddrPort(s.Resolver); s.Resolver != "" && err != nil {
		bad("acme.servers.resolver is %q: want ADDRESS:PORT, such as 10.0.0.53:53", s.Resolver)
	}
	inRange("acme.servers.http_port", s.HTTPPort, 1, 65535, bad)
	inRange("acme.servers.tls_port", s.TLSPort, 1, 65535, bad)
}

func (a ACME) check(bad func(string, ...any)) {
	checkListen("acme.listen", a.Listen, true, bad)
	for key, text := range map[string]string{"acme.url": a.URL, "acme.terms": a.Terms, "acme.website": a.Website} {
		u, err := url.Parse(text)
		if text != "" && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || key == "acme.url" && strings.Trim(u.Path+u.RawQuery+u.Fragment, "") != "") {
			bad("%s is %q: want https://HOST, for terms and website with a path", key, text)
		}
	}
	a.Servers.check(bad)
	a.Limits.check("acme", bad)
}

// Workloads configures how the tokens of builds are verified, for operators
// that `touchmark operator trust` made.
type Workloads struct {
	// Allow lists the host names, addresses and networks that may be connected
	// to besides public addresses, to read the keys of the CI systems that such
	// operators trust: "gitlab.example.com", "10.1.0.0/16". Only admins say
	// which.
	Allow []string `yaml:"allow"`
	// CA is a PEM file with the roots that their TLS certificates are checked
	// by; empty is the system's. A relative path counts from the data directory.
	CA string `yaml:"ca"`
}

func (w Workloads) check(bad func(string, ...any)) {
	if _, err := egress.Parse(w.Allow); err != nil {
		bad("workloads.allow: %w", err)
	}
}

// API configures the operators' listener.
type API struct {
	// Listen is the TLS address for operators, "HOST:PORT" or ":PORT".
	Listen string `yaml:"listen"`
	// MaxManifest bounds the upload of one manifest with its signatures.
	// 100,000 records take about 30 MiB.
	MaxManifest Size `yaml:"max_manifest"`
	// UploadStall is how long an upload may take for each 64 KiB, pauses
	// included; one that is slower is ended. It replaces
	// request_timeout while a manifest is being received.
	UploadStall Duration `yaml:"upload_stall"`
	Limits      `yaml:",inline"`
}

// Status configures the listener that tells about certificates.
type Status struct {
	// Listen is a plain HTTP address: what is told is signed, and clients
	// must not need a certificate to learn of a certificate. Empty turns it
	// off.
	Listen string `yaml:"listen"`
	// URL is where clients find this listener: "http://status.example.com".
	// It stands in the certificates that are issued, as long as they last.
	// Empty leaves it out of them.
	URL string `yaml:"url"`
	// Partitions is into how many lists the revocation list of a CA is
	// divided, a power of two: each certificate names the one that it would
	// stand in. 0 leaves lists out of certificates. Certificates keep the
	// division that they were issued with, and all divisions are served.
	Partitions int `yaml:"partitions"`
	// Validity is the time from an OCSP answer's thisUpdate to its nextUpdate.
	// HTTP caches may keep an answer for a quarter of it, so that is how late
	// a revocation may be seen through them.
	Validity Duration `yaml:"validity"`
	// MaxStale is how long answers are given while the database cannot be
	// read; then clients are told to try later. At most half of validity.
	MaxStale Duration `yaml:"max_stale"`
	// Cache bounds the memory of signed OCSP answers. One takes about 1.6 KiB.
	Cache Size `yaml:"cache"`
	// CRL are the revocation lists (RFC 5280 §5).
	CRL CRL `yaml:"crl"`
	// Offline is the standing of all certificates of a CA in one file, for who
	// cannot ask.
	Offline Offline `yaml:"offline"`
	Limits  `yaml:",inline"`
}

// Offline configures when offline status files are made.
type Offline struct {
	// Every is the time from a file to the next, so that is how late a
	// revocation is seen offline. Most of them are deltas. Each reads all
	// certificates once. 0s makes files only when an operator wants them.
	Every Duration `yaml:"every"`
	// BaseEvery is the time from a base to the next. A delta belongs to the
	// newest base.
	BaseEvery Duration `yaml:"base_every"`
	// Validity is how long a file may be used. What of it is longer than every
	// is the time for which a gateway may be cut off.
	Validity Duration `yaml:"validity"`
}

func (o Offline) check(bad func(string, ...any)) {
	if o.Every != 0 {
		atLeast("status.offline.every", o.Every, time.Minute, bad)
	}
	atLeast("status.offline.base_every", o.BaseEvery, time.Duration(o.Every), bad)
	atLeast("status.offline.validity", o.Validity, max(time.Hour, 2*time.Duration(o.Every)), bad)
}

// checkStatusURL reports what cannot stand before the paths of the status
// door in certificates.
func checkStatusURL(at, text string, bad func(string, ...any)) {
	if u, err := url.Parse(text); err != nil || u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.HasSuffix(text, "/") {
		bad("%s is %q: want http://HOST, perhaps with a port and a path, without a slash at its end", at, text)
	}
}

func (s Status) check(bad func(string, ...any)) {
	s.Offline.check(bad)
	checkListen("status.listen", s.Listen, true, bad)
	if s.URL != "" {
		checkStatusURL("status.url", s.URL, bad)
	}
	atLeast("status.validity", s.Validity, time.Minute, bad)
	atLeast("status.max_stale", s.MaxStale, time.Second, bad)
	if s.MaxStale > s.Validity/2 {
		bad("status.max_stale is %s: want at most half of status.validity, which is %s", s.MaxStale, s.Validity)
	}
	if err := crl.CheckPartitions(s.Partitions); err != nil && s.Partitions != 0 {
		bad("status.partitions: %w", err)
	}
	if s.Cache < 1<<20 {
		bad("status.cache is %s: want 1MiB or more", s.Cache)
	}
	s.CRL.check(bad)
	s.Limits.check("status", bad)
}

// Limits protect a listener from clients that take too much.
type Limits struct {
	// MaxConnections bounds the connections that are open at a time. When all
	// are taken, the one that has been without a request for longest is cut
	// off for a newcomer; if each is busy, the newcomer is. Keep it below the
	// process's limit of open files.
	MaxConnections int `yaml:"max_connections"`
	// MaxHandshakes bounds what may be worked on when one more TLS handshake
	// begins: handshakes and requests together, those that wait for their
	// client not counted. A connection beyond is cut off; those that are open
	// go on. More lets a larger crowd in at a time, and each wait longer. 0
	// means 40 for each processor.
	MaxHandshakes int `yaml:"max_handshakes"`
	// MaxRequests bounds the requests that are worked on at a time, those
	// whose body is still on its way not counted. One beyond is answered 503
	// with Retry-After.
	MaxRequests int `yaml:"max_requests"`
	// MaxPerAddress bounds the open connections of one address; a connection
	// beyond is cut off. An IPv6 client's address is its /64, here and below.
	// 0 means no bound.
	MaxPerAddress int `yaml:"max_connections_per_address"`
	// ConnectionRate bounds the new connections of one address, in each
	// second; after a rest twice as many come through, and 20 at least. One
	// beyond is cut off. 0 means no bound.
	ConnectionRate int `yaml:"connection_rate"`
	// RequestRate bounds the requests of one address, in each second; after a
	// rest twice as many come through, and 20 at least. One beyond is
	// answered 429 with Retry-After. 0 means no bound.
	RequestRate int `yaml:"request_rate"`
	// MaxHeader bounds the header of a request.
	MaxHeader Size `yaml:"max_header"`
	// HeaderTimeout is how long the TLS handshake, and then the header of
	// each request, may take.
	HeaderTimeout Duration `yaml:"header_timeout"`
	// RequestTimeout is how long a request with its reply may take.
	RequestTimeout Duration `yaml:"request_timeout"`
	// IdleTimeout is how long an unused connection is kept open.
	IdleTimeout Duration `yaml:"idle_timeout"`
}

func (l Limits) check(at string, bad func(string, ...any)) {
	if l.MaxConnections < 1 {
		bad("%s.max_connections is %d: nobody could connect; want 1 or more", at, l.MaxConnections)
	}
	inRange(at+".max_handshakes", l.MaxHandshakes, 0, 1<<20, bad)
	inRange(at+".max_requests", l.MaxRequests, 1, 1<<20, bad)
	inRange(at+".max_connections_per_address", l.MaxPerAddress, 0, 1<<20, bad)
	inRange(at+".connection_rate", l.ConnectionRate, 0, maxRate, bad)
	inRange(at+".request_rate", l.RequestRate, 0, maxRate, bad)
	if l.MaxHeader < 1<<10 || l.MaxHeader > 1<<20 {
		bad("%s.max_header is %s: want 1KiB to 1MiB", at, l.MaxHeader)
	}
	atLeast(at+".header_timeout", l.HeaderTimeout, 100*time.Millisecond, bad)
	atLeast(at+".request_timeout", l.RequestTimeout, 100*time.Millisecond, bad)
	atLeast(at+".idle_timeout", l.IdleTimeout, 100*time.Millisecond, bad)
}

// Ops configures the supervision's listener.
type Ops struct {
	// Listen is a plain HTTP address; it has no authentication, so it must be
	// on this machine or in a closed network. Empty turns it off.
	Listen string `yaml:"listen"`
	// Tally is how often the devices, registrations and evidence in the
	// database are counted for /metrics; 0s turns that off. Counting reads
	// whole indexes: with many millions of devices choose 10m or more.
	Tally Duration `yaml:"tally"`
}

// Timestamp configures the time-stamp authority.
type Timestamp struct {
	// Open lets anybody ask, at the status listener: signing tools ask over plain
	// HTTP and without a certificate. Operators may always ask, at that of the API.
	Open bool `yaml:"open"`
	// Policy is the OID that stands in the time stamps: under what rules they are
	// issued. Take one of your own arc, if verifiers are to look at it; that of
	// the default is an example's.
	Policy string `yaml:"policy"`
	// Accuracy is how far the clock may be off. A clock that is further behind
	// the last time that any server wrote into the log stops time stamps.
	Accuracy Duration `yaml:"accuracy"`
	// Rate bounds the time stamps that this server gives, in each second; after a
	// rest twice as many. Each is a leaf of the log. 0 means no bound.
	Rate int `yaml:"rate"`
}

// TUF configures the metadata of the TUF repository at /tuf, which lists the
// signed files of the published releases. It is there once a root was taken
// in: touchmark tuf. Each file is made anew at half of its time.
type TUF struct {
	// TargetsValidity is how long the list of files is good.
	TargetsValidity Duration `yaml:"targets_validity"`
	// SnapshotValidity is how long it is good that this is the newest list.
	SnapshotValidity Duration `yaml:"snapshot_validity"`
	// TimestampValidity is how long somebody between a client and the server
	// can hide from the client that there is something newer.
	TimestampValidity Duration `yaml:"timestamp_validity"`
}
