package server

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/licence"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// hire adds an operator of a site, and gives their client.
func hire(t *testing.T, c *Config, s *Server, name, role, site string) *http.Client {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Certificate string }
	text := send(t, as(t, c, "admin"), "POST", apiURL(s, "/operators"), map[string]string{
		"name": name, "role": role, "site": site, "csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))}, 201)
	if err := json.Unmarshal(text, &made); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{".crt": []byte(made.Certificate), ".key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(filepath.Join(c.Dir, name+file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return as(t, c, name)
}

func apiURL(s *Server, path string) string {
	return "https://" + s.Addrs()["api"] + api.Base + path
}

func into[T any](t *testing.T, text []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// TestLicences walks the way of a site: a key is made, chips are licensed up
// to the quota, confirmed, and looked up; a restart and a second server change
// nothing.
func TestLicences(t *testing.T) {
	c := initialized(t, Plan{})
	s := started(t, c)
	storetest.NewWorld(t, s.store, 5)
	if _, err := s.store.CreateSite(t.Context(), storetest.By, &vetting.Site{Name: "tainan"}); err != nil {
		t.Fatal(err)
	}
	admin, rig, far := as(t, c, "admin"), hire(t, c, s, "rig-1", "rig", "hsinchu"), hire(t, c, s, "rig-2", "rig", "tainan")
	ask := func(uids ...string) map[string]any { return map[string]any{"order": "po-1", "uids": uids} }

	send(t, admin, "POST", apiURL(s, "/products/thermo/licence-keys"), map[string]any{}, 409) // nothing is declared
	send(t, rig, "POST", apiURL(s, "/licences"), ask("01"), 409)
	storetest.Licensed(t, s.store, "thermo")
	send(t, rig, "POST", apiURL(s, "/licences"), ask("0102030405060708"), 409) // no key
	send(t, rig, "POST", apiURL(s, "/products/thermo/licence-keys"), map[string]any{}, 403)
	key := into[vetting.LicenceKey](t, send(t, admin, "POST", apiURL(s, "/products/thermo/licence-keys"), map[string]any{}, 201))
	public, err := x509.ParsePKIXPublicKey(key.Public)
	if _, isEd := public.(ed25519.PublicKey); err != nil || !isEd || !key.Signing {
		t.Fatalf("%+v, %v", key, err)
	}
	if info, err := os.Stat(filepath.Join(c.Dir, "keys", "licence-thermo-1.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}

	good := func(l api.ChipLicence, uid string) {
		t.Helper()
		parsed, err := licence.Parse(l.Licence)
		if err == nil {
			raw, _ := licence.UID64.ParseUID(uid)
			err = parsed.Verify(raw, public)
		}
		if err != nil {
			t.Errorf("the licence of %s: %v", uid, err)
		}
	}
	first := into[api.LicencesAnswer](t, send(t, rig, "POST", apiURL(s, "/licences"), map[string]any{"order": "po-1", "uid": "01:02:03:04:05:06:07:08"}, 200))
	good(first.Licences[0], "0102030405060708")
	send(t, far, "POST", apiURL(s, "/licences"), ask("0102030405060709"), 404)
	send(t, admin, "POST", apiURL(s, "/licences"), ask("0102030405060709"), 403)
	send(t, rig, "POST", apiURL(s, "/licences"), map[string]any{"order": "po-1", "uid": "0102"}, 422)

	s2 := started(t, c)
	var uids []string
	for i := range 6 {
		uids = append(uids, fmt.Sprintf("01020304050607%02x", 8+i))
	}
	many := into[api.LicencesAnswer](t, send(t, rig, "POST", apiURL(s2, "/licences"), ask(uids...), 200))
	for i, l := range many.Licences[:5] {
		good(l, uids[i])
	}
	if l := many.Licences; many.Left != 0 || !l[0].Repeated || string(l[0].Licence) != string(first.Licences[0].Licence) || l[5].Refused == nil || l[5].Refused.Code != vetting.RefusedQuota {
		t.Errorf("%+v", many)
	}
	send(t, rig, "POST", apiURL(s, "/licences"), map[string]any{"order": "po-1", "uid": uids[5]}, 409)
	confirmed := into[api.ConfirmationAnswer](t, send(t, rig, "POST", apiURL(s, "/licences/confirm"), map[string]any{"uids": uids}, 200))
	if confirmed.Confirmed != 5 || len(confirmed.Refused) != 1 {
		t.Errorf("%+v", confirmed)
	}
	status, body := get(t, admin, apiURL(s, "/licences/"+uids[0]))
	if l := into[vetting.Licence](t, []byte(body)); status != 200 || l.State != vetting.LicenceProgrammed || l.By != "rig-1" {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := get(t, far, apiURL(s, "/licences/"+uids[0])); status != 404 {
		t.Errorf("another site's rig sees a licence: %d", status)
	}
	_, metrics := get(t, http.DefaultClient, "http://"+s.Addrs()["ops"]+"/metrics")
	wantContains(t, metrics, `touchmark_licences_total{result="given"} 1`, `touchmark_licences_total{result="over-quota"} 1`, `touchmark_licences_total{result="programmed"} 5`)
	storetest.Verify(t, s.store)
}

// A key that is not the one that the database knows signs nothing.
func TestLicenceKeySwapped(t *testing.T) {
	c := initialized(t, Plan{})
	s := started(t, c)
	storetest.NewWorld(t, s.store, 5)
	storetest.Licensed(t, s.store, "thermo")
	storetest.Licensed(t, s.store, "thermo")
	admin, rig := as(t, c, "admin"), hire(t, c, s, "rig-1", "rig", "hsinchu")
	send(t, admin, "POST", apiURL(s, "/products/thermo/licence-keys"), map[string]any{"algorithm": "P-256"}, 201)
	send(t, admin, "POST", apiURL(s, "/products/thermo/licence-keys"), map[string]any{}, 201)
	keys := filepath.Join(c.Dir, "keys")
	if err := os.Rename(filepath.Join(keys, "licence-thermo-2.key"), filepath.Join(keys, "licence-thermo-1.key")); err != nil {
		t.Fatal(err)
	}
	ask := map[string]any{"order": "po-1", "uid": "0102030405060708"}
	send(t, rig, "POST", apiURL(s, "/licences"), ask, 503)
	send(t, admin, "POST", apiURL(s, "/products/thermo/licence-keys/2/use"), nil, 200)
	send(t, rig, "POST", apiURL(s, "/licences"), ask, 503) // its file is gone
	if o, err := s.store.Order(t.Context(), "po-1"); err != nil || o.Licensed != 0 {
		t.Errorf("%+v, %v", o, err)
	}
}
