package main

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// request makes a unit's PKCS#10 request.
func request(t *testing.T, serial string) (file string) {
	t.Helper()
	key, _ := newKey(t)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: serial}}, key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), serial+".csr")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A technician's hour: a unit goes through, one is held while the order is
// paused, one is not in the manifest.
func TestRigRegister(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "rig-7")
	w.admin(t, "product", "update", "thermostat", "--proof", "rig").want(t, 0)
	w.admin(t, "operator", "add", "rig-7", "--role", "rig", "--site", "penang", "--out", dir).want(t, 0)
	w.site(t, "manifest", "upload", "PO-1", manifestFile(t, 3), "--sign").want(t, 0)
	rig := func(args ...string) ran {
		t.Helper()
		return touchmark(t, append([]string{"--dir", dir, "rig", "register"}, args...)...)
	}
	out := filepath.Join(t.TempDir(), "unit.crt")
	csr := request(t, "A-000000")
	rig("--serial", "A-000000", "--csr", csr, "--out", out).want(t, 0, "admitted", "within its quota", out)
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if cert, err := x509.ParseCertificate(block.Bytes); err != nil || cert.Subject.SerialNumber != "A-000000" {
		t.Errorf("%v, %v", cert, err)
	}
	again := decodeAs[api.RegistrationResult](t, rig("--serial", "A-000000", "--csr", csr, "--json").want(t, 0).out)
	if again.Certificate != string(text) || again.Reasons[0].Code != vetting.ReasonRepeated {
		t.Errorf("asked again: %+v", again)
	}
	w.admin(t, "order", "pause", "PO-1").want(t, 0)
	rig("--serial", "A-000001", "--csr", request(t, "A-000001")).want(t, exitHeld, "held", "paused", "ask again in")
	w.admin(t, "order", "open", "PO-1").want(t, 0)
	rig("--serial", "A-000001", "--csr", request(t, "A-000001")).want(t, 0, "admitted", "BEGIN CERTIFICATE")
	rig("--serial", "A-000009", "--csr", request(t, "A-000009")).want(t, exitFailed, "refused", "No manufacturing record")
	rig("--serial", "A-000002", "--csr", filepath.Join(t.TempDir(), "none")).want(t, exitFailed, "the unit's request")
	rig("--csr", csr).want(t, exitUsage, "serial")
	w.site(t, "rig", "register", "--serial", "A-000002", "--csr", csr).want(t, exitFailed, "register devices")
}

// rigWorld is a world with the rig rig-7, whose units of PO-1 are recorded.
func rigWorld(t *testing.T, units int) (w *world, rig func(args ...string) ran) {
	t.Helper()
	w = newWorld(t)
	w.rig = filepath.Join(t.TempDir(), "rig-7")
	w.admin(t, "product", "update", "thermostat", "--proof", "rig").want(t, 0)
	w.admin(t, "operator", "add", "rig-7", "--role", "rig", "--site", "penang", "--out", w.rig).want(t, 0)
	w.site(t, "manifest", "upload", "PO-1", manifestFile(t, units), "--sign").want(t, 0)
	return w, func(args ...string) ran {
		t.Helper()
		return touchmark(t, append([]string{"--dir", w.rig, "rig"}, args...)...)
	}
}

