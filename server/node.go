package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// A node of role ocsp tells what became of certificates and can do nothing
// else: it reads the database as a user who may read little, and holds no
// key but those that its answers are signed with, for which a server with the
// CAs' keys gets it certificates.

// Roles of a server.
const (
	RoleAll  = "all"
	RoleOCSP = "ocsp"
)

// statusOnly reports whether the server is a node of role ocsp.
func (c *Config) statusOnly() bool { return slices.Equal(c.Roles, []string{RoleOCSP}) }

func (c *Config) checkRoles(bad func(string, ...any)) {
	if !c.statusOnly() && !slices.Equal(c.Roles, []string{RoleAll}) {
		bad("roles is %q: want [%s] or [%s]", c.Roles, RoleAll, RoleOCSP)
	}
	if c.statusOnly() && c.Status.Listen == "" {
		bad("status.listen is empty: a node of role %s does nothing else", RoleOCSP)
	}
	if c.statusOnly() && c.Responder == "" {
		bad("responder is empty: name the cli.yaml that `touchmark operator add NAME --role responder` wrote")
	}
}

// openNode opens what a node of role ocsp works with.
func (s *Server) openNode(ctx context.Context) (err error) {
	if s.authorities, err = ca.OpenKeyless(ctx, s.config.Places()); err != nil {
		return err
	}
	if s.reader, err = store.OpenReader(ctx, s.config.DSN()); err != nil {
		return err
	}
	if err := s.checkNode(ctx); err != nil {
		return err
	}
	s.issuing = issuing{s.authorities, s.reader, s.env.Now}
	if err := s.issuing.Refresh(ctx); err != nil {
		return err
	}
	server, err := newDelegator(s.config.responderFile(), time.Duration(s.config.Status.RequestTimeout))
	if err != nil {
		return err
	}
	s.metrics = newMetrics(s.nodeExpiries, s.env.Now)
	if err := s.openNews(); err != nil {
		return err
	}
	s.status = s.newStatus(s.reader.ReadOnly(), server.certify, server.report)
	s.offline = s.newOffline(s.reader.ReadOnly())
	return nil
}

// tryNode opens what a node of role ocsp works with, and closes it again.
func tryNode(ctx context.Context, c *Config, env Environment) error {
	s := &Server{config: c, env: env}
	err := s.openNode(ctx)
	return errors.Join(err, s.closeNews(), s.closeDatabase())
}

// nodeExpiries are the ends of the certificates that a node of role ocsp
// has.
func (s *Server) nodeExpiries() map[string]time.Time {
	m := map[string]time.Time{ca.RootName: s.authorities.Root.NotAfter}
	for _, i := range s.authorities.Issuing() {
		m[i.Name] = i.Certificate.NotAfter
	}
	s.addResponders(m)
	return m
}

// checkNode refuses a database that is another CA's, or half restored.
func (s *Server) checkNode(ctx context.Context) error {
	if err := s.reader.Unfinished(ctx); err != nil {
		return err
	}
	of, err := s.reader.Authority(ctx)
	if err != nil {
		return err
	}
	if of != s.authorities.Name() && !slices.Contains(s.authorities.Kin(), of) {
		return fmt.Errorf("the database belongs to another CA: its root certificate has the SHA-256 %s, the one in %s has %s", of, filepath.Join(s.config.Dir, "ca"), s.authorities.Name())
	}
	return nil
}

// wireNode makes the two doors that a node of role ocsp has.
func (s *Server) wireNode() error {
	s.health = &health{checks: []check{
		{"database", s.reader.Ping},
		{"clock", s.clock},
		{"statuses", s.status.check},
		{"responder", s.status.credentials.check},
		{"responder-key", s.checkResponderKey},
	}, warnings: s.newsCheck()}
	s.metrics.registry.MustRegister(s.health)
	s.statusDoors()
	return nil
}

// beginNode begins a node's work in the background.
func (s *Server) beginNode(work context.Context) {
	s.working.Go(func() { s.contained(func() { s.status.credentials.refresh(work) }) }) // which may wait long
	s.every(work, offlineEvery, s.offline.Run)
	s.tellStatus(work)
}

