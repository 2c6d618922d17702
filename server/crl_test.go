package server

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/ocsp/crl"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// withLists makes lists soon after a change.
func withLists(c *Config) {
	c.Status.URL, c.Status.Partitions, c.Status.CRL.Delay = "http://status.test/pki", 4, Duration(time.Second)
}

// listed gets a list as a client does: at the path of a URL in a certificate
// or list.
func (w *works) listed(at string) []byte {
	w.t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.Get("http://" + w.server.Addrs()["status"] + strings.TrimPrefix(u.EscapedPath(), "/pki"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	der, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		w.t.Fatalf("%s: %d %s, %v", at, resp.StatusCode, der, err)
	}
	return der
}

// awaits waits for a list that holds these certificates and no others.
func (w *works) awaits(at string, certs ...*x509.Certificate) *x509.RevocationList {
	w.t.Helper()
	var want []string
	for _, c := range certs {
		want = append(want, c.SerialNumber.String())
	}
	slices.Sort(want)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		k := w.kept(at)
		if k == nil && time.Now().Before(deadline) {
			continue
		}
		list, err := x509.ParseRevocationList(w.listed(at))
		if err != nil {
			w.t.Fatal(err)
		}
		var have []string
		for _, e := range list.RevokedCertificateEntries {
			have = append(have, e.SerialNumber.String())
		}
		if slices.Sort(have); slices.Equal(have, want) {
			return list
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s lists %v, want %v", at, have, want)
		}
	}
}

// kept is what the server knows of a list; nil while there is none.
func (w *works) kept(at string) *crl.Kept {
	name, scope, ok := crl.ParsePath(strings.TrimPrefix(at, "http://status.test/pki"))
	if !ok {
		w.t.Fatalf("%q is no list's place", at)
	}
	id, _ := w.server.status.lists.named(name)
	return w.server.status.lists.directory.Find(id, scope)
}

// openssl verifies certificates against lists, and returns what it says.
func (w *works) openssl(cert *x509.Certificate, lists [][]byte, flags ...string) string {
	w.t.Helper()
	dir := w.t.TempDir()
	var text []byte
	for _, der := range lists {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	for name, content := range map[string][]byte{"lists.pem": text, "cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	ca := filepath.Join(w.config.Dir, "ca")
	out, _ := exec.Command("openssl", append(flags, "-CAfile", filepath.Join(ca, "root.crt"), "-untrusted", filepath.Join(ca, "device-ca.crt"),
		"-crl_check", "-CRLfile", filepath.Join(dir, "lists.pem"), filepath.Join(dir, "cert.pem"))...).CombinedOutput()
	return string(out)
}

const (
	deviceLists = "http://status.test/pki/crl/device-ca"
	fullList    = deviceLists + ".crl"
	deltaList   = deviceLists + "/delta.crl"
)

// TestRevocationLists has certificates revoked, held and released, and openssl
// verify them by each kind of list, as their distribution points say.
func TestRevocationLists(t *testing.T) {
	w := opened(t, withLists)
	good := w.enrol(tls.VersionTLS13, w.build("A-1", w.now().Add(time.Hour)), "simpleenroll", nil)
	w.getsCACerts(tls.VersionTLS13, good, "A-1") // the first use: the device is active
	gone, held := w.inState("A-2", vetting.DeviceRetired), w.inState("A-3", vetting.DeviceSuspended)
	var points []string
	for _, p := range []pair{good, gone, held} {
		if len(p.cert.CRLDistributionPoints) != 1 || !strings.HasPrefix(p.cert.CRLDistributionPoints[0], deviceLists+"/4/") {
			t.Fatalf("distribution points %q", p.cert.CRLDistributionPoints)
		}
		points = append(points, p.cert.CRLDistributionPoints[0])
	}
	on := func(point string) (list []*x509.Certificate) {
		for i, p := range []pair{gone, held} {
			if points[i+1] == point {
				list = append(list, p.cert)
			}
		}
		return list
	}
	verify := []string{"verify", "-extended_crl", "-x509_strict"}
	for i, p := range []pair{good, gone, held} {
		w.awaits(points[i], on(points[i])...)
		out := w.openssl(p.cert, [][]byte{w.listed(points[i])}, verify...)
		if revoked := strings.Contains(out, "certificate revoked"); revoked == (i == 0) || i == 0 && !strings.Contains(out, "OK") {
			t.Errorf("by its partition, certificate %d: %s", i, out)
		}
		if other := w.elsewhere(points[i]); !strings.Contains(w.openssl(p.cert, [][]byte{w.listed(other)}, verify...), "different CRL scope") {
			t.Errorf("the list of another partition counts for certificate %d", i)
		}
	}
	w.ask("/issuers/device-ca/crls", struct{}{}, 200, nil)
	w.awaits(fullList, gone.cert, held.cert)
	w.awaits(deltaList)
	base := w.listed(fullList)

	w.sets("A-1", vetting.DeviceRetired)
	w.sets("A-3", vetting.DeviceActive)
	delta := w.awaits(deltaList, good.cert, held.cert)
	if i := slices.IndexFunc(delta.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(held.cert.SerialNumber) == 0 }); delta.RevokedCertificateEntries[i].ReasonCode != 8 {
		t.Errorf("the certificate that was released is in the delta with reason %d", delta.RevokedCertificateEntries[i].ReasonCode)
	}
	for i, p := range []pair{good, gone, held} {
		for _, c := range []struct {
			lists   [][]byte
			flags   []string
			revoked bool
		}{{[][]byte{base}, verify, i != 0}, {[][]byte{base, w.listed(deltaList)}, append(verify, "-use_deltas"), i != 2}} {
			out := w.openssl(p.cert, c.lists, c.flags...)
			if strings.Contains(out, "certificate revoked") != c.revoked || !c.revoked && !strings.Contains(out, "OK") {
				t.Errorf("by %d lists, certificate %d: %s", len(c.lists), i, out)
			}
		}
	}
	for _, at := range []string{fullList, deltaList, points[0]} {
		w.certtool(w.listed(at))
	}
	storetest.Verify(t, w.server.store)
}

// certtool has GnuTLS read a list and verify its signature.
func (w *works) certtool(der []byte) {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "list.crl")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), 0o644); err != nil {
		w.t.Fatal(err)
	}
	for _, flags := range [][]string{{"--crl-info"}, {"--verify-crl", "--load-ca-certificate", filepath.Join(w.config.Dir, "ca", "device-ca.crt")}} {
		if out, err := exec.Command("certtool", append(flags, "--infile", file)...).CombinedOutput(); err != nil {
			w.t.Errorf("certtool %s: %v\n%s", flags[0], err, out)
		}
	}
}

