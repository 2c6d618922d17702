package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

// tool runs openssl, curl or the like in a directory.
func tool(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return out
}

func newKey(t *testing.T, dir, name string) {
	t.Helper()
	tool(t, dir, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", name)
}

// A device's way with nothing of ours at its side and at the factory's: from
// the data directory to the certificate, and the log that proves it.
func TestFromOrderToCertificate(t *testing.T) {
	c := initialized(t, Plan{})
	s := started(t, c)
	api := "https://" + s.Addrs()["api"]
	admin := as(t, c, "admin")

	send(t, admin, "POST", api+"/api/v1/products", map[string]any{"name": "thermostat", "profile": map[string]string{"validity": "825d"}, "proofs": []string{"bootstrap-key"}}, 201)
	send(t, admin, "POST", api+"/api/v1/sites", map[string]string{"name": "penang"}, 201)
	send(t, admin, "POST", api+"/api/v1/orders", map[string]any{"name": "PO-1", "product": "thermostat", "site": "penang", "quantity": 1, "state": "open"}, 201)
	addOperator(t, c, admin, api, "anna", "site-operator", "penang")

	newKey(t, c.Dir, "boot.key")
	tool(t, c.Dir, "openssl", "req", "-new", "-x509", "-key", "boot.key", "-subj", "/serialNumber=A-0001/CN=A-0001", "-days", "3650", "-out", "boot.crt")
	newKey(t, c.Dir, "second.key")
	tool(t, c.Dir, "openssl", "req", "-new", "-x509", "-key", "second.key", "-subj", "/serialNumber=A-0002/CN=A-0002", "-days", "3650", "-out", "second.crt")
	var lines string
	for serial, key := range map[string]string{"A-0001": "boot.key", "A-0002": "second.key"} {
		sum := sha256.Sum256(tool(t, c.Dir, "openssl", "pkey", "-in", key, "-pubout", "-outform", "DER"))
		lines += fmt.Sprintf("{\"serial\":%q,\"bootstrapKey\":%q}\n", serial, hex.EncodeToString(sum[:]))
	}
	handIn(t, c, api, "PO-1", lines)

	newKey(t, c.Dir, "official.key")
	tool(t, c.Dir, "openssl", "req", "-new", "-key", "official.key", "-subj", "/serialNumber=A-0001/CN=A-0001", "-outform", "DER", "-out", "official.csr")
	code, answer := enrolByCurl(t, c, s, "simpleenroll", "boot", "official.csr")
	if code != "200" {
		t.Fatalf("enrolment: %s %s", code, answer)
	}
	writeCertificate(t, c, answer, "official.crt")
	tool(t, c.Dir, "openssl", "verify", "-CAfile", "ca/root.crt", "-untrusted", "ca/device-ca.crt", "-purpose", "sslclient", "official.crt")

	// The order was for one unit; the second device's is over-production.
	newKey(t, c.Dir, "surplus.key")
	tool(t, c.Dir, "openssl", "req", "-new", "-key", "surplus.key", "-subj", "/CN=A-0002", "-outform", "DER", "-out", "surplus.csr")
	code, answer = enrolByCurl(t, c, s, "simpleenroll", "second", "surplus.csr")
	if code == "200" || code == "202" {
		t.Errorf("a second unit of an order for one: %s %s", code, answer)
	}

	code, answer = enrolByCurl(t, c, s, "simplereenroll", "official", "official.csr")
	if code != "400" { // the CSR's subject is not the certificate's
		t.Errorf("renewal with other names: %s %s", code, answer)
	}
	tool(t, c.Dir, "sh", "-c", "openssl x509 -x509toreq -in official.crt -signkey official.key -copy_extensions copyall -ext subjectAltName | openssl req -outform DER -out renewal.csr")
	code, answer = enrolByCurl(t, c, s, "simplereenroll", "official", "renewal.csr")
	if code != "200" {
		t.Errorf("renewal: %s %s", code, answer)
	}

	var devices struct{ Items []vetting.Device }
	list := send(t, admin, "GET", api+"/api/v1/devices?serial=A-0001", nil, 200)
	if err := json.Unmarshal(list, &devices); err != nil || len(devices.Items) != 1 || devices.Items[0].State != vetting.DeviceActive {
		t.Fatalf("device list %s (%v)", list, err)
	}
	proveCertificate(t, s, admin, api, devices.Items[0].Certificate)
	_, metrics := get(t, http.DefaultClient, "http://"+s.Addrs()["ops"]+"/metrics")
	wantContains(t, metrics, `touchmark_registrations_total{door="est",reason="vetted",verdict="admitted"} 1`,
		`touchmark_registrations_total{door="est",reason="renewed",verdict="admitted"} 1`,
		`touchmark_registrations_total{door="est",reason="quota-exhausted",verdict="refused"} 1`,
		`touchmark_enroll_seconds_count{door="est",verdict="admitted"} 2`)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	verifyLog(t, c)
}

func addOperator(t *testing.T, c *Config, admin *http.Client, api, name, role, site string) {
	t.Helper()
	newKey(t, c.Dir, name+".key")
	csr := tool(t, c.Dir, "openssl", "req", "-new", "-key", name+".key", "-subj", "/CN="+name)
	answer := send(t, admin, "POST", api+"/api/v1/operators", map[string]string{"name": name, "role": role, "site": site, "csr": string(csr)}, 201)
	var made struct{ Certificate string }
	if err := json.Unmarshal(answer, &made); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Dir, name+".crt"), []byte(made.Certificate), 0o600); err != nil {
		t.Fatal(err)
	}
}

