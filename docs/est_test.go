package docs

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/store/storetest"
)

const (
	estScript      = "./guides/est-with-curl-and-openssl.sh"
	manifestScript = "./guides/manifest-with-curl-and-openssl.sh"
	heldStatus     = 75
)

// template gives a certificate every kind of name that a renewal has to
// repeat byte for byte.
const template = `{
  "subject": {"commonName": "{{ .Serial }}", "serialNumber": "{{ .Serial }}", "organization": "Test Works"},
  "sans": [
    {"type": "uri", "value": "urn:dev:mac:{{ .MAC }}"},
    {"type": "dns", "value": "{{ .Serial | lower }}.devices.example.com"},
    {"type": "permanentIdentifier", "value": "{{ .UID }}"}
  ],
  "keyUsage": ["digitalSignature"],
  "extKeyUsage": ["clientAuth"]
}`

// TestESTWithCurlAndOpenSSL walks a device through its life with nothing of
// ours, by the script of docs/guides/est-with-curl-and-openssl.md, on each
// database.
func TestESTWithCurlAndOpenSSL(t *testing.T) {
	dbs := storetest.Databases(t)
	for _, name := range slices.Sorted(maps.Keys(dbs)) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, dbs[name])
			s := &shift{world: w, devices: t.TempDir(), lin: filepath.Join(t.TempDir(), "lin")}
			s.plan(t)
			s.handIn(t, "A-0001", "A-0002")
			t.Run("life", s.life)
			t.Run("strangers", s.strangers)
			t.Run("served", s.served)
			t.Run("coded", s.coded)
			w.cli(t, "audit", "verify")
		})
	}
}

// shift is a factory's shift: a product, an order, an operator, devices.
type shift struct {
	*world
	devices string // the devices' directories
	lin     string // the site operator's directory
}

func (s *shift) plan(t *testing.T) {
	t.Helper()
	s.cli(t, "product", "create", "thermostat", "--proof", "bootstrap-key", "--validity", "825d", "--template", write(t, "template.json", template))
	s.cli(t, "site", "create", "hsinchu")
	s.cli(t, "order", "create", "PO-1", "--product", "thermostat", "--site", "hsinchu", "--quantity", "2")
	s.cli(t, "operator", "add", "lin", "--role", "site-operator", "--site", "hsinchu", "--out", s.lin)
}

// device is a device's directory.
func (s *shift) device(serial string) string { return filepath.Join(s.devices, serial) }

// handIn makes bootstrap keys at the factory, and signs and hands in the
// manifest with openssl and curl.
func (s *shift) handIn(t *testing.T, serials ...string) {
	t.Helper()
	var lines strings.Builder
	for i, serial := range serials {
		line := must(t, estScript, "bootstrap", s.device(serial), serial)
		mac := "02:00:5e:10:00:0" + string(rune('1'+i))
		lines.WriteString(strings.Replace(line, "{", `{"mac":"`+mac+`","uid":"00112233445566`+mac[15:]+`",`, 1))
	}
	file := write(t, "units.jsonl", lines.String())
	crt, key := filepath.Join(s.lin, "lin.crt"), filepath.Join(s.lin, "lin.key")
	must(t, manifestScript, "sign", file, crt, key)
	answer := must(t, manifestScript, "hand-in", s.api, s.root(), crt, key, "PO-1", file)
	if n := field[int](t, answer, "records"); n != len(serials) {
		t.Errorf("%d records were taken in, want %d: %s", n, len(serials), answer)
	}
	// The command line waits until the records are loaded; the same file
	// again changes nothing.
	loaded := s.as(t, s.lin, "manifest", "upload", "PO-1", file, "--json")
	if state := field[string](t, loaded, "state"); state != "loaded" {
		t.Fatalf("the manifest is %s, want loaded: %s", state, loaded)
	}
}

// run runs the device's script with the exit status that it must have, and
// returns what it prints.
func (s *shift) run(t *testing.T, want int, action, serial string) string {
	t.Helper()
	out, errors, code := outcome(t, estScript, action, s.device(serial), s.est, s.root(), "thermostat")
	if code != want {
		t.Fatalf("%s %s: exit status %d, want %d\n%s%s", action, serial, code, want, out, errors)
	}
	return out + errors
}

