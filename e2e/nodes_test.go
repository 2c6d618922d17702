package e2e

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/touchmark/touchmark/devicesim"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/cluster/redistest"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/ocsp/ocsptest"
	"github.com/touchmark/touchmark/server"
	"github.com/touchmark/touchmark/vetting"
)

// TestNodes: what one server changes is seen on another and on a node of role
// ocsp, with Redis sooner than without, and the node can neither sign as a CA
// nor write.
func TestNodes(t *testing.T) {
	redis := redistest.Start(t)
	i := install(t, storetest.Postgres(t))
	i.reconfigure(func(c *server.Config) { c.Redis.URL = "redis://" + redis.Addr() })
	i.start()
	f, units := build(t, 12)
	i.order(len(units), units, f)
	fleet := devicesim.Fleet{Servers: []devicesim.Server{i.server()}, Units: units, Workers: 4}
	fleet.Run(context.Background())
	second := i.sibling()
	second.reconfigure(func(c *server.Config) { c.Redis.URL = "redis://" + redis.Addr() })
	second.start()
	node := i.ocspNode("redis://" + redis.Addr())
	node.start()

	r := &revocations{t: t, by: i, others: []*installation{second, node}, devices: map[int64]*x509.Certificate{}}
	r.find()
	r.until("good", 0, r.certificates()...)
	r.some("with Redis", 4)
	redis.Stop()
	r.some("without Redis", 4)
	redis.Restart()
	r.some("with Redis again", 4)
	r.until("revoked", 1, r.certificates()...)
	r.same(i, second, node)
	i.holdsNoKeyOf(node)
	node.readsOnly()
	for _, s := range []*installation{node, second, i} {
		s.stop()
	}
	verifyLog(t, i.store())
}

// reconfigure changes the configuration before a start.
func (i *installation) reconfigure(change func(*server.Config)) {
	i.t.Helper()
	c, err := server.LoadConfig(filepath.Join(i.dir, server.ConfigFile))
	if err != nil {
		i.t.Fatal(err)
	}
	change(c)
	c.Dir = "."
	if err := os.WriteFile(filepath.Join(i.dir, server.ConfigFile), []byte(server.Sample(c)), 0o600); err != nil {
		i.t.Fatal(err)
	}
	i.status = "http://" + c.Status.Listen
}

// ocspNode is a node of role ocsp, on a machine of its own as far as files go,
// that reads the database as the user that deploy/ocsp-node.sql makes.
func (i *installation) ocspNode(redis string) *installation {
	i.t.Helper()
	n := &installation{t: i.t, dir: filepath.Join(i.t.TempDir(), "node"), dsn: i.readingUser()}
	c := n.config()
	c.Dir, c.Roles, c.Responder, c.Redis.URL, c.Audit.Origin = ".", []string{server.RoleOCSP}, "cli.yaml", redis, ""
	n.status = "http://" + c.Status.Listen
	files := map[string][]byte{server.ConfigFile: []byte(server.Sample(c))}
	for _, name := range []string{"ca/root.crt", "ca/device-ca.crt", "keys/serial.key"} {
		text, err := os.ReadFile(filepath.Join(i.dir, name))
		if err != nil {
			i.t.Fatal(err)
		}
		files[name] = text
	}
	for name, text := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(n.dir, name)), 0o700), os.WriteFile(filepath.Join(n.dir, name), text, 0o600)); err != nil {
			i.t.Fatal(err)
		}
	}
	i.hireResponder(n.dir)
	return n
}

// hireResponder makes an operator of role responder, whose key is made in a
// directory and stays there.
func (i *installation) hireResponder(dir string) {
	i.t.Helper()
	key, err := (keys.Ring{Dir: dir}).Create(i.t.Context(), "file:node.key", keys.P256)
	if err != nil {
		i.t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		i.t.Fatal(err)
	}
	var made struct{ Certificate string }
	in := map[string]string{"name": "node", "role": "responder", "csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))}
	if err := i.admin().Do(i.t.Context(), "POST", "/operators", in, &made); err != nil {
		i.t.Fatal(err)
	}
	p := server.Profile{Server: i.api, Certificate: "node.crt", Key: "node.key", CA: "ca/root.crt"}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "node.crt"), []byte(made.Certificate), 0o600), os.WriteFile(filepath.Join(dir, "cli.yaml"), []byte(p.Text()), 0o600)); err != nil {
		i.t.Fatal(err)
	}
}

