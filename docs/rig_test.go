package docs

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRigWithCurl registers a device as docs/guides/rig.md says: in one call
// to the API, and through EST in the device's place.
func TestRigWithCurl(t *testing.T) {
	w := newWorld(t, "sqlite:touchmark.db")
	lin, rig, far := filepath.Join(t.TempDir(), "lin"), filepath.Join(t.TempDir(), "rig"), filepath.Join(t.TempDir(), "far")
	w.cli(t, "product", "create", "thermostat", "--proof", "rig", "--validity", "825d")
	w.cli(t, "site", "create", "hsinchu")
	w.cli(t, "site", "create", "penang")
	w.cli(t, "order", "create", "PO-1", "--product", "thermostat", "--site", "hsinchu", "--quantity", "2", "--open")
	w.cli(t, "operator", "add", "lin", "--role", "site-operator", "--site", "hsinchu", "--out", lin)
	w.cli(t, "operator", "add", "rig-7", "--role", "rig", "--site", "hsinchu", "--out", rig)
	w.cli(t, "operator", "add", "rig-9", "--role", "rig", "--site", "penang", "--out", far)
	w.as(t, lin, "manifest", "upload", "PO-1", write(t, "units.csv", "serial,mac\nA-0001,02:00:5e:10:00:01\nA-0002,02:00:5e:10:00:02\nA-0003,\n"), "--sign")

	first := csr(t, "A-0001")
	if answer := w.register(t, far, "rig-9", "A-0001", first); field[string](t, answer, "verdict") != "refused" || !strings.Contains(answer, "another site") {
		t.Errorf("a rig of another site was answered %s", answer)
	}
	admitted := w.register(t, rig, "rig-7", "A-0001", first)
	if v := field[string](t, admitted, "verdict"); v != "admitted" {
		t.Fatalf("the rig was answered %s", admitted)
	}
	again := w.register(t, rig, "rig-7", "A-0001", first)
	if field[string](t, again, "certificate") != field[string](t, admitted, "certificate") {
		t.Error("asking again gave another certificate")
	}

	over := func(serial string) (string, int) {
		out, errors, code := outcome(t, "bash", "-euo", "pipefail", "-c", `openssl req -in "$1" -outform DER | base64 | curl --silent --show-error --fail-with-body --cacert "$2" --cert "$3.crt" --key "$3.key" --header 'Content-Type: application/pkcs10' --data-binary @- "$4/.well-known/est/thermostat/simpleenroll"`,
			"bash", write(t, "request.pem", csr(t, serial)), w.root(), filepath.Join(rig, "rig-7"), w.est)
		return out + errors, code
	}
	if out, code := over("A-0002"); code != 0 {
		t.Errorf("through EST the rig was answered %s", out)
	}
	if out, code := over("A-0003"); code == 0 || !strings.Contains(out, "over-production") {
		t.Errorf("the third of two units was answered %s", out)
	}
}

// TestRigCommands does what docs/guides/rig.md says, word for word but for
// the --yes of a script: the guide's units are in a manifest, and the second
// was let in before it fails.
func TestRigCommands(t *testing.T) {
	w := newWorld(t, "sqlite:touchmark.db")
	dir := t.TempDir()
	w.cli(t, "product", "create", "thermostat")
	w.cli(t, "site", "create", "penang")
	w.cli(t, "order", "create", "PO-1", "--product", "thermostat", "--site", "penang", "--quantity", "2", "--rework", "site", "--open")
	lin := filepath.Join(dir, "lin")
	w.cli(t, "operator", "add", "lin", "--role", "site-operator", "--site", "penang", "--out", lin)
	for _, sub := range []string{"requests", "certificates"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	records := "serial,mac,bootstrapKey\n"
	for i, serial := range []string{"A-0001", "A-0002", "A-0815"} {
		put("requests/"+serial+".csr", csr(t, serial))
		records += fmt.Sprintf("%s,02:00:5e:10:00:%02x,%064x\n", serial, i+1, i+1)
	}
	put("a-0001.csr", read(t, dir, "requests/A-0001.csr"))
	put("a-0001.json", `[{"name": "rssi", "passed": true, "value": -61.5, "unit": "dBm", "limit": ">= -80"}]`)
	put("read-request.sh", "#!/bin/sh\ncat \"requests/$1.csr\"\n")
	w.as(t, lin, "manifest", "upload", "PO-1", write(t, "units.csv", records), "--sign")

	path := shim(t, map[string]string{"touchmark": `[[ "$*" != *" rig replace "* ]] || set -- "$@" --yes
exec "` + bin + `/touchmark" "$@"`})
	steps, shift := "", "SN:A-0815;MAC:02005E100003\npass\nA-0815\nquit\n"
	for _, block := range blocks(t, "guides/rig.md") {
		if strings.HasPrefix(block, "touchmark") {
			steps += block
		}
	}
	register, rest, found := strings.Cut(steps, "touchmark --dir rig-7 rig pass")
	if !found {
		t.Fatal("the guide does not pass a unit")
	}
	steps = register + "touchmark --dir rig-7 rig register --serial A-0002 --csr requests/A-0002.csr >/dev/null\ntouchmark --dir rig-7 rig pass" + rest
	for line := range strings.Lines(steps) {
		if strings.Contains(line, " rig run ") {
			steps = strings.Replace(steps, line, "printf '"+strings.ReplaceAll(shift, "\n", `\n`)+"' | "+line, 1)
		}
	}
	out, err := script(t, dir, path, steps, "TOUCHMARK_SERVER="+w.api, "TOUCHMARK_DIR="+w.dir)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"admitted", "passed at rig rig-7, station FCT-2", "replace it", "A-0815 takes its place", "ADMITTED  A-0815", "2 units scanned", `"summary":{"units":2`} {
		if !strings.Contains(out, want) {
			t.Errorf("the guide's commands did not say %q:\n%s", want, out)
		}
	}
	if text := read(t, dir, "certificates/A-0815.crt"); !strings.Contains(text, "BEGIN CERTIFICATE") {
		t.Errorf("the certificate is %q", text)
	}
	if order := w.cli(t, "order", "show", "PO-1", "--json"); field[int](t, order, "issued") != 2 {
		t.Errorf("the order is %s", order)
	}
}

// csr makes a device's request, as PEM.
func csr(t *testing.T, serial string) string {
	t.Helper()
	key := filepath.Join(t.TempDir(), "device.key")
	must(t, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
	return must(t, "openssl", "req", "-new", "-key", key, "-subj", "/serialNumber="+serial+"/CN="+serial)
}

func (w *world) register(t *testing.T, dir, rig, serial, request string) string {
	t.Helper()
	body, err := json.Marshal(map[string]string{"serial": serial, "csr": request})
	if err != nil {
		t.Fatal(err)
	}
	return must(t, "curl", "--silent", "--show-error", "--cacert", w.root(), "--cert", filepath.Join(dir, rig+".crt"), "--key", filepath.Join(dir, rig+".key"),
		"--json", string(body), w.api+"/api/v1/registrations")
}
