package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
	"go.mozilla.org/pkcs7"
)

// works is a whole server with one order, and a clock that can be moved.
type works struct {
	t      *testing.T
	config *Config
	server *Server
	world  *storetest.World
	ahead  atomic.Int64
}

func opened(t *testing.T, changes ...func(*Config)) *works {
	t.Helper()
	w := &works{t: t, config: initialized(t, Plan{})}
	for _, change := range changes {
		change(w.config)
	}
	s, err := New(t.Context(), w.config, Environment{Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.server = s
	newWorldOf(w)
	return w
}

func newWorldOf(w *works) {
	w.t.Helper()
	w.world = storetest.NewWorld(w.t, w.server.store, 1000)
}

func (w *works) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// pair is what a client shows in the handshake; the zero pair is nothing.
type pair struct {
	key  crypto.Signer
	cert *x509.Certificate
}

// issued makes a certificate of the issuer's, self-signed without one.
func (w *works) issued(name string, issuer pair, until time.Time) pair {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name, SerialNumber: name}, NotBefore: until.Add(-time.Hour), NotAfter: until}
	if issuer.key == nil {
		issuer = pair{key, template}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, &key.PublicKey, issuer.key)
	if err != nil {
		w.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	return pair{key, cert}
}

// build makes a device that the factory has handed in.
func (w *works) build(serial string, until time.Time) pair {
	w.t.Helper()
	p := w.issued(serial, pair{}, until)
	w.world.Load(w.t, vetting.Record{Row: 1, Identity: vetting.Identity{Serial: serial}, BootstrapKey: vetting.KeyFingerprint(p.cert.RawSubjectPublicKeyInfo)})
	return p
}

// speaks is a client that knows one version of TLS only.
func (w *works) speaks(version uint16, p pair) *http.Client {
	config := as(w.t, w.config, "").Transport.(*http.Transport).TLSClientConfig.Clone()
	config.MinVersion, config.MaxVersion, config.Time = version, version, w.now
	if p.cert != nil {
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{p.cert.Raw}, PrivateKey: p.key}}
	}
	transport := &http.Transport{TLSClientConfig: config}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// send sends a request to the devices' listener over a connection of its own;
// the header is of keys and values.
func (w *works) send(version uint16, p pair, method, path, body string, header ...string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, "https://"+w.server.Addrs()["est"]+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for kv := range slices.Chunk(header, 2) {
		req.Header.Set(kv[0], kv[1])
	}
	client := w.speaks(version, p)
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, string(text)
}

// est sends a request; a CSR makes it a POST.
func (w *works) est(version uint16, p pair, operation string, csr []byte) (code int, kind, body string) {
	w.t.Helper()
	method := "GET"
	if csr != nil {
		method = "POST"
	}
	resp, text := w.send(version, p, method, "/.well-known/est/"+operation, b64(csr), "Content-Type", "application/pkcs10")
	if resp.TLS.Version != version {
		w.t.Fatalf("TLS version %x, want %x", resp.TLS.Version, version)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), text
}

// enrol wants a certificate for a CSR that repeats the names of like.
func (w *works) enrol(version uint16, p pair, operation string, like *x509.Certificate) pair {
	w.t.Helper()
	key, csr := w.request(like)
	code, _, body := w.est(version, p, operation, csr)
	if code != 200 {
		w.t.Fatalf("%s: %d %s", operation, code, body)
	}
	certs := certificates(w.t, body)
	if len(certs) != 1 || !key.PublicKey.Equal(certs[0].PublicKey) {
		w.t.Fatalf("%s: %d certificates", operation, len(certs))
	}
	return pair{key, certs[0]}
}

func (w *works) request(like *x509.Certificate) (*ecdsa.PrivateKey, []byte) {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.CertificateRequest{}
	if like != nil {
		template.RawSubject = like.RawSubject
		for _, x := range like.Extensions {
			if x.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
				template.ExtraExtensions = append(template.ExtraExtensions, x)
			}
		}
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		w.t.Fatal(err)
	}
	return key, csr
}

