package server

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/ocsptest"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// node is the configuration of a node of role ocsp beside a server: what an
// administrator copies to its machine, and the way back.
func (w *works) node(role access.Role) *Config {
	w.t.Helper()
	dir := w.t.TempDir()
	for _, name := range []string{"ca/root.crt", "ca/device-ca.crt", "keys/serial.key"} {
		text, err := os.ReadFile(filepath.Join(w.config.Dir, name))
		if err != nil {
			w.t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700), os.WriteFile(filepath.Join(dir, name), text, 0o600)); err != nil {
			w.t.Fatal(err)
		}
	}
	key, err := (keys.Ring{Dir: dir}).Create(w.t.Context(), "file:node.key", keys.P256)
	if err != nil {
		w.t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		w.t.Fatal(err)
	}
	var made api.OperatorCreated
	w.ask("/operators", map[string]string{"name": "node-" + filepath.Base(dir), "role": string(role), "csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))}, 201, &made)
	_, port, _ := strings.Cut(w.server.Addrs()["api"], ":")
	p := Profile{Server: "https://localhost:" + port, Certificate: "node.crt", Key: "node.key", CA: "ca/root.crt"}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "node.crt"), []byte(made.Certificate), 0o600), os.WriteFile(filepath.Join(dir, "cli.yaml"), []byte(p.Text()), 0o600)); err != nil {
		w.t.Fatal(err)
	}
	c := local()
	c.Dir, c.Database, c.Roles, c.Responder = dir, w.config.DSN(), []string{RoleOCSP}, "cli.yaml"
	if err := c.Check(); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// TestOCSPNode: a node of role ocsp tells what the server does, and holds
// nothing that could make a certificate.
func TestOCSPNode(t *testing.T) {
	w := opened(t)
	device := w.server.authorities.Device.Certificate
	c := w.node(access.RoleResponder)
	n := started(t, c)
	if a := n.Addrs(); len(a) != 2 || a["status"] == "" || a["ops"] == "" {
		t.Errorf("its doors are %v", a)
	}
	first := w.enrol(v13, w.build("A-1", w.now().Add(time.Hour)), "simpleenroll", nil)
	w.comes(n, device, first.cert, "good", 0)
	if code, body := get(t, http.DefaultClient, "http://"+n.Addrs()["ops"]+"/readyz"); code != 200 {
		t.Errorf("not ready: %s", body)
	}
	if code, der := get(t, http.DefaultClient, "http://"+n.Addrs()["status"]+"/cacerts/device-ca.crt"); code != 200 || der != string(device.Raw) {
		t.Errorf("the CA's certificate: %d", code)
	}
	if _, err := w.server.store.RevokeDevice(t.Context(), access.Act{Operator: "admin"}, w.device("A-1").ID, vetting.RevokedKeyCompromise, "test"); err != nil {
		t.Fatal(err)
	}
	w.comes(n, device, first.cert, "revoked", 1)
	w.comes(w.server, device, first.cert, "revoked", 1)

	acme := w.issuer("acme-ca") // which the node learns of
	w.ask("/owners", map[string]string{"name": "acme", "issuer": "acme-ca"}, 201, nil)
	unborn := w.build("B-1", w.now().Add(time.Hour))
	w.gives("B-1", vetting.Manufacturer, "acme")
	w.comes(n, acme, w.enrol(v13, unborn, "simpleenroll", nil).cert, "good", 0)

	w.forges(n, device, new(big.Int).Add(first.cert.SerialNumber, big.NewInt(1)))
	n.status.reporting.flush(t.Context())
	list, err := w.server.store.Evidence(t.Context(), vetting.EvidenceFilter{Kind: vetting.EvidenceForged}, vetting.Page{})
	if err != nil || len(list) != 1 {
		t.Errorf("evidence %+v, %v", list, err)
	}
	w.holdsNoKey(c.Dir)
}