// life: held while the order is a draft, enrolled, the same again, renewed,
// re-keyed, and the bootstrap key spent.
func (s *shift) life(t *testing.T) {
	const serial = "A-0001"
	if said := s.run(t, heldStatus, "enrol", serial); !strings.Contains(said, "draft") || !strings.Contains(said, "ask again after") {
		t.Errorf("held without a reason and a time: %q", said)
	}
	s.cli(t, "order", "open", "PO-1")
	wanted := read(t, s.device(serial), "wanted.key")
	s.run(t, 0, "enrol", serial)
	first := s.official(t, serial)
	if read(t, s.device(serial), "official.key") != wanted {
		t.Error("the device did not keep the key of its held request")
	}
	for _, name := range []string{"URI:urn:dev:mac:02:00:5e:10:00:01", "DNS:a-0001.devices.example.com", "Permanent Identifier"} {
		if text := must(t, "openssl", "x509", "-in", filepath.Join(s.device(serial), "official.crt"), "-noout", "-text"); !strings.Contains(text, name) {
			t.Errorf("the certificate does not name %s:\n%s", name, text)
		}
	}

	s.run(t, 0, "renew", serial)
	second := s.official(t, serial)
	s.run(t, 0, "rekey", serial)
	third := s.official(t, serial)
	if first == second || second == third {
		t.Errorf("renewing gave the same certificate: %s, %s, %s", first, second, third)
	}
	if read(t, s.device(serial), "official.key") == wanted {
		t.Error("re-keying left the old key in place")
	}
	if out, _, code := outcome(t, estScript, "enrol", s.device(serial), s.est, s.root()); code == 0 {
		t.Errorf("the bootstrap key still counts after activation: %s", out)
	}
	device := s.cli(t, "device", "show", serial, "--json")
	if state, cert := field[string](t, device, "state"), field[string](t, device, "certificate"); state != "active" || !strings.EqualFold(cert, third) {
		t.Errorf("the device is %s with certificate %s, want active with %s", state, cert, third)
	}
	if evidence := s.cli(t, "evidence", "list", "--kind", "spent-bootstrap-key"); !strings.Contains(evidence, serial) {
		t.Errorf("using the spent bootstrap key left no evidence: %s", evidence)
	}
	s.oneUnit(t)
	s.prove(t, serial)
}

// official is the serial number of a device's certificate, in hex.
func (s *shift) official(t *testing.T, serial string) string {
	t.Helper()
	out := must(t, "openssl", "x509", "-in", filepath.Join(s.device(serial), "official.crt"), "-noout", "-serial")
	return strings.TrimSpace(strings.TrimPrefix(out, "serial="))
}

func (s *shift) oneUnit(t *testing.T) {
	t.Helper()
	if order := s.cli(t, "order", "show", "PO-1", "--json"); field[int](t, order, "issued") != 1 {
		t.Errorf("one device took other than one unit of the order: %s", order)
	}
}

// prove does what docs/guides/auditor.md says.
func (s *shift) prove(t *testing.T, serial string) {
	t.Helper()
	verifier := filepath.Join(s.dir, "log", "verifier")
	proof := filepath.Join(t.TempDir(), "proof")
	crt := filepath.Join(s.device(serial), "official.crt")
	s.stop() // which publishes a checkpoint that covers everything
	s.serve()
	s.cli(t, "audit", "proof", crt, "--verifier", verifier, "-o", proof)
	must(t, bin+"/touchmark", "audit", "check", proof, crt, "--verifier", verifier)
	if out, _, code := outcome(t, bin+"/touchmark", "audit", "check", proof, filepath.Join(s.device(serial), "bootstrap.crt"), "--verifier", verifier); code == 0 {
		t.Errorf("the proof holds for another certificate: %s", out)
	}
	if tls := must(t, "curl", "--silent", "--show-error", "--fail", "--cacert", s.root(), s.api+"/audit/verifier"); tls != read(t, verifier) {
		t.Errorf("the server tells another verifier than init wrote: %q", tls)
	}
}

// strangers: a device that no record knows, one with another's name, a CSR
// that asks for more, and no certificate at all.
func (s *shift) strangers(t *testing.T) {
	must(t, estScript, "bootstrap", s.device("stranger"), "A-9999")
	if said := s.run(t, 1, "enrol", "stranger"); !strings.Contains(said, "403") || !strings.Contains(said, "record") {
		t.Errorf("a stranger was told %q", said)
	}
	must(t, estScript, "bootstrap", s.device("impostor"), "A-0002")
	if said := s.run(t, 1, "enrol", "impostor"); !strings.Contains(said, "another bootstrap key") {
		t.Errorf("an impostor was told %q", said)
	}
	for _, kind := range []string{"unknown-device", "wrong-key"} {
		if list := s.cli(t, "evidence", "list", "--kind", kind, "--json"); !strings.Contains(list, kind) {
			t.Errorf("no evidence of %s", kind)
		}
	}
	body := filepath.Join(t.TempDir(), "request")
	must(t, "bash", "-euo", "pipefail", "-c", `openssl req -new -key "$1/bootstrap.key" -subj /CN=admin -addext subjectAltName=DNS:bank.example.com -outform DER | base64 >"$2"`,
		"bash", s.device("A-0002"), body)
	s.refused(t, "400", body, "--cert", filepath.Join(s.device("A-0002"), "bootstrap.crt"), "--key", filepath.Join(s.device("A-0002"), "bootstrap.key"))
	s.refused(t, "401", body)
	s.oneUnit(t)
}