// readingUser is the database as the user of deploy/ocsp-node.sql reads it.
func (i *installation) readingUser() (dsn string) {
	i.t.Helper()
	text, err := os.ReadFile("../deploy/ocsp-node.sql")
	if err != nil {
		i.t.Fatal(err)
	}
	user := "node_" + strings.ToLower(rand.Text()[:12]) // users are the whole cluster's
	db, err := pgx.Connect(i.t.Context(), i.dsn)
	if err != nil {
		i.t.Fatal(err)
	}
	if _, err := db.Exec(i.t.Context(), strings.ReplaceAll(string(text), "touchmark_ocsp", user)); err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() {
		ctx := context.WithoutCancel(i.t.Context())
		if _, err := db.Exec(ctx, fmt.Sprintf("DROP OWNED BY %s; DROP ROLE %s", user, user)); err != nil {
			i.t.Error(err)
		}
		db.Close(ctx)
	})
	u, err := url.Parse(i.dsn)
	if err != nil {
		i.t.Fatal(err)
	}
	u.User = url.User(user)
	return u.String()
}

// readsOnly tries what the node's user must not do, also if it asks to be let
// write.
func (i *installation) readsOnly() {
	i.t.Helper()
	ctx := i.t.Context()
	db, err := pgx.Connect(ctx, i.dsn)
	if err != nil {
		i.t.Fatal(err)
	}
	defer db.Close(ctx)
	if _, err := db.Exec(ctx, "SET default_transaction_read_only = off"); err != nil {
		i.t.Fatal(err)
	}
	for _, sql := range []string{
		"DELETE FROM statuses", "UPDATE statuses SET reason = 8", "INSERT INTO statuses SELECT 1 + MAX(seq), '', 0, 8, 0, 0 FROM statuses",
		"UPDATE issuing_cas SET certificate = ''", "DELETE FROM crls", "DELETE FROM crl_chunks", "DELETE FROM offline_files", "DELETE FROM meta", "TRUNCATE statuses",
		"UPDATE goose_db_version SET version_id = 1", "CREATE TABLE mine (id BIGINT)", "DROP TABLE statuses",
		"SELECT 1 FROM certificates", "SELECT 1 FROM devices", "SELECT 1 FROM records", "SELECT 1 FROM operators", "SELECT 1 FROM codes", "SELECT 1 FROM webhooks", "SELECT 1 FROM leaves",
	} {
		if _, err := db.Exec(ctx, sql); err == nil || !strings.Contains(err.Error(), "permission denied") && !strings.Contains(err.Error(), "must be owner") {
			i.t.Errorf("%s: %v", sql, err)
		}
	}
}

// holdsNoKeyOf checks that none of the server's private keys is on a node, but
// that of the serial numbers.
func (i *installation) holdsNoKeyOf(n *installation) {
	i.t.Helper()
	list, err := filepath.Glob(filepath.Join(i.dir, "keys", "*.key"))
	if err != nil || len(list) < 6 {
		i.t.Fatalf("keys %q, %v", list, err)
	}
	secrets := map[string]string{}
	for _, file := range list {
		text, err := os.ReadFile(file)
		if err != nil {
			i.t.Fatal(err)
		}
		if filepath.Base(file) != "serial.key" {
			secrets[string(text)] = filepath.Base(file)
		}
	}
	err = filepath.WalkDir(n.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if key := secrets[string(text)]; key != "" {
			i.t.Errorf("%s is %s", path, key)
		}
		return err
	})
	if err != nil {
		i.t.Fatal(err)
	}
}

// revocations are made on one server and looked for on the others.
type revocations struct {
	t       *testing.T
	by      *installation
	others  []*installation
	devices map[int64]*x509.Certificate
	next    []int64 // not revoked yet
}