// forges asks a node about a certificate that was never issued.
func (w *works) forges(n *Server, issuer *x509.Certificate, serial *big.Int) {
	w.t.Helper()
	q := ocsptest.Question{CertIDs: []ocsptest.CertID{ocsptest.ID(crypto.SHA256, issuer, serial)}}
	resp, err := http.Post("http://"+n.Addrs()["status"]+ocsp.Path, "application/ocsp-request", bytes.NewReader(q.DER()))
	if err != nil {
		w.t.Fatal(err)
	}
	resp.Body.Close()
}

// holdsNoKey checks that a directory has none of the server's private keys but
// that of the serial numbers.
func (w *works) holdsNoKey(dir string) {
	w.t.Helper()
	secrets := map[string]string{}
	read := func(root string, each func(path, text string)) {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			each(path, string(text))
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	read(filepath.Join(w.config.Dir, "keys"), func(path, text string) {
		if filepath.Base(path) != "serial.key" {
			secrets[text] = path
		}
	})
	if len(secrets) < 5 {
		w.t.Fatalf("the server has only %d keys: the test looks in the wrong place", len(secrets))
	}
	read(dir, func(path, text string) {
		if key := secrets[text]; key != "" {
			w.t.Errorf("%s is %s", path, key)
		}
	})
}

// TestOCSPNodeOfAnotherRole: only a responder is let answer, and whoever is not
// lets clients try later, and says so.
func TestOCSPNodeOfAnotherRole(t *testing.T) {
	w := opened(t)
	n := started(t, w.node(access.RoleReporter))
	n.status.credentials.refresh(t.Context())
	first := w.enrol(v13, w.build("A-1", w.now().Add(time.Hour)), "simpleenroll", nil)
	if says, _ := asked(t, n, w.server.authorities.Device.Certificate, first.cert, w.now); says != "later" {
		t.Errorf("it says %s", says)
	}
	code, body := get(t, http.DefaultClient, "http://"+n.Addrs()["ops"]+"/readyz")
	var r report
	if err := json.Unmarshal([]byte(body), &r); err != nil || code != 503 || !strings.Contains(r.Checks["responder"], "device-ca did not let this server answer") {
		t.Errorf("%d %s", code, body)
	}
}

// TestOCSPNodeRefuses: what does not fit together is refused at the start.
func TestOCSPNodeRefuses(t *testing.T) {
	w := opened(t)
	other := initialized(t, Plan{})
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"another CA's database":    {func(c *Config) { c.Database = other.DSN() }, "belongs to another CA"},
		"no database":              {func(c *Config) { c.Database = "sqlite:" + filepath.Join(t.TempDir(), "none.db") }, "no such file"},
		"no serial key":            {func(c *Config) { os.Remove(filepath.Join(c.Dir, "keys/serial.key")) }, "serial number key"},
		"no way to a server":       {func(c *Config) { c.Responder = "nothing.yaml" }, "the responder's way to a server"},
		"a certificate of no root": {func(c *Config) { os.WriteFile(filepath.Join(c.Dir, "ca/device-ca.crt"), ca.PEM(foreign(t)), 0o600) }, "was not signed by the root"},
	} {
		t.Run(name, func(t *testing.T) {
			c := w.node(access.RoleResponder)
			if found := Check(t.Context(), c, Environment{}); len(found) != 2 || found[0].Err != nil || found[1].Err != nil {
				t.Errorf("checked before: %+v", found)
			}
			tt.change(c)
			if found := Check(t.Context(), c, Environment{}); found[1].Err == nil || !strings.Contains(found[1].Err.Error(), tt.want) {
				t.Errorf("checked: %+v, want %q", found, tt.want)
			}
			n, err := New(t.Context(), c, Environment{})
			if err == nil {
				n.Stop(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	for _, c := range []*Config{{Roles: []string{"ocsp"}}, {Roles: []string{"est"}}, {Roles: []string{"ocsp", "all"}}, {}} {
		d := local()
		d.Roles, d.Audit.Origin = c.Roles, "x/audit"
		if err := d.Check(); err == nil {
			t.Errorf("roles %q and no way to a server: taken", d.Roles)
		}
	}
}

// foreign is the certificate of another Touchmark's device CA.
func foreign(t *testing.T) []byte {
	a, err := ca.Init(t.Context(), ca.Places{Dir: t.TempDir()}, "Other Works", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a.Device.Certificate.Raw
}
