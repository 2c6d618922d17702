package server

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// portals is a works with a product of servers below lab.example and an order
// for two of them. They are looked for at ports that no other process has.
type portals struct {
	*works
	zone              *zone
	httpPort, tlsPort int
	client            string       // a directory for the foreign client
	expected          atomic.Value // what a server answers, if it does
}

func newPortals(t *testing.T, changes ...func(*Config)) *portals {
	t.Helper()
	p := &portals{zone: newZone(t), httpPort: spare(t), tlsPort: spare(t), client: t.TempDir()}
	p.works = opened(t, append([]func(*Config){func(c *Config) {
		c.ACME.Servers = Servers{Allow: []string{"127.0.0.1"}, Resolver: p.zone.at, HTTPPort: p.httpPort, TLSPort: p.tlsPort}
	}}, changes...)...)
	product := &vetting.Product{Name: "portal", Profile: vetting.Profile{Validity: "90d"}, Proofs: []vetting.Proof{vetting.ProofDomain},
		Domains: vetting.Domains{Names: []string{".lab.example"}, Wildcards: true}}
	if _, err := p.server.store.CreateProduct(t.Context(), storetest.By, product); err != nil {
		t.Fatal(err)
	}
	if _, err := p.server.store.CreateOrder(t.Context(), storetest.By, &vetting.Order{Name: "servers", Product: "portal", Site: "hsinchu", Quantity: 2, State: vetting.OrderOpen, ManifestSignatures: 1}); err != nil {
		t.Fatal(err)
	}
	p.zone.is("web1.lab.example", "127.0.0.1")
	p.zone.is("web2.lab.example", "127.0.0.1")
	p.zone.is("web3.lab.example", "127.0.0.1")
	return p
}

// spare is a port that was free.
func spare(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// run runs a foreign client, which trusts the server's root, and gives what it
// said.
func (p *portals) run(name string, args ...string) (string, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 3*time.Minute)
	defer cancel()
	root := filepath.Join(p.config.Dir, "ca", "root.crt")
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LEGO_CA_CERTIFICATES="+root, "REQUESTS_CA_BUNDLE="+root, "EXEC_PATH="+filepath.Join(p.client, "hook"), "EXEC_POLLING_INTERVAL=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (p *portals) directory() string {
	_, port, err := net.SplitHostPort(p.server.Addrs()["acme"])
	if err != nil {
		p.t.Fatal(err)
	}
	return "https://localhost:" + port + "/acme/directory"
}

// lego runs lego with an account by an account key for the order.
func (p *portals) lego(k api.AccountKeyCreated, domain string, verb []string, challenge ...string) (string, error) {
	p.t.Helper()
	args := []string{"--server", p.directory(), "--accept-tos", "--email", "it@lab.example", "--path", p.client,
		"--eab", "--kid", k.KeyID, "--hmac", k.Secret, "--domains", domain}
	return p.run("lego", slices.Concat(args, challenge, verb)...)
}

func (p *portals) legoMust(k api.AccountKeyCreated, domain string, verb []string, challenge ...string) {
	p.t.Helper()
	if out, err := p.lego(k, domain, verb, challenge...); err != nil {
		p.t.Fatalf("lego: %v\n%s", err, out)
	}
}

// serving checks the certificate that a client has in a file: a server's, for
// the name, by this CA.
func (p *portals) serving(file, name string) *x509.Certificate {
	p.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	block, rest := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		p.t.Fatal(err)
	}
	roots, above := x509.NewCertPool(), x509.NewCertPool()
	root, err := os.ReadFile(filepath.Join(p.config.Dir, "ca", "root.crt"))
	if err != nil {
		p.t.Fatal(err)
	}
	roots.AppendCertsFromPEM(root)
	above.AppendCertsFromPEM(rest)
	opts := x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: above, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, CurrentTime: p.now()}
	if _, err := cert.Verify(opts); err != nil {
		p.t.Errorf("the certificate of %s: %v", name, err)
	}
	return cert
}

// filled wants an order's units to be used up as far.
func (p *portals) filled(order string, issued int64) {
	p.t.Helper()
	o, err := p.server.store.Order(p.t.Context(), order)
	if err != nil || o.Issued != issued {
		p.t.Errorf("order %s: %+v, %v; want %d issued", order, o, err, issued)
	}
}