// check reports CAs that this server cannot answer for now.
func (c *credentials) check(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var lacking []string
	for _, i := range c.issuing() {
		if h := c.held[i.ID]; h == nil || h.current.Load() == nil || c.now().After(h.current.Load().NotAfter) {
			lacking = append(lacking, i.Name)
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	return fmt.Errorf("%s did not let this server answer; who asks about their certificates is told to try later", strings.Join(lacking, ", "))
}

// checkResponderKey reports that the key which signs OCSP answers cannot: it
// may be in an HSM that is gone.
func (s *Server) checkResponderKey(context.Context) error {
	if err := s.authorities.CheckOwn(ca.ResponderKeyName); err != nil {
		return fmt.Errorf("OCSP answers cannot be signed: %w; who asks what was not asked lately is told to try later", err)
	}
	return nil
}

// checkTLSKey reports that the key of the server's certificate cannot sign.
func (s *Server) checkTLSKey(context.Context) error {
	if err := s.authorities.CheckOwn(ca.TLSKeyName); err != nil {
		return fmt.Errorf("no TLS connection can begin: %w", err)
	}
	return nil
}

// checkAttestationKey reports that the attestation CA's key cannot sign.
func (s *Server) checkAttestationKey(context.Context) error {
	if err := s.authorities.CheckOwn(ca.AttestationKeyName); err != nil {
		return fmt.Errorf("the attestation CA cannot sign: %w", err)
	}
	return nil
}

// checkTimestampKey reports that the key which signs time stamps cannot.
func (s *Server) checkTimestampKey(context.Context) error {
	if err := s.authorities.CheckOwn(ca.TimestampKeyName); err != nil {
		return fmt.Errorf("no time stamps can be given: %w", err)
	}
	return nil
}

func (c *Config) responderFile() string { return c.inDir(c.Responder) }

// inDir is a path that counts from the data directory; "" stays empty.
func (c *Config) inDir(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(c.Dir, path)
}

// delegator is a server that holds CAs' keys, as an operator of role
// responder reaches it.
type delegator struct {
	base string
	http *http.Client
}

func newDelegator(file string, timeout time.Duration) (*delegator, error) {
	p, err := LoadProfile(file)
	if err != nil {
		return nil, fmt.Errorf("the responder's way to a server: %w", err)
	}
	u, err := url.Parse(p.Server)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%s: server is %q: want https://HOST:PORT", file, p.Server)
	}
	own := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // anew each time, for it is renewed
		pair, err := tls.LoadX509KeyPair(p.Certificate, p.Key)
		return &pair, err
	}
	if _, err := own(nil); err != nil {
		return nil, fmt.Errorf("%s: the responder's certificate and key: %w", file, err)
	}
	root, err := os.ReadFile(p.CA)
	if err != nil {
		return nil, fmt.Errorf("%s: the root certificate: %w", file, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		return nil, fmt.Errorf("%s: %s holds no certificate in PEM", file, p.CA)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, GetClientCertificate: own}}
	return &delegator{strings.TrimSuffix(p.Server, "/") + api.Base, &http.Client{Transport: transport, Timeout: timeout}}, nil
}

// certify gets a CA's certificate for a key.
func (d *delegator) certify(ctx context.Context, issuer string, key crypto.Signer) ([]byte, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	in := api.ResponderInput{CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))}
	var out api.ResponderCertificate
	if err := d.post(ctx, "/issuers/"+url.PathEscape(issuer)+"/responders", in, &out); err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(out.Certificate))
	if block == nil {
		return nil, errors.New("the server's answer holds no certificate in PEM")
	}
	return block.Bytes, nil
}

// report tells of forged serial numbers.
func (d *delegator) report(ctx context.Context, issuer string, serials [][]byte, more int64) error {
	in := api.ForgeriesInput{Serials: make([]string, len(serials)), More: more}
	for i, s := range serials {
		in.Serials[i] = hex.EncodeToString(s)
	}
	return d.post(ctx, "/issuers/"+url.PathEscape(issuer)+"/forgeries", in, new(api.ForgeriesKept))
}

// maxDelegated bounds a server's answer, in bytes.
const maxDelegated = 1 << 20

// post asks the server. What it refuses for good is a *vetting.Error.
func (d *delegator) post(ctx context.Context, path string, in, out any) error {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.base+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDelegated))
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK {
		return json.Unmarshal(body, out)
	}
	var p api.Problem
	_ = json.Unmarshal(body, &p) // what is none says nothing
	if resp.StatusCode == http.StatusUnprocessableEntity {
		return vetting.Errorf(vetting.Invalid, "the server refused it: %s", p.Detail)
	}
	return fmt.Errorf("the server answered %s: %s", resp.Status, p.Detail)
}

// tellStatus keeps up with what is told of certificates.
func (s *Server) tellStatus(work context.Context) {
	s.every(work, ocsp.FollowEvery, s.status.follow)
	s.every(work, credentialsEvery, s.status.credentials.run)
	s.every(work, forgeriesEvery, s.status.reporting.run)
	s.every(work, listsEvery, s.status.lists.run)
	s.every(work, issuersEvery, s.learnIssuers)
	s.hearNews(work)
}
