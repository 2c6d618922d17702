package house

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/touchmark/touchmark"

func TestImportDirections(t *testing.T) {
	links := readImports(t, filepath.Join("..", ".."))
	if len(links) < 100 {
		t.Fatalf("only %d imports were found: the test does not see the tree", len(links))
	}
	for _, r := range rules {
		for _, l := range links {
			if r.breaks(l) {
				t.Errorf("%s imports %s\n\trule: %s\n\twhy:  %s", l.file, l.to, r.name, r.why)
			}
		}
	}
}

// drawers are names of packages that say nothing about what is inside.
var drawers = []string{"util", "utils", "common", "helpers", "helper", "models", "core", "mocks", "misc", "base"}

func TestPackageNames(t *testing.T) {
	for _, l := range readImports(t, filepath.Join("..", "..")) {
		if slices.Contains(drawers, path.Base(l.from)) {
			t.Errorf("%s: a package named %q becomes a drawer for anything; name it for what it does", l.file, path.Base(l.from))
		}
	}
}

// readImports reads the imports of every Go file of the module under root.
// Directories that the go command passes over, and other modules, are left
// out.
func readImports(t *testing.T, root string) (links []link) {
	t.Helper()
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if file != root && passedOver(file, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		found, err := importsOf(file, filepath.ToSlash(rel))
		links = append(links, found...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return links
}

func passedOver(dir, name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "node_modules" {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

func importsOf(file, rel string) (links []link, err error) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	for _, spec := range f.Imports {
		to, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		links = append(links, link{from: path.Dir(rel), to: to, test: strings.HasSuffix(rel, "_test.go"), file: rel})
	}
	return links, nil
}

// TestRules breaks every rule once and keeps within it once, so that none of
// them is a rule that nothing can break.
func TestRules(t *testing.T) {
	const pgx = "github.com/jackc/pgx/v5"
	cases := map[string]struct{ breaks, keeps []link }{
		"the device side shares nothing with the server": {
			breaks: []link{{from: "device", to: module + "/vetting"}, {from: "devicesim/fleet", to: module + "/internal/cms"},
				{from: "cmd/devicesim", to: module + "/server"}, {from: "device", to: module + "/enroll/est", test: true}},
			keeps: []link{{from: "devicesim", to: module + "/device"}, {from: "device", to: "crypto/x509"}, {from: "devices", to: module + "/vetting"}},
		},
		"device knows no simulator": {
			breaks: []link{{from: "device", to: module + "/devicesim"}, {from: "cmd/touchmark-agent", to: module + "/devicesim"}},
			keeps:  []link{{from: "devicesim", to: module + "/device"}, {from: "cmd/touchmark-agent", to: module + "/device/agent"}},
		},
		"nothing of the server imports the device side": {
			breaks: []link{{from: "server", to: module + "/device"}, {from: "enroll/est", to: module + "/device", test: true},
				{from: "cmd/touchmark", to: module + "/devicesim"}},
			keeps: []link{{from: "cmd/devicesim", to: module + "/device"}, {from: "bench", to: module + "/device"}},
		},
		"a software TPM knows neither side": {
			breaks: []link{{from: "internal/swtpm", to: module + "/device"}, {from: "internal/swtpm", to: module + "/vetting"}},
			keeps:  []link{{from: "internal/swtpm", to: "github.com/google/go-tpm/tpm2"}},
		},
		"software TPMs are for tests": {
			breaks: []link{{from: "device/tpm", to: module + "/internal/swtpm"}, {from: "enroll/attest", to: module + "/internal/swtpm"}},
			keeps:  []link{{from: "device/tpm", to: module + "/internal/swtpm", test: true}, {from: "bench", to: module + "/internal/swtpm"}},
		},
		"packets of MQTT are written by hand for tests alone": {
			breaks: []link{{from: "internal/broker", to: module + "/internal/mqtttest"}},
			keeps:  []link{{from: "server", to: module + "/internal/mqtttest", test: true}, {from: "bench", to: module + "/internal/mqtttest"}},
		},
		"vetting stands alone": {
			breaks: []link{{from: "vetting", to: module + "/internal/audit"}, {from: "vetting", to: module + "/vetting/manifest"}},
			keeps:  []link{{from: "vetting", to: "time"}, {from: "vetting/manifest", to: module + "/vetting"}},
		},
		"vetting is pure": {
			breaks: []link{{from: "vetting", to: "os"}, {from: "vetting", to: "net/http"}, {from: "vetting", to: "database/sql"}},
			keeps:  []link{{from: "vetting", to: "crypto/x509"}, {from: "vetting", to: "os", test: true}, {from: "vetting/manifest", to: "os"}},
		},
		"subjects do not know each other": {
			breaks: []link{{from: "vetting", to: module + "/enroll"}, {from: "vetting/manifest", to: module + "/internal/store"}},
			keeps:  []link{{from: "enroll", to: module + "/vetting"}},
		},
		"ocsp knows no other subject": {
			breaks: []link{{from: "ocsp", to: module + "/vetting"}, {from: "ocsp/crl", to: module + "/enroll"}},
			keeps:  []link{{from: "server", to: module + "/ocsp"}},
		},
		"the offline reader needs nothing": {
			breaks: []link{{from: "ocsp/offline", to: module + "/ocsp"}, {from: "ocsp/offline", to: "golang.org/x/crypto/cryptobyte"}, {from: "ocsp/offline", to: "os"}},
			keeps:  []link{{from: "ocsp/offline", to: "crypto/x509"}, {from: "ocsp/offline/hook", to: "net/http"}, {from: "ocsp/offline", to: module + "/ocsp/offline", test: true}},
		},
		"firmware-sign knows no other subject": {
			breaks: []link{{from: "firmware-sign", to: module + "/ocsp"}, {from: "firmware-sign/mcuboot", to: module + "/vetting"}},
			keeps:  []link{{from: "server", to: module + "/firmware-sign"}},
		},
		"the pipeline knows no wire and no database": {
			breaks: []link{{from: "enroll", to: module + "/internal/ca"}, {from: "enroll", to: module + "/enroll/est"}},
			keeps:  []link{{from: "enroll", to: module + "/vetting"}, {from: "enroll/est", to: module + "/internal/cms"}},
		},
		"licensing knows no wire and no database": {
			breaks: []link{{from: "licensing", to: module + "/internal/store"}, {from: "licensing", to: module + "/internal/keys"}},
			keeps:  []link{{from: "licensing", to: module + "/firmware-sign/licence"}, {from: "server", to: module + "/licensing"}},
		},
		"the pipeline does not speak HTTP": {
			breaks: []link{{from: "enroll", to: "net/http"}, {from: "vetting/manifest", to: "net/http"}},
			keeps:  []link{{from: "enroll/est", to: "net/http"}},
		},
		"a wire adapter only turns bytes into a Claim and an Outcome into bytes": {
			breaks: []link{{from: "enroll/est", to: module + "/internal/store"}, {from: "enroll/mqtt", to: module + "/internal/ca"}},
			keeps:  []link{{from: "enroll/est", to: module + "/enroll"}},
		},
		"wire adapters do not know each other": {
			breaks: []link{{from: "enroll/est", to: module + "/enroll/acme"}},
			keeps:  []link{{from: "enroll/est", to: module + "/enroll"}},
		},
		"only the server and its program open the store": {
			breaks: []link{{from: "enroll", to: module + "/internal/store"}, {from: "cmd/devicesim", to: module + "/internal/store"},
				{from: "internal/audit", to: module + "/internal/store"}},
			keeps: []link{{from: "server", to: module + "/internal/store"}, {from: "cmd/touchmark", to: module + "/internal/store"},
				{from: "enroll", to: module + "/internal/store", test: true}},
		},
		"the API knows no store": {
			breaks: []link{{from: "server/api", to: module + "/internal/store"}, {from: "server/api", to: module + "/internal/store", test: true}},
			keeps:  []link{{from: "server", to: module + "/internal/store"}},
		},
		"the store knows no protocol": {
			breaks: []link{{from: "internal/store", to: module + "/enroll/est"}, {from: "internal/store", to: "net/http"}},
			keeps:  []link{{from: "internal/store", to: module + "/enroll"}},
		},
		"SQL stays in the store": {
			breaks: []link{{from: "server", to: pgx}, {from: "vetting/manifest", to: "database/sql"}, {from: "server", to: "modernc.org/sqlite", test: true}},
			keeps:  []link{{from: "internal/store", to: pgx}, {from: "internal/store/storetest", to: "database/sql"}},
		},
		"Redis and the MQTT client stay in the cluster package": {
			breaks: []link{{from: "server", to: "github.com/redis/go-redis/v9"}, {from: "enroll/mqtt", to: "github.com/eclipse/paho.mqtt.golang"}},
			keeps:  []link{{from: "internal/cluster", to: "github.com/redis/go-redis/v9"}},
		},
		"the broker in the process stays in one package": {
			breaks: []link{{from: "server", to: "github.com/mochi-mqtt/server/v2"}, {from: "enroll/mqtt", to: "github.com/mochi-mqtt/server/v2/packets"}},
			keeps:  []link{{from: "internal/broker", to: "github.com/mochi-mqtt/server/v2/packets"}},
		},
		"the broker knows no enrolment": {
			breaks: []link{{from: "internal/broker", to: module + "/enroll/mqtt"}, {from: "internal/broker", to: module + "/server"}},
			keeps:  []link{{from: "internal/broker", to: module + "/vetting"}},
		},
		"private keys are opened in one place": {
			breaks: []link{{from: "internal/ca", to: "go.step.sm/crypto/kms"}, {from: "server", to: "go.step.sm/crypto/kms/apiv1"}},
			keeps:  []link{{from: "internal/keys", to: "go.step.sm/crypto/kms"}, {from: "internal/ca", to: "go.step.sm/crypto/x509util"}},
		},
		"the structures of TPMs are read in one place": {
			breaks: []link{{from: "server", to: "github.com/google/go-tpm/tpm2"}, {from: "enroll/acme", to: "github.com/google/go-tpm/tpm2"}},
			keeps:  []link{{from: "enroll/attest", to: "github.com/google/go-tpm/tpm2"}, {from: "device/tpm", to: "github.com/google/go-tpm/tpm2"}},
		},
		"what a TPM says is no protocol's": {
			breaks: []link{{from: "enroll/attest", to: module + "/internal/ca"}, {from: "enroll/attest", to: module + "/internal/store"}},
			keeps:  []link{{from: "enroll/attest", to: module + "/enroll"}, {from: "enroll/attest", to: module + "/vetting"}},
		},
		"CMS goes through the guard": {
			breaks: []link{{from: "server/api", to: "go.mozilla.org/pkcs7"}, {from: "vetting/manifest", to: "github.com/smallstep/pkcs7"}},
			keeps:  []link{{from: "internal/cms", to: "go.mozilla.org/pkcs7"}, {from: "device", to: "go.mozilla.org/pkcs7"}},
		},
		"smallstep's ACME stays behind the door's checks": {
			breaks: []link{{from: "enroll/acme", to: "github.com/smallstep/certificates/acme"}, {from: "device", to: "github.com/smallstep/certificates/acme", test: true}},
			keeps:  []link{{from: "enroll/acme/challenge", to: "github.com/smallstep/certificates/acme"}},
		},
		"JOSE stays in the ACME door and with ID tokens": {
			breaks: []link{{from: "vetting/manifest", to: "github.com/go-jose/go-jose/v4"}},
			keeps:  []link{{from: "enroll/acme", to: "github.com/go-jose/go-jose/v4"}, {from: "internal/idtoken", to: "github.com/go-jose/go-jose/v4"}, {from: "server", to: "github.com/go-jose/go-jose/v4", test: true}},
		},
		"EST parses no CMS": {
			breaks: []link{{from: "enroll/est", to: "github.com/smallstep/pkcs7"}},
			keeps:  []link{{from: "enroll/est", to: "go.mozilla.org/pkcs7"}, {from: "enroll/est", to: module + "/internal/cms"}},
		},
		"HTML and pages stay in the portal": {
			breaks: []link{{from: "server/api", to: "html/template"}},
			keeps:  []link{{from: "server/portal", to: "html/template"}, {from: "internal/ca", to: "text/template"}},
		},
		"the log knows nothing of what it records": {
			breaks: []link{{from: "internal/audit", to: module + "/vetting"}},
			keeps:  []link{{from: "internal/audit", to: "golang.org/x/mod/sumdb/tlog"}},
		},
		"approvals need nothing": {
			breaks: []link{{from: "internal/approval", to: module + "/vetting"}, {from: "internal/approval", to: "golang.org/x/mod/sumdb/note"}, {from: "internal/approval", to: "net/http"}},
			keeps:  []link{{from: "internal/approval", to: "crypto/x509"}, {from: "internal/access", to: module + "/internal/approval"}},
		},
		"events are read, not made": {
			breaks: []link{{from: "enroll", to: module + "/internal/events"}, {from: "vetting", to: module + "/internal/events"}},
			keeps:  []link{{from: "internal/store", to: module + "/internal/events"}},
		},
		"events know no database": {
			breaks: []link{{from: "internal/events/webhook", to: module + "/internal/store"}, {from: "internal/events", to: module + "/enroll"}},
			keeps:  []link{{from: "internal/events/webhook", to: module + "/internal/events"}},
		},
		"what decides on addresses knows nobody": {
			breaks: []link{{from: "internal/egress", to: "net"}, {from: "internal/egress", to: module + "/internal/events"}},
			keeps:  []link{{from: "internal/egress", to: "net/netip"}},
		},
		"the vocabulary of events speaks no protocol": {
			breaks: []link{{from: "internal/events", to: "net/http"}},
			keeps:  []link{{from: "internal/events/webhook", to: "net/http"}},
		},
		"internal packages do not import the server": {
			breaks: []link{{from: "internal/store", to: module + "/server"}, {from: "enroll/est", to: module + "/server/api"}},
			keeps:  []link{{from: "cmd/touchmark", to: module + "/server"}},
		},
		"nothing imports a program": {
			breaks: []link{{from: "server", to: module + "/cmd/touchmark"}, {from: "e2e", to: module + "/cmd/touchmark", test: true}},
			keeps:  []link{{from: "cmd/touchmark", to: module + "/cmd/touchmark/internal/ui"}},
		},
	}
	for _, r := range rules {
		c, ok := cases[r.name]
		if !ok || len(c.breaks) == 0 || len(c.keeps) == 0 {
			t.Errorf("rule %q has no case that breaks it and one that keeps it", r.name)
		}
		for _, l := range c.breaks {
			if !r.breaks(l) {
				t.Errorf("rule %q lets %s import %s (in a test: %t)", r.name, l.from, l.to, l.test)
			}
		}
		for _, l := range c.keeps {
			if r.breaks(l) {
				t.Errorf("rule %q keeps %s from importing %s (in a test: %t)", r.name, l.from, l.to, l.test)
			}
		}
		delete(cases, r.name)
	}
	for name := range cases {
		t.Errorf("the cases speak of a rule %q that is not there", name)
	}
}

func TestReadImportsPassesOver(t *testing.T) {
	root := t.TempDir()
	for _, file := range []string{
		"a/a.go", "a/a_test.go", "a/testdata/t.go", ".hidden/h.go", "_old/o.go", "tools/go.mod", "tools/t.go",
	} {
		writeFile(t, filepath.Join(root, filepath.FromSlash(file)), "package p\n\nimport _ \"fmt\"\n")
	}
	want := []link{
		{from: "a", to: "fmt", file: "a/a.go"},
		{from: "a", to: "fmt", file: "a/a_test.go", test: true},
	}
	if got := readImports(t, root); !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