// find reads which devices there are.
func (r *revocations) find() {
	s := r.by.store()
	eachDevice(r.t, s, func(d *vetting.Device) {
		c, err := s.Certificate(r.t.Context(), d.Certificate)
		if err != nil {
			r.t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(c.DER)
		if err != nil {
			r.t.Fatal(err)
		}
		r.devices[d.ID], r.next = cert, append(r.next, d.ID)
	})
}

func (r *revocations) certificates() (list []*x509.Certificate) {
	for _, c := range r.devices {
		list = append(list, c)
	}
	return list
}

// some revokes n devices one by one and tells how long it takes until all
// others say so.
func (r *revocations) some(what string, n int) {
	r.t.Helper()
	var worst time.Duration
	for range n {
		id := r.next[0]
		r.next = r.next[1:]
		body := map[string]string{"reason": "keyCompromise", "note": "test"}
		if err := r.by.admin().Do(r.t.Context(), "POST", fmt.Sprintf("/devices/%d/revoke", id), body, nil); err != nil {
			r.t.Fatal(err)
		}
		answered := time.Now()
		r.until("revoked", 1, r.devices[id])
		worst = max(worst, time.Since(answered))
	}
	r.t.Logf("%s a revocation was seen on all others within %s", what, worst.Round(time.Millisecond))
}

// until waits until all others say something of certificates. A revocation is
// seen within a second; a machine that is busy gets a minute.
func (r *revocations) until(want string, reason int, certs ...*x509.Certificate) {
	r.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for _, o := range r.others {
		for _, cert := range certs {
			for {
				says, why := o.says(cert)
				if says == want && why == reason {
					break
				}
				if time.Now().After(deadline) {
					r.t.Fatalf("%s says %s (%d) of %s, want %s (%d)", o.dir, says, why, cert.Subject, want, reason)
				}
			}
		}
	}
}

// same waits until servers share what they sign: Redis has just come back, and
// what they signed without it they keep for a while.
func (r *revocations) same(servers ...*installation) {
	r.t.Helper()
	authorities, err := ca.OpenKeyless(r.t.Context(), ca.Places{Dir: r.by.dir})
	if err != nil {
		r.t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		q := ocsptest.Question{CertIDs: []ocsptest.CertID{ocsptest.ID(crypto.SHA256, authorities.Device.Certificate, authorities.Serials.New())}}
		for range 20 { // who signed second has the first's answer a moment later
			answers := map[string]bool{}
			for _, s := range servers {
				answers[s.answer(q)] = true
			}
			if len(answers) == 1 {
				return
			}
		}
		if time.Now().After(deadline) {
			r.t.Fatal("the servers' answers differ")
		}
	}
}

// answer gets an answer by GET, and its ETag.
func (i *installation) answer(q ocsptest.Question) string {
	i.t.Helper()
	resp, err := http.Get(i.status + "/ocsp/" + url.PathEscape(base64.StdEncoding.EncodeToString(q.DER())))
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	der, err := io.ReadAll(resp.Body)
	if err != nil || resp.Header.Get("ETag") == "" {
		i.t.Fatalf("%v %v", resp.Header, err)
	}
	return resp.Header.Get("ETag") + string(der)
}

// says asks over OCSP.
func (i *installation) says(cert *x509.Certificate) (string, int) {
	i.t.Helper()
	issuer, err := devicesim.LoadCertificate(filepath.Join(i.dir, "ca", "device-ca.crt"))
	if err != nil {
		i.t.Fatal(err)
	}
	q := ocsptest.Question{CertIDs: []ocsptest.CertID{ocsptest.ID(crypto.SHA256, issuer, cert.SerialNumber)}}
	resp, err := http.Post(i.status+"/ocsp", "application/ocsp-request", bytes.NewReader(q.DER()))
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	der, err := io.ReadAll(resp.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	a, err := ocsptest.Decode(der, issuer, time.Now())
	if err != nil {
		i.t.Fatal(err)
	}
	if a.Status != 0 {
		return fmt.Sprint("error ", a.Status), 0
	}
	return a.Data.Responses[0].Says(), int(a.Data.Responses[0].Revoked.Reason)
}