// elsewhere is another partition's list.
func (w *works) elsewhere(point string) string {
	if strings.HasSuffix(point, "/0.crl") {
		return deviceLists + "/4/1.crl"
	}
	return deviceLists + "/4/0.crl"
}

// sets changes a device's state as an operator does.
func (w *works) sets(serial string, state vetting.DeviceState) {
	w.t.Helper()
	if _, err := w.server.store.SetDeviceState(w.t.Context(), storetest.By, w.device(serial).ID, state, "test"); err != nil {
		w.t.Fatal(err)
	}
}

// TestRevocationListsThatRunOut: supervision is told before clients notice.
func TestRevocationListsThatRunOut(t *testing.T) {
	w := opened(t, withLists)
	w.awaits(deviceLists + "/4/3.crl") // the last of all
	lists := *w.server.status.lists
	if err := lists.check(t.Context()); err != nil {
		t.Error(err)
	}
	lists.now = func() time.Time { return w.now().Add(80 * time.Hour) }
	if err := lists.check(t.Context()); err == nil || !strings.Contains(err.Error(), "full of device-ca") || !strings.Contains(err.Error(), "3 more") {
		t.Errorf("before the end of all lists: %v", err)
	}
}

// TestFormerPartitionsEnd: the lists of a former number of partitions go on
// until an operator who knows who names them ends them, and go on from their
// number if it comes back.
func TestFormerPartitionsEnd(t *testing.T) {
	w := opened(t, withLists)
	for _, serial := range []string{"A-1", "A-2"} {
		w.enrol(tls.VersionTLS13, w.build(serial, w.now().Add(time.Hour)), "simpleenroll", nil)
	}
	w.awaits(deviceLists + "/4/3.crl") // the last of all
	before := w.kept(deviceLists + "/4/3.crl").Number
	into := func(n int) {
		w.config.Status.Partitions = n
		w.reopened()
		w.awaits(fmt.Sprintf("%s/%d/%d.crl", deviceLists, n, n-1))
	}
	into(8)
	last := w.enrol(tls.VersionTLS13, w.build("A-3", w.now().Add(time.Hour)), "simpleenroll", nil)
	admin, at := as(t, w.config, "admin"), "https://"+w.server.Addrs()["api"]+"/api/v1/issuers/device-ca/crl-partitions"
	var told struct{ Items []api.CRLPartitions }
	if err := json.Unmarshal(send(t, admin, "GET", at, nil, 200), &told); err != nil {
		t.Fatal(err)
	}
	if len(told.Items) != 2 || told.Items[0].Partitions != 4 || told.Items[0].Current || told.Items[0].Certificates != 2 ||
		told.Items[1].Partitions != 8 || !told.Items[1].Current || told.Items[1].Certificates != 1 || !told.Items[1].Until.Equal(last.cert.NotAfter) {
		t.Errorf("the partitions are %+v", told.Items)
	}
	send(t, admin, "DELETE", at+"/8", nil, 409)
	send(t, admin, "DELETE", at+"/16", nil, 404)
	send(t, admin, "DELETE", at+"/4", nil, 200)
	for i := range 4 {
		if resp, err := http.Get(fmt.Sprintf("http://%s/crl/device-ca/4/%d.crl", w.server.Addrs()["status"], i)); err != nil || resp.StatusCode != 404 {
			t.Errorf("partition %d/4: %v, %v", i, resp, err)
		}
	}
	w.ask("/issuers/device-ca/crls", struct{}{}, 200, nil)
	if k := w.kept(deviceLists + "/4/3.crl"); k != nil {
		t.Errorf("it was made again: %+v", k)
	}
	storetest.Verify(t, w.server.store)
	into(4)
	if k := w.kept(deviceLists + "/4/3.crl"); k.Number <= before {
		t.Errorf("the next list has number %d, after %d", k.Number, before)
	}
	storetest.Verify(t, w.server.store)
}
