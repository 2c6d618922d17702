package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/device/devicetest"
)

func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := root()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run(t, args...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// person writes somebody's certificate and key.
func person(t *testing.T) (cert, key string) {
	t.Helper()
	c, err := device.MakeBootstrap(new(device.MemoryStore), "rig-7", device.P256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.PEM()
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, []byte("-----BEGIN CERTIFICATE"))
	cert, key = filepath.Join(t.TempDir(), "rig.crt"), filepath.Join(t.TempDir(), "rig.key")
	for name, part := range map[string][]byte{key: text[:at], cert: text[at:]} {
		if err := os.WriteFile(name, part, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestFactoryFleetAndRig(t *testing.T) {
	s, dir := devicetest.New(t), t.TempDir()
	ca, units := filepath.Join(dir, "root.crt"), filepath.Join(dir, "units")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Root.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	cert, key := person(t)
	must(t, "factory", "--out", units, "--count", "6", "--cert", cert, "--key", key)
	if info, err := os.Stat(filepath.Join(units, "manifest.p7s")); err != nil || info.Size() == 0 {
		t.Errorf("no signature: %v", err)
	}
	before, err := os.ReadFile(filepath.Join(units, manifestFile))
	if err != nil {
		t.Fatal(err)
	}
	must(t, "factory", "--out", units, "--count", "6")
	if again, err := os.ReadFile(filepath.Join(units, manifestFile)); err != nil || fingerprints(t, again) != fingerprints(t, before) {
		t.Errorf("units that were built have other keys: %v", err)
	}

	out := must(t, "rig", "--root", ca, "--cert", cert, "--key", key, "--over", "est", "--est", s.URL, units, "SN-000000")
	if out != "SN-000000 admitted\n" {
		t.Errorf("rig: %s", out)
	}
	out = must(t, "fleet", "--root", ca, "--est", s.URL, "--json", "--lost-replies", "0.2", units)
	var report struct {
		Units    int
		Verdicts map[string]int
		Each     []struct {
			Serial, Verdict string
			Certificates    []string
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Units != 6 || report.Verdicts["admitted"] != 6 || len(report.Each) != 6 {
		t.Errorf("%v: %s", err, out)
	}
	for i, u := range report.Each {
		want := 1
		if i == 0 {
			want = 0 // the rig's unit had its certificate
		}
		if len(u.Certificates) != want {
			t.Errorf("%s was answered %v", u.Serial, u.Certificates)
		}
	}
	if s.Keys() != 6 {
		t.Errorf("%d keys were certified", s.Keys())
	}
	if out := must(t, "fleet", "--root", ca, "--est", s.URL, units); !strings.Contains(out, "admitted 6, held 0, refused 0, failed 0") || s.Keys() != 6 {
		t.Errorf("powered on again: %s", out)
	}
}

func fingerprints(t *testing.T, manifest []byte) (all string) {
	t.Helper()
	for line := range bytes.Lines(manifest) {
		var r struct{ BootstrapKey string }
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		all += r.BootstrapKey + " "
	}
	return all
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	for want, args := range map[string][]string{
		"unknown --arrival":         {"fleet", "--root", "x", "--arrival", "sometimes", dir},
		"more than 0 units":         {"fleet", "--root", "x", "--rate", "0", dir},
		"no such file":              {"fleet", "--root", filepath.Join(dir, "none"), dir},
		"at least one unit":         {"factory", "--out", dir, "--count", "0"},
		"name both":                 {"factory", "--out", dir, "--count", "1", "--cert", "x"},
		`required flag(s) "out"`:    {"factory"},
		"at least 6 units":          {"demo", "--dir", dir, "--quantity", "5"},
		"requires at least 1 arg":   {"rig", "--root", "x", "--cert", "x", "--key", "x"},
		`unknown command "parties"`: {"parties"},
	} {
		if out, err := run(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

func TestEnrolByLabel(t *testing.T) {
	s, dir := devicetest.New(t), t.TempDir()
	s.Code = "7K3M-9QXT-2VWB-5HNC"
	ca := filepath.Join(dir, "root.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Root.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	label := strings.Replace(s.URL, "https:", "touchmark:", 1) + "/lamp?code=" + s.Code + "&order=PO-1"
	unit := filepath.Join(dir, "unit")
	if out, err := run(t, "enrol", "--root", ca, "--serial", "A-1", unit, label+"&serial=A-2"); err == nil || !strings.Contains(err.Error(), "the label is for A-2") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := run(t, "enrol", "--root", ca, unit, strings.Replace(label, "7K3M", "0000", 1)); err == nil || !strings.Contains(err.Error(), "401") || strings.Contains(err.Error(), "9QXT") {
		t.Errorf("%v: %s", err, out)
	}
	for range 2 {
		if out := must(t, "enrol", "--root", ca, "--serial", "A-1", unit, label); !strings.HasPrefix(out, "admitted, certificate ") {
			t.Errorf("%s", out)
		}
	}
	if s.Keys() != 1 {
		t.Errorf("%d keys were certified", s.Keys())
	}
	must(t, "factory", "--out", dir+"/units", "--count", "2")
	table := filepath.Join(dir, "labels.csv")
	if err := os.WriteFile(table, []byte("id,code,serial\n1,"+s.Code+",\n2,"+s.Code+",\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := must(t, "fleet", "--root", ca, "--est", s.URL, "--codes", table, dir+"/units"); !strings.Contains(out, "admitted 2, held 0") {
		t.Errorf("%s", out)
	}
	if out, err := run(t, "fleet", "--root", ca, "--est", s.URL, "--codes", table+"x", dir+"/units"); err == nil {
		t.Error(out)
	}
}
