package ca_test

import (
	"context"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/vetting"
)

// rollover takes one step of the guide's script.
func rollover(t *testing.T, step, dir string) {
	t.Helper()
	if out, err := exec.Command("../../docs/guides/root-rollover-with-openssl.sh", step, dir).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", step, err, out)
	}
}

func reopen(t *testing.T, p ca.Places) *ca.Authorities {
	t.Helper()
	a, err := ca.Open(context.Background(), p, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A client that trusts one root only, and has what /cacerts gave it, verifies
// old and new devices and the server in every phase.
func TestRolloverByOpenSSL(t *testing.T) {
	first, p := initCA(t)
	before := issued(t, first)
	old := file(t, "old.crt", ca.PEM(first.Root.Raw))
	rollover(t, "prepare", p.Dir)
	prepared := reopen(t, p)
	if prepared.Name() != first.Name() || len(prepared.Kin()) != 1 || len(prepared.CACerts()) != 7 {
		t.Errorf("prepared: named %s, kin %v, %d certificates", prepared.Name(), prepared.Kin(), len(prepared.CACerts()))
	}
	new := file(t, "new.crt", must(os.ReadFile(filepath.Join(p.Dir, "ca/root-new.crt"))))
	during := issued(t, prepared)
	rollover(t, "switch", p.Dir)
	switched := reopen(t, p)
	if switched.Name() == first.Name() || switched.Kin()[0] != first.Name() || prepared.Kin()[0] != switched.Name() || len(switched.CACerts()) != 7 {
		t.Errorf("switched: named %s, kin %v, %d certificates", switched.Name(), switched.Kin(), len(switched.CACerts()))
	}
	after := issued(t, switched)
	for phase, a := range map[string]*ca.Authorities{"prepared": prepared, "switched": switched} {
		for trust, root := range map[string]string{"old": old, "new": new} {
			for age, cert := range map[string]*x509.Certificate{"before": before, "during": during, "after": after} {
				if age == "after" && phase == "prepared" {
					continue
				}
				verify(t, phase+", trust in the "+trust+" root, device of "+age, root, a.CACerts(), cert.Raw)
			}
			server := must(must(ca.NewServerCertificate(a, []string{"localhost"}, time.Now)).Get(nil))
			verify(t, phase+", trust in the "+trust+" root, server", root, server.Certificate[1:], server.Certificate[0])
			verifyByGo(t, phase+", "+trust, root, server.Certificate)
		}
	}
	rollover(t, "finish", p.Dir)
	finished := reopen(t, p)
	if len(finished.CACerts()) != 4 || finished.Kin() != nil || finished.Name() != switched.Name() {
		t.Errorf("finished: %d certificates, kin %v", len(finished.CACerts()), finished.Kin())
	}
	verify(t, "finished, new root", new, finished.CACerts(), before.Raw)
	// without the roll-over's certificates the old root proves nothing
	if opensslVerify(t, old, finished.CACerts(), after.Raw) == nil {
		t.Error("finished, the old root verifies")
	}
}

func verify(t *testing.T, what, root string, untrusted [][]byte, cert []byte) {
	t.Helper()
	if err := opensslVerify(t, root, untrusted, cert); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func opensslVerify(t *testing.T, root string, untrusted [][]byte, cert []byte) error {
	t.Helper()
	var all []byte
	for _, c := range untrusted {
		all = append(all, ca.PEM(c)...)
	}
	out, err := exec.Command("openssl", "verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile", root,
		"-untrusted", file(t, "untrusted", all), file(t, "cert", ca.PEM(cert))).CombinedOutput()
	if err != nil {
		return &os.PathError{Op: "verify", Path: string(out), Err: err}
	}
	return nil
}

func verifyByGo(t *testing.T, what, root string, chain [][]byte) {
	t.Helper()
	roots, middle := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(must(os.ReadFile(root)))
	for _, c := range chain[1:] {
		middle.AddCert(must(x509.ParseCertificate(c)))
	}
	if _, err := must(x509.ParseCertificate(chain[0])).Verify(x509.VerifyOptions{Roots: roots, Intermediates: middle, DNSName: "localhost"}); err != nil {
		t.Errorf("%s, by Go: %v", what, err)
	}
}

func issued(t *testing.T, a *ca.Authorities) *x509.Certificate {
	t.Helper()
	return must(issue(t, a, vetting.Profile{Validity: "825d"}, unit, &x509.CertificateRequest{}))
}

func file(t *testing.T, name string, b []byte) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Certificates that do not fit are refused at the start, by the file's name.
func TestRolloverThatDoesNotFit(t *testing.T) {
	_, p := initCA(t)
	rollover(t, "prepare", p.Dir)
	_, other := initCA(t)
	rollover(t, "prepare", other.Dir)
	read := func(dir, name string) []byte { return must(os.ReadFile(filepath.Join(dir, "ca", name+".crt"))) }
	for name, c := range map[string]struct {
		file string
		text []byte
		want string
	}{
		"missing":              {"root-old-with-new", nil, "all four"},
		"no certificate":       {"root-new", []byte("hello"), "no certificate in PEM"},
		"another CA's new":     {"root-new", read(other.Dir, "root-new"), "root-old-with-new.crt was not signed"},
		"another CA's cross":   {"root-old-with-new", read(other.Dir, "root-old-with-new"), "another key"},
		"the crosses swapped":  {"root-new-with-old", read(p.Dir, "root-old-with-new"), "another key"},
		"another signer":       {"root-new-with-old", read(p.Dir, "root-new"), "was not signed by the key that its name says"},
		"no root":              {"root-new", read(p.Dir, "device-ca"), "has the subject"},
		"root is neither":      {"root-old", read(p.Dir, "root-old-with-new"), "was not signed"},
		"old is new":           {"root-new", read(p.Dir, "root-old"), "key"},
		"another CA in charge": {"root", read(other.Dir, "root"), "root.crt is neither"},
	} {
		path := filepath.Join(p.Dir, "ca", c.file+".crt")
		was := must(os.ReadFile(path))
		if c.text == nil {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ca.Open(context.Background(), p, time.Now()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.WriteFile(path, was, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reopen(t, p)
}