// A product wants its units tested at the rig: one fails, is mended, passes
// and gets in; the rule would have kept out who came in before it.
func TestRigTests(t *testing.T) {
	w, rig := rigWorld(t, 3)
	early := request(t, "A-000002")
	rig("register", "--serial", "A-000002", "--csr", early).want(t, 0, "admitted")
	w.admin(t, "rule", "try", "thermostat", "test.passed", "--otherwise", "refused").want(t, 0, "Of 1 device that were let in, 1 would have been refused", "A-000002")
	w.admin(t, "rule", "set", "thermostat", "tested", `test.passed && test.values.rssi > -80`, "--otherwise", "refused", "--text", "Test the unit first.").want(t, 0)
	csr := request(t, "A-000000")
	rig("register", "--serial", "A-000000", "--csr", csr).want(t, exitFailed, "Test the unit first.", "rule tested of version 1 wants", "test.passed is false")

	rig("fail", "--serial", "A-000000", "--station", "FCT-2", "--failed", "rssi=-95 dBm", "--test", "firmware=1.4.2", "--note", "antenna loose").
		want(t, 0, "failed at rig rig-7, station FCT-2", "rssi is -95 dBm; antenna loose", "firmware is 1.4.2", "mend it and test it again")
	rig("register", "--serial", "A-000000", "--csr", csr).want(t, exitFailed, "refused", "antenna loose", "passes a later test")
	results := filepath.Join(t.TempDir(), "results.json")
	if err := os.WriteFile(results, []byte(`[{"name":"rssi","passed":true,"value":-61.5,"unit":"dBm","limit":">= -80"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	pass := rig("pass", "--serial", "A-000000", "--results", results, "--tested", "2026-11-21T08:00:00Z", "--json").want(t, 0)
	if a := decodeAs[api.TestResultAnswer](t, pass.out); a.Next != api.NextRegister || a.Result.Tested.IsZero() || a.Result.Tests[0].Limit != ">= -80" || a.Device.Failed() {
		t.Errorf("%+v", a)
	}
	admitted := decodeAs[api.RegistrationResult](t, rig("register", "--serial", "A-000000", "--csr", csr, "--json").want(t, 0, "admitted").out)
	w.admin(t, "device", "history", "A-000000").want(t, 0, "passed at rig rig-7", "failed at rig rig-7", "rssi is -61.5 dBm (limit >= -80)", "admitted")
	w.admin(t, "device", "show", "A-000000").want(t, 0, "passed at rig rig-7")
	w.admin(t, "rule", "set", "thermostat", "tested", "true").want(t, 0)
	w.admin(t, "rule", "try", "thermostat").want(t, 0, "Of 2 devices", "0 would have been refused")
	w.admin(t, "rule", "try", "thermostat", "--version", "1").want(t, 0, "Of 2 devices", "1 would have been refused", "A-000002")
	w.admin(t, "registration", "show", fmt.Sprint(admitted.Registration), "--json").want(t, 0, `"rulesVersion": "1"`)

	rig("fail", "--serial", "A-000000", "--note", "dead after the burn-in").want(t, 0, "replace it")
	rig("register", "--serial", "A-000000", "--csr", csr).want(t, exitFailed, "replace the unit")
	rig("fail", "--serial", "A-000000").want(t, exitFailed, "no test that failed is named")
	rig("pass", "--serial", "A-000009").want(t, exitFailed, "no record of site penang")
	rig("pass", "--serial", "A-000001", "--results", filepath.Join(t.TempDir(), "none")).want(t, exitFailed, "the test results")
	rig("pass", "--serial", "A-000001", "--tested", "today").want(t, exitUsage, "--tested")
	rig("pass").want(t, exitUsage, "serial")
	w.site(t, "rig", "pass", "--serial", "A-000001").want(t, exitFailed, "site-operator", "test results")
}

// The last unit of an order fails after it was let in, and another takes its
// place: if the order leaves that to the site, and not otherwise.
func TestRigReplace(t *testing.T) {
	w, rig := rigWorld(t, 3)
	w.admin(t, "order", "set-quantity", "PO-1", "1").want(t, 0)
	csr := request(t, "A-000001")
	rig("register", "--serial", "A-000000", "--csr", request(t, "A-000000")).want(t, 0, "admitted")
	rig("register", "--serial", "A-000001", "--csr", csr).want(t, exitFailed, "over-production")
	replace := []string{"replace", "--serial", "A-000000", "--by", "A-000001", "--note", "radio dead", "--yes"}
	rig(replace...).want(t, exitFailed, "hand in that it failed first")
	rig("fail", "--serial", "A-000000", "--note", "radio dead").want(t, 0, "replace it")
	rig(replace...).want(t, exitFailed, "leaves replacing to an administrator")
	w.admin(t, "order", "set-rework", "PO-1", "anybody").want(t, exitUsage, "neither")
	w.admin(t, "order", "set-rework", "PO-1", "site").want(t, 0, "by the site's rigs, too: 0 units of at most 1 replaced")
	rig(replace[:len(replace)-1]...).want(t, exitUsage, "--yes")
	rig(replace...).want(t, 0, "scrapped", "A-000000", "replaced by", "A-000001")
	got := decodeAs[api.Replacement](t, rig(append(replace, "--json")...).want(t, 0).out) // the same again changes nothing
	if got.Device.State != vetting.DeviceScrapped || got.Device.ReplacedBy != got.By.ID || got.By.Replaces != got.Device.ID {
		t.Errorf("%+v", got)
	}
	rig("register", "--serial", "A-000001", "--csr", csr).want(t, 0, "admitted")
	rig("register", "--serial", "A-000002", "--csr", request(t, "A-000002")).want(t, exitFailed, "over-production")
	w.admin(t, "device", "show", "A-000000").want(t, 0, "scrapped", "replaced by")
	w.admin(t, "order", "show", "PO-1").want(t, 0, "1 of 1", "1 unit of at most 1 replaced")
	rig("pass", "--serial", "A-000000").want(t, exitFailed, "scrapped")

	rig("fail", "--serial", "A-000001", "--note", "radio dead").want(t, 0, "replace it")
	another := []string{"replace", "--serial", "A-000001", "--by", "A-000002", "--note", "radio dead", "--yes"}
	rig(another...).want(t, exitFailed, "replaced 1 of at most 1 units", "order set-rework PO-1 site --max-replacements")
	w.admin(t, "order", "set-rework", "PO-1", "administrator", "--max-replacements", "2").want(t, exitUsage, "--max-replacements")
	w.admin(t, "order", "set-rework", "PO-1", "site", "--max-replacements", "2").want(t, 0, "1 unit of at most 2 replaced")
	rig(another...).want(t, 0, "scrapped")
	w.admin(t, "order", "set-rework", "PO-1", "administrator").want(t, 0, "by an administrator; the site replaced 2 units before")
}
