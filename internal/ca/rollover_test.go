package ca_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/vetting"
)

// rollover takes one step of a change of the root's key: the new key is
// keys/root-new.key.
func rollover(t *testing.T, step string, p ca.Places) {
	t.Helper()
	a := reopen(t, p)
	var err error
	switch step {
	case "begin":
		var r *ca.Rollover
		if r, err = ca.NewRollover(rootOf(t, p, "root", a.Root), rootKey(t, p), time.Now()); err == nil {
			err = a.BeginRollover(r)
		}
	case "sign":
		resign(t, a, rootOf(t, p, "root-new", newRoot(t, p)), a.BelowRoot())
	case "switch":
		err = a.SwitchRoot()
	case "finish":
		err = a.FinishRollover()
	}
	if err != nil {
		t.Fatalf("%s: %v", step, err)
	}
}

func rootOf(t testing.TB, p ca.Places, key string, among ...*x509.Certificate) *ca.Root {
	t.Helper()
	return must(ca.OpenRoot(t.Context(), p.Dir, "file:keys/"+key+".key", among))
}

func rootKey(t *testing.T, p ca.Places) crypto.Signer {
	t.Helper()
	return must(keys.Ring{Dir: p.Dir}.Create(t.Context(), "file:keys/root-new.key", keys.P384))
}

// newRoot is the new root of the roll-over that has begun.
func newRoot(t *testing.T, p ca.Places) *x509.Certificate {
	t.Helper()
	return must(ca.ParseCertificates(must(os.ReadFile(filepath.Join(p.Dir, "ca/root-rollover.crt")))))[1]
}