// served: a device whose key the server makes, once the product allows it.
func (s *shift) served(t *testing.T) {
	const serial = "A-0002"
	if said := s.run(t, 1, "serverkey", serial); !strings.Contains(said, "makes no private keys") {
		t.Errorf("where it is off, the device was told %q", said)
	}
	s.cli(t, "product", "update", "thermostat", "--server-keys", "plain")
	s.run(t, 0, "serverkey", serial)
	lost := s.official(t, serial)
	s.run(t, 0, "serverkey", serial)
	if first := s.official(t, serial); first == lost {
		t.Errorf("asking again gave the same certificate %s", first)
	}
	if leaked, _ := filepath.Glob(filepath.Join(s.device(serial), "answer.body")); leaked != nil {
		t.Errorf("the private key is left in %v", leaked)
	}
	s.run(t, 0, "renew", serial)
}

// coded: a device with nothing from the factory but a label.
func (s *shift) coded(t *testing.T) {
	const serial = "A-0003"
	s.cli(t, "order", "set-quantity", "PO-1", "3")
	s.cli(t, "product", "update", "thermostat", "--proof", "bootstrap-key", "--proof", "code")
	s.as(t, s.lin, "manifest", "upload", "PO-1", write(t, "unit.jsonl", `{"serial":"A-0003","mac":"02:00:5e:10:00:03","uid":"0011223344556603"}`+"\n"), "--sign")
	code := strings.Fields(s.cli(t, "code", "create", "--order", "PO-1"))[0]
	login := func(serial, code string) {
		if err := os.MkdirAll(s.device(serial), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.device(serial), "login"), []byte(serial+":"+code+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	login(serial, "0000-0000-0000-0000")
	if said := s.run(t, 1, "code", serial); !strings.Contains(said, "401") || !strings.Contains(said, "no such enrolment code") {
		t.Errorf("with a wrong code the device was told %q", said)
	}
	login(serial, code)
	s.run(t, 0, "code", serial)
	first := s.official(t, serial)
	must(t, "mv", filepath.Join(s.device(serial), "official.key"), filepath.Join(s.device(serial), "wanted.key"))
	s.run(t, 0, "code", serial)
	if again := s.official(t, serial); again != first {
		t.Errorf("asking twice gave the certificates %s and %s", first, again)
	}
	login("A-0002", code)
	if said := s.run(t, 1, "code", "A-0002"); !strings.Contains(said, "403") || !strings.Contains(said, "used already") {
		t.Errorf("a second device was told %q", said)
	}
	body := filepath.Join(s.device("A-0002"), "request.b64")
	s.refused(t, "403", body, "--user", serial+":"+code)
	s.refused(t, "401", body, "--user", serial+":"+code[:len(code)-1])
	s.run(t, 0, "renew", serial)
	if list := s.cli(t, "code", "list", "--state", "used"); !strings.Contains(list, "used") {
		t.Errorf("the code is not used: %s", list)
	}
	if list := s.cli(t, "evidence", "list", "--kind", "misused-code"); strings.Count(list, "was used again") != 2 {
		t.Errorf("using the code again left no evidence: %s", list)
	}
}

// refused posts a request and wants a status with a sentence.
func (s *shift) refused(t *testing.T, status, body string, credentials ...string) {
	t.Helper()
	args := append([]string{"--silent", "--show-error", "--cacert", s.root(), "--header", "Content-Type: application/pkcs10",
		"--data-binary", "@" + body, "--write-out", "\n%{http_code} %{content_type}"}, credentials...)
	answer := must(t, "curl", append(args, s.est+"/.well-known/est/simpleenroll")...)
	last := strings.LastIndex(answer, "\n")
	if sentence, end := answer[:last], answer[last+1:]; len(sentence) < 20 || !strings.HasPrefix(end, status+" text/plain") {
		t.Errorf("answered %q, want a sentence and status %s", answer, status)
	}
}
