package docs

import (
	"encoding/json"
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