// handIn signs with openssl and waits until the records are loaded.
func handIn(t *testing.T, c *Config, api, order, lines string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.Dir, "units.jsonl"), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, c.Dir, "openssl", "cms", "-sign", "-binary", "-in", "units.jsonl", "-signer", "anna.crt", "-inkey", "anna.key", "-md", "sha256", "-outform", "DER", "-out", "units.p7s")
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for _, part := range [...]struct{ field, file string }{{"signature", "units.p7s"}, {"manifest", "units.jsonl"}} {
		text, err := os.ReadFile(filepath.Join(c.Dir, part.file))
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.CreateFormFile(part.field, part.file)
		if err != nil {
			t.Fatal(err)
		}
		p.Write(text)
	}
	w.Close()
	anna := as(t, c, "anna")
	resp, err := anna.Post(api+"/api/v1/orders/"+order+"/manifests", w.FormDataContentType(), &form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var m vetting.Manifest
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil || resp.StatusCode != 201 {
		t.Fatalf("manifest: %s %v", resp.Status, err)
	}
	for m.State != vetting.ManifestLoaded {
		if err := json.Unmarshal(send(t, anna, "GET", fmt.Sprintf("%s/api/v1/manifests/%d", api, m.ID), nil, 200), &m); err != nil {
			t.Fatal(err)
		}
	}
}

// enrolByCurl sends a CSR as the holder of a key pair and returns status and
// body.
func enrolByCurl(t *testing.T, c *Config, s *Server, operation, client, csr string) (code string, body []byte) {
	t.Helper()
	der, err := os.ReadFile(filepath.Join(c.Dir, csr))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Dir, "request.b64"), []byte(base64.StdEncoding.EncodeToString(der)), 0o600); err != nil {
		t.Fatal(err)
	}
	code = string(tool(t, c.Dir, "curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", "ca/root.crt", "--cert", client+".crt", "--key", client+".key",
		"--header", "Content-Type: application/pkcs10", "--data-binary", "@request.b64", "--output", "answer", "--write-out", "%{http_code}",
		"https://"+s.Addrs()["est"]+"/.well-known/est/thermostat/"+operation))
	body, err = os.ReadFile(filepath.Join(c.Dir, "answer"))
	if err != nil {
		t.Fatal(err)
	}
	return code, body
}

func writeCertificate(t *testing.T, c *Config, answer []byte, name string) {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\r", "", "\n", "").Replace(string(answer)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Dir, "answer.p7"), der, 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, c.Dir, "openssl", "pkcs7", "-inform", "DER", "-in", "answer.p7", "-print_certs", "-out", name)
}

// proveCertificate waits for the checkpoint that covers the issuance.
func proveCertificate(t *testing.T, s *Server, admin *http.Client, api, serial string) {
	t.Helper()
	if err := s.publishing.publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	raw := send(t, admin, "GET", api+"/api/v1/certificates/"+serial+"/proof", nil, 200)
	var cert struct{ PEM string }
	if err := json.Unmarshal(send(t, admin, "GET", api+"/api/v1/certificates/"+serial, nil, 200), &cert); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(cert.PEM))
	proof, err := audit.ParseProof(raw)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := proof.Verify(s.publishing.publisher.Signer.Verifier(), block.Bytes)
	if err != nil || !strings.HasPrefix(leaf.Act, "device.") {
		t.Errorf("proof of certificate %s: %+v, %v", serial, leaf, err)
	}
}

func verifyLog(t *testing.T, c *Config) {
	t.Helper()
	db, err := store.OpenReader(t.Context(), c.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	text, err := os.ReadFile(c.VerifierFile())
	if err != nil {
		t.Fatal(err)
	}
	v, err := audit.ParseVerifier(string(text))
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, err := db.LastCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = db.Snapshot(t.Context(), func(src audit.Source) error {
		r, err := audit.Verify(t.Context(), src, audit.Options{Checkpoints: [][]byte{checkpoint}, Verifier: v})
		if err == nil && !r.OK() {
			t.Errorf("findings %+v", r.Findings)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