func certificates(t *testing.T, body string) []*x509.Certificate {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(body)
	if err != nil {
		t.Fatalf("not base64: %v\n%s", err, body)
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return p7.Certificates
}

var tlsVersions = map[string]uint16{"TLS-1.2": tls.VersionTLS12, "TLS-1.3": tls.VersionTLS13}

// Many devices' stacks know TLS 1.2 only; all of EST works with it.
func TestWholeLifeOnOneVersion(t *testing.T) {
	w := opened(t)
	for name, v := range tlsVersions {
		if code, _, body := w.est(v, pair{}, "cacerts", nil); code != 200 || len(certificates(t, body)) != 4 {
			t.Errorf("%s: cacerts: %d %s", name, code, body)
		}
		if code, kind, body := w.est(v, pair{}, "thermo/csrattrs", nil); code != 200 || kind != "application/csrattrs" {
			t.Errorf("%s: csrattrs: %d %s", name, code, body)
		}
		official := w.enrol(v, w.build(name, w.now().Add(time.Hour)), "simpleenroll", nil)
		renewed := w.enrol(v, official, "simplereenroll", official.cert)
		if !bytes.Equal(renewed.cert.RawSubject, official.cert.RawSubject) {
			t.Errorf("%s: renewed as %s", name, renewed.cert.Subject)
		}
		w.enrol(v, renewed, "thermo/simplereenroll", renewed.cert)
	}
}

// What a certificate is worth is said in HTTP, where a person can read it,
// and not by a TLS alert (RFC 7030 §3.2.3, §3.3.2).
func TestCertificatesThatDoNotCount(t *testing.T) {
	w, other := opened(t), opened(t)
	soon := w.now().Add(time.Hour)
	// told is what the answers to an enrolment and to a renewal say.
	type told struct {
		who          pair
		code         int
		enrol, renew string
	}
	cases := map[string]told{
		"none":                 {pair{}, 401, "no client certificate", "no client certificate"},
		"a stranger's":         {w.issued("S-1", w.issued("Stranger CA", pair{}, soon), soon), 403, "no CA of this server", "no CA of this server"},
		"a stranger's expired": {w.issued("S-2", w.issued("Stranger CA", pair{}, soon), soon.Add(-48*time.Hour)), 403, "no CA of this server", "no CA of this server"},
		"another server's":     {other.enrol(tls.VersionTLS13, other.build("S-3", soon), "simpleenroll", nil), 403, "does not count", "does not count"},
		"an unknown bootstrap": {w.issued("S-4", pair{}, soon), 403, "No manufacturing record", "enrol with /simpleenroll"},
	}
	for name, state := range map[string]vetting.DeviceState{"suspended": vetting.DeviceSuspended, "retired": vetting.DeviceRetired, "scrapped": vetting.DeviceScrapped} {
		cases[name] = told{w.inState(name, state), 403, "/simplereenroll", name}
	}
	first := w.enrol(tls.VersionTLS13, w.build("S-5", soon), "simpleenroll", nil)
	second := w.enrol(tls.VersionTLS13, first, "simplereenroll", first.cert)
	w.enrol(tls.VersionTLS13, second, "simplereenroll", second.cert)
	_, csr := w.request(first.cert)
	if code, _, body := w.est(tls.VersionTLS13, first, "simplereenroll", csr); code != 403 || !strings.Contains(body, "superseded") {
		t.Errorf("superseded: %d %s", code, body)
	}
	cases["superseded"] = told{first, 403, "/simplereenroll", "quarantined"}

	before := w.certified()
	for version, v := range tlsVersions {
		for name, c := range cases {
			_, csr := w.request(c.who.cert)
			code, kind, body := w.est(v, c.who, "simpleenroll", csr)
			if code != c.code || !strings.Contains(body, c.enrol) || !strings.HasPrefix(kind, "text/plain") {
				t.Errorf("%s, %s: enrolment: %d %s %s", version, name, code, kind, body)
			}
			code, kind, body = w.est(v, c.who, "simplereenroll", csr)
			if code != c.code || !strings.Contains(body, c.renew) || !strings.HasPrefix(kind, "text/plain") {
				t.Errorf("%s, %s: renewal: %d %s %s", version, name, code, kind, body)
			}
			w.getsCACerts(v, c.who, version+", "+name)
		}
	}
	if after := w.certified(); after != before {
		t.Errorf("the devices' certificates are %s, before they were %s", after, before)
	}
}

// certified lists the devices' current certificates.
func (w *works) certified() (list string) {
	w.t.Helper()
	devices, err := w.server.store.Devices(w.t.Context(), vetting.DeviceFilter{}, vetting.Page{Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range devices {
		list += " " + d.Certificate
	}
	return list
}

// getsCACerts: they are everybody's, whatever is shown (RFC 7030 §4.1.2).
func (w *works) getsCACerts(v uint16, p pair, name string) {
	w.t.Helper()
	for _, path := range []string{"cacerts", "thermo/csrattrs"} {
		if code, _, body := w.est(v, p, path, nil); code != 200 {
			w.t.Errorf("%s: %s: %d %s", name, path, code, body)
		}
	}
}

// inState enrols a device and has an operator take it out of service.
func (w *works) inState(serial string, state vetting.DeviceState) pair {
	w.t.Helper()
	p := w.enrol(tls.VersionTLS13, w.build(serial, w.now().Add(time.Hour)), "simpleenroll", nil)
	w.getsCACerts(tls.VersionTLS13, p, serial) // the first use: the device is active
	list, err := w.server.store.Devices(w.t.Context(), vetting.DeviceFilter{Identity: vetting.Identity{Serial: serial}}, vetting.Page{})
	if err != nil || len(list) != 1 {
		w.t.Fatalf("%d devices %s: %v", len(list), serial, err)
	}
	if _, err := w.server.store.SetDeviceState(w.t.Context(), storetest.By, list[0].ID, state, "test"); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// An official certificate that has run out renews nothing; a bootstrap
// certificate's dates say nothing, for devices are built without a clock.
func TestExpired(t *testing.T) {
	w := opened(t)
	unit := w.build("B-1", w.now().Add(-1000*time.Hour))
	official := w.enrol(tls.VersionTLS13, w.build("E-1", w.now().Add(time.Hour)), "simpleenroll", nil)
	w.ahead.Store(int64(826 * 24 * time.Hour)) // the profile gives 825 days
	for version, v := range tlsVersions {
		_, csr := w.request(official.cert)
		code, kind, body := w.est(v, official, "simplereenroll", csr)
		if code != 403 || !strings.Contains(body, "ran out at") || !strings.HasPrefix(kind, "text/plain") {
			t.Errorf("%s: renewal: %d %s", version, code, body)
		}
		if code, _, body := w.est(v, official, "simpleenroll", csr); code != 403 {
			t.Errorf("%s: enrolment: %d %s", version, code, body)
		}
		w.getsCACerts(v, official, version)
		w.enrol(v, unit, "simpleenroll", nil)
	}
}

// capture keeps what came from the server, and may change the first flight.
type capture struct {
	net.Conn
	got    bytes.Buffer
	mangle func([]byte)
}

func (c *capture) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.got.Write(b[:n])
	return n, err
}

func (c *capture) Write(b []byte) (int, error) {
	if c.mangle != nil {
		c.mangle(b)
		c.mangle = nil
	}
	return c.Conn.Write(b)
}

// unknownSuites overwrites the cipher suites of a ClientHello (RFC 8446
// §4.1.2) by ones that nobody has.
func unknownSuites(record []byte) {
	at := 5 + 4 + 2 + 32 // record header, handshake header, version, random
	at += 1 + int(record[at])
	n := int(binary.BigEndian.Uint16(record[at:]))
	for i := at + 2; i < at+2+n; i += 2 {
		record[i], record[i+1] = 0xfe, byte(i)
	}
}

// A client that cannot be served is told so in TLS, and the connection ends.
func TestAlerts(t *testing.T) {
	w := opened(t)
	const handshakeFailure, protocolVersion = 40, 70
	for name, c := range map[string]struct {
		min, max uint16
		suites   []uint16
		mangle   func([]byte)
		alert    byte
	}{
		"TLS 1.0 only":                 {tls.VersionTLS10, tls.VersionTLS10, nil, nil, protocolVersion},
		"TLS 1.1 only":                 {tls.VersionTLS11, tls.VersionTLS11, nil, nil, protocolVersion},
		"TLS 1.2, CBC":                 {tls.VersionTLS12, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256}, nil, handshakeFailure},
		"TLS 1.2, no forward secrecy":  {tls.VersionTLS12, tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}, nil, handshakeFailure},
		"TLS 1.2, RSA authentication":  {tls.VersionTLS12, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}, nil, handshakeFailure},
		"TLS 1.2, unknown suites":      {tls.VersionTLS12, tls.VersionTLS12, nil, unknownSuites, handshakeFailure},
		"TLS 1.3, unknown suites":      {tls.VersionTLS13, tls.VersionTLS13, nil, unknownSuites, handshakeFailure},
		"TLS 1.2 or 1.3, unknown ones": {tls.VersionTLS12, tls.VersionTLS13, nil, unknownSuites, handshakeFailure},
	} {
		for _, door := range []string{"est", "api"} {
			raw, err := net.Dial("tcp", w.server.Addrs()[door])
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			if err := raw.SetDeadline(time.Now().Add(time.Minute)); err != nil { // only a server that hangs meets it
				t.Fatal(err)
			}
			conn := &capture{Conn: raw, mangle: c.mangle}
			if err := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: c.min, MaxVersion: c.max, CipherSuites: c.suites}).Handshake(); err == nil {
				t.Errorf("%s at %s: the handshake went through", name, door)
				continue
			}
			rest, err := io.ReadAll(raw)
			got := append(conn.got.Bytes(), rest...)
			// one record of type alert with two bytes: fatal, and why
			if len(got) != 7 || got[0] != 21 || got[1] != 3 || !bytes.Equal(got[3:], []byte{0, 2, 2, c.alert}) || err != nil {
				t.Errorf("%s at %s: % x, then %v; want an alert %d and the end", name, door, got, err, c.alert)
			}
		}
	}
}

// Somebody who forgot the s of https is answered too.
func TestPlainHTTP(t *testing.T) {
	w := opened(t)
	resp, err := http.Get("http://" + w.server.Addrs()["est"] + "/.well-known/est/cacerts")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 400 || !strings.Contains(string(body), "HTTPS") {
		t.Errorf("%d %q %v", resp.StatusCode, body, err)
	}
}

func b64(der []byte) string { return base64.StdEncoding.EncodeToString(der) }