// lego proves a name by http-01 and tls-alpn-01, renews and revokes: one unit.
func TestACMELego(t *testing.T) {
	p := newPortals(t)
	k := p.accountKey(api.AccountKeyInput{Order: "servers"})
	web := []string{"--http", "--http.port", "127.0.0.1:" + strconv.Itoa(p.httpPort)}
	alpn := []string{"--tls", "--tls.port", "127.0.0.1:" + strconv.Itoa(p.tlsPort)}
	file := filepath.Join(p.client, "certificates", "web1.lab.example.crt")

	p.legoMust(k, "web1.lab.example", []string{"run"}, web...)
	first := p.serving(file, "web1.lab.example")
	p.filled("servers", 1)

	p.legoMust(k, "web1.lab.example", []string{"renew", "--days", "9999", "--no-random-sleep"}, alpn...)
	second := p.serving(file, "web1.lab.example")
	if second.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Error("the certificate was not renewed")
	}
	p.filled("servers", 1)

	p.legoMust(k, "web2.lab.example", []string{"run"}, alpn...)
	p.filled("servers", 2)
	out, err := p.lego(k, "web3.lab.example", []string{"run"}, web...)
	if err == nil || !strings.Contains(out, "used up") {
		t.Errorf("one more than the order has units: %v\n%s", err, out)
	}
	out, err = p.lego(k, "www.elsewhere.example", []string{"run"}, web...)
	if err == nil || !strings.Contains(out, "rejectedIdentifier") {
		t.Errorf("a name that is none of the product's: %v\n%s", err, out)
	}

	p.legoMust(k, "web1.lab.example", []string{"revoke"})
	c, err := p.server.store.Certificate(t.Context(), fmt.Sprintf("%x", second.SerialNumber.Bytes()))
	if err != nil || c.State != vetting.CertificateRevoked {
		t.Errorf("after the revocation: %+v, %v", c, err)
	}
	storetest.Verify(t, p.server.store)
}

// certbot proves a name by http-01, renews and revokes.
func TestACMECertbot(t *testing.T) {
	p := newPortals(t)
	k := p.accountKey(api.AccountKeyInput{Order: "servers"})
	dirs := []string{"--non-interactive", "--server", p.directory(), "--config-dir", p.client + "/etc", "--work-dir", p.client + "/lib", "--logs-dir", p.client + "/log"}
	certbot := func(args ...string) {
		t.Helper()
		if out, err := p.run("certbot", slices.Concat(args, dirs)...); err != nil {
			t.Fatalf("certbot %s: %v\n%s", args[0], err, out)
		}
	}
	web := []string{"--http-01-port", strconv.Itoa(p.httpPort), "--http-01-address", "127.0.0.1"}
	file := filepath.Join(p.client, "etc", "live", "web1.lab.example", "fullchain.pem")

	certbot(slices.Concat([]string{"certonly", "--standalone", "--agree-tos", "--email", "it@lab.example", "--eab-kid", k.KeyID, "--eab-hmac-key", k.Secret, "--domain", "web1.lab.example"}, web)...)
	first := p.serving(file, "web1.lab.example")
	certbot(slices.Concat([]string{"renew", "--force-renewal", "--no-random-sleep-on-renew"}, web)...)
	second := p.serving(file, "web1.lab.example")
	if second.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Error("the certificate was not renewed")
	}
	p.filled("servers", 1)
	certbot("revoke", "--cert-path", file, "--reason", "superseded", "--no-delete-after-revoke")
	for c, want := range map[*x509.Certificate]vetting.CertificateState{first: vetting.CertificateSuperseded, second: vetting.CertificateRevoked} {
		have, err := p.server.store.Certificate(t.Context(), fmt.Sprintf("%x", c.SerialNumber.Bytes()))
		if err != nil || have.State != want {
			t.Errorf("%+v, %v; want it %s", have, err, want)
		}
	}
	storetest.Verify(t, p.server.store)
}

// lego proves names by dns-01, a wildcard among them.
func TestACMELegoDNS(t *testing.T) {
	p := newPortals(t)
	hook := "#!/bin/sh\nfile=" + p.zone.dir + "/${2%.}\ncase $1 in\npresent) echo \"$3\" >>\"$file\" ;;\ncleanup) rm -f \"$file\" ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(p.client, "hook"), []byte(hook), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	k := p.accountKey(api.AccountKeyInput{Order: "servers"})
	zone := []string{"--dns", "exec", "--dns.disable-cp", "--dns.resolvers", p.zone.at}
	p.legoMust(k, "web9.lab.example", []string{"run"}, zone...)
	p.serving(filepath.Join(p.client, "certificates", "web9.lab.example.crt"), "web9.lab.example")
	p.legoMust(k, "*.lab.example", []string{"run"}, zone...)
	p.serving(filepath.Join(p.client, "certificates", "_.lab.example.crt"), "any.lab.example")
	p.filled("servers", 2)
}