// resign has a root sign CAs of files anew.
func resign(t *testing.T, a *ca.Authorities, root *ca.Root, names []string) {
	t.Helper()
	for _, csr := range must(ca.ParseRequests(must(a.Requests(t.Context(), names, vetting.ForDevices)))) {
		cert := must(root.Sign(csr, time.Now()))
		if err := a.Replace(must(a.CheckReplacement(cert, time.Now())), cert); err != nil {
			t.Fatal(err)
		}
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
// old and new devices and the server in every phase, by openssl and by Go.
func TestRolloverByOpenSSL(t *testing.T) {
	first, p := initCA(t)
	roots := map[string]string{"old": file(t, "old.crt", ca.PEM(first.Root.Raw))}
	devices := map[string]*x509.Certificate{"before": issued(t, first)}
	for _, step := range []string{"begin", "sign", "switch"} {
		rollover(t, step, p)
		a := reopen(t, p)
		roots["new"] = file(t, "new.crt", ca.PEM(newRoot(t, p).Raw))
		devices[step] = issued(t, a)
		if len(a.CACerts()) != 7 || (a.Name() == first.Name()) == (step == "switch") || len(a.Kin()) != 1 || (a.Kin()[0] == first.Name()) != (step == "switch") {
			t.Errorf("%s: named %s, kin %v, %d certificates", step, a.Name(), a.Kin(), len(a.CACerts()))
		}
		for trust, root := range roots {
			for age, cert := range devices {
				verify(t, step+", trust in the "+trust+" root, device of "+age, root, a.CACerts(), cert.Raw)
			}
			server := must(must(ca.NewServerCertificate(a, []string{"localhost"}, time.Now)).Get(nil))
			verify(t, step+", trust in the "+trust+" root, server", root, server.Certificate[1:], server.Certificate[0])
			verifyByGo(t, step+", "+trust, root, server.Certificate)
		}
	}
	rollover(t, "finish", p)
	finished := reopen(t, p)
	if len(finished.CACerts()) != 4 || finished.Kin() != nil || finished.Name() == first.Name() {
		t.Errorf("finished: %d certificates, kin %v", len(finished.CACerts()), finished.Kin())
	}
	verify(t, "finished, new root", roots["new"], finished.CACerts(), devices["before"].Raw)
	// without the roll-over's certificates the old root proves nothing
	if opensslVerify(t, roots["old"], finished.CACerts(), devices["switch"].Raw) == nil {
		t.Error("finished, the old root verifies")
	}
}

// Each certificate of a file is replaced for itself, and whichever of them
// were, the authorities open and both roots verify.
func TestRolloverHalfSigned(t *testing.T) {
	first, p := initCA(t)
	device := issued(t, first)
	old := file(t, "old.crt", ca.PEM(first.Root.Raw))
	rollover(t, "begin", p)
	root := rootOf(t, p, "root-new", newRoot(t, p))
	for _, name := range []string{ca.DeviceName, ca.OperatorName, ca.FactoryName, ca.CodeSignName} {
		a := reopen(t, p)
		if err := a.SwitchRoot(); err == nil || !strings.Contains(err.Error(), "not signed by the new root") {
			t.Errorf("before %s the switch says %v", name, err)
		}
		resign(t, a, root, []string{name})
		a = reopen(t, p)
		if _, err := ca.OpenKeyless(t.Context(), p); err != nil { // on a node of role ocsp
			t.Errorf("%s: %v", name, err)
		}
		verify(t, name+", old root", old, a.CACerts(), device.Raw)
		verify(t, name+", new root", file(t, "new.crt", ca.PEM(root.Certificate.Raw)), a.CACerts(), device.Raw)
		server := must(must(ca.NewServerCertificate(a, []string{"localhost"}, time.Now)).Get(nil))
		verifyByGo(t, name+", old root", old, server.Certificate)
	}
	if err := reopen(t, p).FinishRollover(); err == nil || !strings.Contains(err.Error(), "signed by the root that would go") {
		t.Errorf("finished before the switch: %v", err)
	}
	rollover(t, "switch", p)
	rollover(t, "switch", p) // as after an attempt that broke off
	rollover(t, "finish", p)
	verify(t, "finished", file(t, "new.crt", ca.PEM(root.Certificate.Raw)), reopen(t, p).CACerts(), device.Raw)
}

// A roll-over that was begun is dropped again, if nothing is below the new
// root, by finishing it before the switch.
func TestRolloverDropped(t *testing.T) {
	first, p := initCA(t)
	rollover(t, "begin", p)
	rollover(t, "finish", p)
	if a := reopen(t, p); a.InRollover() || a.Name() != first.Name() {
		t.Errorf("named %s", a.Name())
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

// Certificates that do not fit are refused, in an import and at the start.
func TestRolloverThatDoesNotFit(t *testing.T) {
	a, p := initCA(t)
	rollover(t, "begin", p)
	_, q := initCA(t)
	rollover(t, "begin", q)
	path := filepath.Join(p.Dir, "ca/root-rollover.crt")
	good := must(ca.ParseCertificates(must(os.ReadFile(path))))
	other := must(ca.ParseCertificates(must(os.ReadFile(filepath.Join(q.Dir, "ca/root-rollover.crt")))))
	for name, c := range map[string]struct {
		list []*x509.Certificate
		want string
	}{
		"none":                     {nil, "something else"},
		"three":                    {good[:3], "four certificates and not 3"},
		"five":                     {append(good[:4:4], good[0]), "four certificates and not 5"},
		"another CA's new":         {[]*x509.Certificate{good[0], other[1], good[2], good[3]}, "was not signed"},
		"another CA's cross":       {[]*x509.Certificate{good[0], good[1], other[2], good[3]}, "another key"},
		"the crosses swapped":      {[]*x509.Certificate{good[0], good[1], good[3], good[2]}, "another key"},
		"another signer":           {[]*x509.Certificate{good[0], good[1], good[2], good[1]}, "was not signed by the key that it should be"},
		"no root":                  {[]*x509.Certificate{good[0], a.Device.Certificate, good[2], good[3]}, "has the subject"},
		"new is old":               {[]*x509.Certificate{good[1], good[0], good[3], good[2]}, ""},
		"the same key twice":       {[]*x509.Certificate{good[0], good[0], good[0], good[0]}, "the same key"},
		"another CA's altogether":  {other, "is neither its old root nor its new one"},
		"the cross for a root":     {[]*x509.Certificate{good[2], good[1], good[2], good[3]}, "was not signed"},
		"a device CA for the root": {[]*x509.Certificate{a.Device.Certificate, good[1], good[2], good[3]}, ""},
	} {
		var text []byte
		for _, cert := range c.list {
			text = append(text, ca.PEM(cert.Raw)...)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ca.Open(context.Background(), p, time.Now())
		switch {
		case name == "new is old": // a roll-over back: it fits
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What deserves a word: an end that is near, certificates that would be cut
// short, a CA that outlives its root.
func TestListWarns(t *testing.T) {
	a, p := initCA(t)
	learnt(t, a, p, "acme")
	year := 365 * 24 * time.Hour
	for _, c := range []struct {
		after   int // years
		longest time.Duration
		name    string
		want    string // "" is no warning
	}{
		{0, 10 * year, ca.DeviceName, ""}, {0, 21 * year, ca.DeviceName, "cut short"}, {0, 21 * year, "acme", "cut short"}, {0, 21 * year, ca.FactoryName, ""},
		{19, year / 2, ca.FactoryName, "plan its renewal"}, {21, 0, ca.OperatorName, "ran out"}, {19, 0, ca.RootName, ""}, {29, 0, ca.RootName, "plan its renewal"},
	} {
		for _, l := range a.List() {
			got := strings.Join(l.Warnings(time.Now().AddDate(c.after, 0, 0), c.longest), "; ")
			if l.Name == c.name && (c.want == "") != (got == "") || l.Name == c.name && !strings.Contains(got, c.want) {
				t.Errorf("%s after %d years, with certificates of %s: %q", c.name, c.after, c.longest, got)
			}
		}
	}
	soon := a.Soon(time.Now().AddDate(20, 0, -80), 90*24*time.Hour)
	if _, root := soon[ca.RootName]; root || len(soon) != 5 {
		t.Errorf("within 90 days end %v", soon)
	}
}
