package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp/offline"
)

// filterWorld is a directory with a root, an issuing CA below it, device
// certificates 2 (good), 3 (revoked) and 4 (good in the base, revoked in the
// delta), and the files.
type filterWorld struct {
	dir    string
	issuer *x509.Certificate
}

func (w *filterWorld) path(name string) string { return filepath.Join(w.dir, name) }

func newFilterWorld(t *testing.T, made time.Time) *filterWorld {
	t.Helper()
	w := &filterWorld{dir: t.TempDir()}
	rootKey, _ := newKey(t)
	key, _ := newKey(t)
	certificate := func(name string, serial int64, ca bool, parent *x509.Certificate, public, by any) *x509.Certificate {
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: made.Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: ca, BasicConstraintsValid: true}
		if parent == nil {
			parent = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, public, by)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		w.put(t, name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		return made
	}
	root := certificate("root", 1, true, nil, rootKey.Public(), rootKey)
	w.issuer = certificate("issuer", 2, true, root, key.Public(), rootKey)
	for serial, name := range map[int64]string{2: "good", 3: "revoked", 4: "later"} {
		certificate(name, serial, false, w.issuer, key.Public(), key)
	}
	build := func(name string, number uint64, base *offline.Filter, notGood string) []byte {
		file, err := offline.Build(t.Context(), w.issuer, key, offline.Plan{Number: number, ThisUpdate: made, NextUpdate: made.Add(time.Hour), CoversUntil: made.Add(-10 * time.Minute), Base: base},
			func(_ context.Context, each func([]byte, bool) error) error {
				for serial := range byte(10) {
					if err := each([]byte{serial}, !strings.Contains(notGood, string('0'+serial))); err != nil {
						return err
					}
				}
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
		w.put(t, name, file)
		return file
	}
	base, err := offline.Open(build("base", 1, nil, "3"), w.issuer)
	if err != nil {
		t.Fatal(err)
	}
	build("delta", 2, base, "34")
	return w
}

func (w *filterWorld) put(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(w.path(name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// check runs revocation check on one of the certificates.
func (w *filterWorld) check(t *testing.T, name string, args ...string) ran {
	t.Helper()
	return touchmark(t, append([]string{"revocation", "check", w.path(name + ".crt"), "--offline", w.path("base")}, args...)...)
}

func TestRevocationCheck(t *testing.T) {
	w := newFilterWorld(t, time.Now())
	issuer, root := w.path("issuer.crt"), w.path("root.crt")
	w.check(t, "good", "--ca", issuer).want(t, 0, "good")
	w.check(t, "revoked", "--ca", issuer).want(t, exitNotGood, "not-good", "revoked or on hold")
	w.check(t, "later", "--ca", issuer).want(t, 0)
	w.check(t, "later", "--ca", issuer, "--delta", w.path("delta")).want(t, exitNotGood)
	w.check(t, "good", "--ca", root, "--issuer", issuer).want(t, 0)
	w.check(t, "good").want(t, exitUsage, "whom do you trust")
	w.check(t, "good", "--ca", root).want(t, exitFailed, "no certificate of that CA was given", "--issuer")
	w.check(t, "root", "--ca", issuer).want(t, exitFailed, "not of the filter's issuing CA")
	w.check(t, "good", "--ca", issuer, "--delta", w.path("nothing")).want(t, exitFailed, "no such file")
	w.check(t, "good", "--ca", issuer, "--delta", w.path("base")).want(t, exitFailed, "delta")
	s := decodeAs[standing](t, w.check(t, "revoked", "--ca", issuer, "--json").want(t, exitNotGood).out)
	if s.Serial != "03" || s.Standing != "not-good" || s.Filter.Number != 1 || s.Filter.Issued != 10 || s.Filter.NotGood != 1 {
		t.Errorf("JSON: %+v", s)
	}

	// The chain in the device's file names the issuing CA.
	both := append(mustRead(t, w.path("good.crt")), mustRead(t, issuer)...)
	w.put(t, "chain.crt", both)
	w.check(t, "chain", "--ca", root).want(t, 0, "good")
	other := newFilterWorld(t, time.Now())
	w.check(t, "chain", "--ca", other.path("root.crt")).want(t, exitFailed, "no certificate of that CA was given", "--issuer")
	other.check(t, "good", "--ca", issuer).want(t, exitFailed, "no certificate of that CA was given", "--issuer")

	w.put(t, "base", append(mustRead(t, w.path("base")), 0))
	w.check(t, "good", "--ca", issuer).want(t, exitFailed, "its signature is not good")
}

func TestRevocationCheckOutdated(t *testing.T) {
	w := newFilterWorld(t, time.Now().Add(-2*time.Hour))
	issuer := w.path("issuer.crt")
	w.check(t, "good", "--ca", issuer).want(t, exitCannotTell, "outdated", "get a newer one")
	w.check(t, "revoked", "--ca", issuer).want(t, exitNotGood)
}

func TestRevocationShow(t *testing.T) {
	w := newFilterWorld(t, time.Now())
	touchmark(t, "revocation", "show", w.path("base")).want(t, 0, "base", "not verified")
	touchmark(t, "revocation", "show", w.path("delta"), "--json").want(t, 0, `"kind": "delta"`, `"number": 2`)
	touchmark(t, "revocation", "show", w.path("base"), "--ca", w.path("issuer.crt")).want(t, 0, "signature", "good")
	touchmark(t, "revocation", "show", w.path("base"), "--ca", newFilterWorld(t, time.Now()).path("issuer.crt")).want(t, exitFailed)
	touchmark(t, "revocation", "show", w.path("issuer.crt")).want(t, exitFailed, "does not begin with")
}

// TestRevocationFiles has a server make files, and gets them as a gateway does.
func TestRevocationFiles(t *testing.T) {
	w := newWorld(t)
	status, out, root := "http://"+w.server.Addr["status"], t.TempDir(), filepath.Join(w.dir, "ca", "root.crt")
	fetch := func(code int, parts ...string) ran {
		t.Helper()
		return touchmark(t, "revocation", "fetch", status, "--ca", root, "--out", out).want(t, code, parts...)
	}
	number := func(r ran) int64 { return decodeAs[struct{ Number int64 }](t, r.out).Number }
	// The first is made by the server itself or by this; then it has no more to
	// do before a day has passed.
	w.admin(t, "revocation", "make").want(t, 0, "/filter/device-ca")
	base := number(w.admin(t, "revocation", "make", "--base", "--json").want(t, 0))
	fetch(0, "base", "not good")
	touchmark(t, "revocation", "show", filepath.Join(out, "device-ca.filter"), "--ca", filepath.Join(out, "device-ca.crt")).want(t, 0, "signature", "good")
	before, err := os.Stat(filepath.Join(out, "device-ca.filter"))
	if err != nil {
		t.Fatal(err)
	}
	delta := number(w.admin(t, "revocation", "make", "device-ca", "--json").want(t, 0, `"delta"`))
	if delta <= base {
		t.Errorf("the delta has number %d, the base %d", delta, base)
	}
	fetch(0, "delta")
	if after, err := os.Stat(filepath.Join(out, "device-ca.filter")); err != nil || !os.SameFile(before, after) {
		t.Errorf("a base that did not change was written again: %v", err)
	}
	older := mustRead(t, filepath.Join(out, "device-ca.delta"))
	w.admin(t, "revocation", "make", "--base").want(t, 0, "base")
	fetch(0, "base")
	if _, err := os.Stat(filepath.Join(out, "device-ca.delta")); err == nil {
		t.Error("the delta of the base before is still there")
	}
	if err := os.WriteFile(filepath.Join(out, "device-ca.delta"), older, 0o600); err != nil {
		t.Fatal(err)
	}
	fetch(0, "base")

	w.admin(t, "revocation", "make", "nobody").want(t, exitFailed, "no issuing CA")
	w.site(t, "revocation", "make").want(t, exitFailed, "permission")
	touchmark(t, "revocation", "fetch", status, "nobody", "--ca", root, "--out", out).want(t, exitFailed, "knows no issuing CA")
	touchmark(t, "revocation", "fetch", status, "../x", "--ca", root, "--out", out).want(t, exitUsage)
	touchmark(t, "revocation", "fetch", status, "--out", out).want(t, exitUsage, "whom do you trust")
	touchmark(t, "revocation", "fetch", status, "--ca", newFilterWorld(t, time.Now()).path("root.crt"), "--out", out).want(t, exitFailed, "not signed by one of --ca")
	left, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("the directory holds %v (%v)", left, err)
	}
}

// TestRevocationFetchRefusesOlder asks a listener that offers what is older
// than what is there.
func TestRevocationFetchRefusesOlder(t *testing.T) {
	w := newFilterWorld(t, time.Now())
	offers := map[string][]byte{"/cacerts/device-ca.crt": w.issuer.Raw, "/filter/device-ca": mustRead(t, w.path("base")), "/filter/device-ca/delta": mustRead(t, w.path("delta"))}
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if b := offers[r.URL.Path]; b != nil {
			_, _ = rw.Write(b)
			return
		}
		http.NotFound(rw, r)
	}))
	defer s.Close()
	out := t.TempDir()
	fetch := func(code int, parts ...string) {
		t.Helper()
		touchmark(t, "revocation", "fetch", s.URL, "--ca", w.path("root.crt"), "--out", out).want(t, code, parts...)
	}
	fetch(0, "delta")
	offers["/filter/device-ca/delta"] = nil
	fetch(exitFailed, "offers older files", "which stay")
	if _, err := os.Stat(filepath.Join(out, "device-ca.delta")); err != nil {
		t.Error(err)
	}
	offers["/filter/device-ca"] = offers["/filter/device-ca"][:300]
	fetch(exitFailed, "cut off")
	offers["/filter/device-ca"] = nil
	fetch(exitFailed, "try again in a minute")
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// In a root roll-over the CA of a filter is signed by one root, and who asks
// knows the old one or the new one: by the certificates of the roots by each
// other, filter and certificates from before and after count for both. A
// stranger's root leads nowhere.
func TestRevocationInRootRollover(t *testing.T) {
	w, rig := rigWorld(t, 2)
	key, old := w.safe(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	unit := func(serial string) {
		t.Helper()
		rig("--server", "https://"+w.server.Addr["api"], "register", "--serial", serial, "--csr", request(t, serial), "--out", at(serial)).want(t, 0, "admitted")
	}
	restart := func() {
		t.Helper()
		w.server.stop(t)
		w.server = serve(t, w.dir)
	}
	unit("A-000000")
	touchmark(t, "ca", "root-rollover", "begin", "--root-key", key, "--root-cert", old, "--new-key", key+"-new", "-o", at("rollover"), "--yes").want(t, 0)
	next := mustRead(t, at("rollover"))
	next = next[len("-----BEGIN")+strings.Index(string(next[len("-----BEGIN"):]), "-----BEGIN"):] // the second of the four
	if err := os.WriteFile(at("next"), next[:strings.Index(string(next), "-----END CERTIFICATE-----")+len("-----END CERTIFICATE-----\n")], 0o600); err != nil {
		t.Fatal(err)
	}
	w.admin(t, "ca", "import", at("rollover"), "--yes").want(t, 0)
	restart()
	roots := map[string]string{"old": old, "new": at("next")}
	stranger := newFilterWorld(t, time.Now()).path("root.crt")
	asked := func(step string, units ...string) {
		t.Helper()
		w.admin(t, "revocation", "make", "--base").want(t, 0)
		for name, root := range roots {
			out := at(step + name)
			if err := os.Mkdir(out, 0o700); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s, by the %s root", step, name)
			touchmark(t, "revocation", "fetch", "http://"+w.server.Addr["status"], "--ca", root, "--out", out).want(t, 0, "base")
			for _, u := range units {
				check := func(root string) ran {
					return touchmark(t, "revocation", "check", at(u), "--offline", filepath.Join(out, "device-ca.filter"), "--ca", root, "--issuer", filepath.Join(out, "device-ca.crt"))
				}
				check(root).want(t, exitCannotTell, "not-covered") // it is that new, and of this CA
				check(stranger).want(t, exitFailed, "no certificate of that CA was given")
			}
		}
		touchmark(t, "revocation", "fetch", "http://"+w.server.Addr["status"], "--ca", stranger, "--out", at("none")).want(t, exitFailed, "not signed by one of --ca")
	}
	asked("begun", "A-000000")
	w.admin(t, "ca", "request", "--all", "-o", at("all")).want(t, 0)
	touchmark(t, "ca", "sign", at("all"), "--root-key", key+"-new", "--root-cert", at("rollover"), "-o", at("signed"), "--yes").want(t, 0)
	w.admin(t, "ca", "import", at("signed"), "--yes").want(t, 0)
	w.admin(t, "ca", "root-rollover", "switch", "--yes").want(t, 0)
	restart()
	touchmark(t, "ca", "list", "--dir", w.dir).want(t, 0, "the new root")
	if err := os.WriteFile(filepath.Join(w.rig, "root.crt"), mustRead(t, at("next")), 0o600); err != nil {
		t.Fatal(err)
	}
	unit("A-000001")
	asked("switched", "A-000000", "A-000001")
}
