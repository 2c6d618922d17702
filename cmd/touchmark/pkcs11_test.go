//go:build pkcs11

package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// softHSM makes a token with a PIN and returns the start of its URI.
func softHSM(t *testing.T, pin string) (uri string) {
	t.Helper()
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+tokens+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "tm", "--pin", pin, "--so-pin", "5678").CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
	return "pkcs11:module-path=/usr/lib/softhsm/libsofthsm2.so;token=tm;id={id};object={name}"
}

// run runs one command line in a process of its own: a PKCS#11 module keeps
// its tokens for a process's life.
func run(t *testing.T, args ...string) ran {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "TOUCHMARK_TEST_RUN=1")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return ran{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// initHSM makes a data directory with its CAs' keys in the token.
func initHSM(t *testing.T, kms string) (data string, r ran) {
	t.Helper()
	data = filepath.Join(t.TempDir(), "d")
	return data, run(t, "init", data, "--name", "HSM Works", "--est", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0", "--status", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--kms", kms)
}

// With --kms the keys are made in an HSM, and the server works with them
// there.
func TestKeysInAnHSM(t *testing.T) {
	kms := softHSM(t, "1234") + "?pin-value=1234"
	data, r := initHSM(t, kms)
	r.want(t, 0, "object=root")
	if files, err := os.ReadDir(filepath.Join(data, "keys")); err != nil || len(files) != 1 || files[0].Name() != "serial.key" {
		t.Errorf("the directory of keys holds %v, %v", files, err)
	}
	inToken(t, "1234", "root", "device-ca", "factory-ca", "operator-ca", "codesign-ca", "log", "responder", "attestation", "timestamp")
	run(t, "serve", "--check", "--dir", data).want(t, 0)
	w := &world{dir: data, server: serve(t, data)}
	w.admin(t, "site", "create", "penang").want(t, 0)
	w.admin(t, "operator", "add", "anna", "--role", "site-operator", "--site", "penang", "--out", filepath.Join(t.TempDir(), "anna")).want(t, 0)

	// a ceremony, with the root's key and the CAs' in the HSM
	requests, signed := filepath.Join(t.TempDir(), "requests"), filepath.Join(t.TempDir(), "signed")
	root := strings.NewReplacer("{id}", "01", "{name}", "root").Replace(kms)
	run(t, "ca", "request", "--dir", data, "--all", "-o", requests).want(t, 0)
	run(t, "ca", "sign", requests, "--root-key", root, "--root-cert", filepath.Join(data, "ca", "root.crt"), "-o", signed, "--yes").want(t, 0)
	run(t, "ca", "import", "--dir", data, signed, "--yes").want(t, 0, "device-ca.crt replaced", "operator-ca.crt replaced")
	run(t, "serve", "--check", "--dir", data).want(t, 0)
}

// inToken demands that a token holds the private keys of these names, none of
// which can be or ever could be read out, and no other.
func inToken(t *testing.T, pin string, names ...string) {
	t.Helper()
	out, err := exec.Command("p11tool", "--provider=/usr/lib/softhsm/libsofthsm2.so", "--login", "--set-pin="+pin, "--list-privkeys", "pkcs11:token=tm").CombinedOutput()
	if err != nil {
		t.Fatalf("p11tool: %v\n%s", err, out)
	}
	objects := strings.Split(string(out), "Object ")[1:]
	if len(objects) != len(names) {
		t.Errorf("the token holds %d private keys, want %d:\n%s", len(objects), len(names), out)
	}
	for _, name := range names {
		at := slices.IndexFunc(objects, func(o string) bool { return strings.Contains(o, "Label: "+name+"\n") })
		if at < 0 {
			t.Errorf("no key %s in\n%s", name, out)
			continue
		}
		for _, flag := range []string{"CKA_PRIVATE", "CKA_NEVER_EXTRACTABLE", "CKA_SENSITIVE"} {
			if !strings.Contains(objects[at], flag) {
				t.Errorf("the key %s lacks %s:\n%s", name, flag, objects[at])
			}
		}
		if strings.Contains(objects[at], "CKA_EXTRACTABLE") {
			t.Errorf("the key %s can be read out:\n%s", name, objects[at])
		}
	}
}

// The PIN of an HSM is in the configuration, which its owner alone may read,
// and in nothing that the program says, whether it works or fails.
func TestPINStaysSecret(t *testing.T) {
	const pin, written, wrong = "hush pin?&;%", "hush%20pin%3F%26%3B%25", "wr0ng%20p1n"
	token := softHSM(t, pin)
	silent := func(what, text string) {
		t.Helper()
		for _, secret := range []string{"hush", "pin?", "pin%3F", "wr0ng", "p1n"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s says %q:\n%s", what, secret, text)
			}
		}
	}
	said := func(what string, r ran) { silent(what, r.out); silent(what, r.err) }

	for what, kms := range map[string]string{
		"a wrong PIN": token + "?pin-value=" + wrong, "a URI without {name}": strings.Replace(token, "{name}", "x", 1) + "?pin-value=" + written,
		"a PIN that is not escaped": token + "?pin-value=" + pin, "a token that is not there": strings.Replace(token, "=tm;", "=mt;", 1) + "?pin-value=" + written,
	} {
		_, r := initHSM(t, kms)
		said(what, r.want(t, exitFailed))
	}
	data, r := initHSM(t, token+"?pin-value="+written)
	said("init", r.want(t, 0, "object=root"))
	config := filepath.Join(data, "touchmark.yaml")
	text, err := os.ReadFile(config)
	if err != nil || !strings.Contains(string(text), "pin-value="+written) {
		t.Fatalf("the configuration has no PIN to be kept: %v\n%s", err, text)
	}
	if info, err := os.Stat(config); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the configuration can be read by others: %v, %v", info.Mode(), err)
	}

	configured := func(change ...string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(strings.NewReplacer(change...).Replace(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for what, change := range map[string][]string{
		"a wrong PIN":                  {written, wrong},
		"a PIN that is not escaped":    {written, pin},
		"no such token":                {"token=tm", "token=mt"},
		"a line that is no YAML":       {"pin-value=", "\": pin-value="},
		"keys that are no list":        {"device-ca: ", "device-ca: - "},
		"a key under an unknown name":  {"device-ca:", "device-cb:"},
		"a key that is no URI":         {"pkcs11:", "pkcs11-"},
		"a key in the place of others": {"keys:", "keys: pkcs11:token=tm?pin-value=" + written + "\nnokeys:"},
	} {
		configured(change...)
		said("serve with "+what, run(t, "serve", "--dir", data).want(t, exitFailed))
	}

	configured("pin-value="+written, "pin-value="+wrong)
	said("serve --check with a wrong PIN", run(t, "serve", "--check", "--dir", data).want(t, exitFailed, "BAD"))
	configured("#level: info", "level: debug")
	said("serve --check", run(t, "serve", "--check", "--dir", data).want(t, 0))
	w := &world{dir: data, server: serve(t, data)}
	said("site create", w.admin(t, "site", "create", "penang", "--json").want(t, 0))
	said("operator add", w.admin(t, "operator", "add", "anna", "--role", "auditor", "--out", filepath.Join(t.TempDir(), "anna"), "--json").want(t, 0))
	said("audit show", w.admin(t, "audit", "show", "--json").want(t, 0, "operator.create"))
	said("audit verify", w.admin(t, "audit", "verify", "--json").want(t, 0))
	for _, path := range []string{"/metrics", "/readyz", "/healthz", "/debug/vars", "/debug/pprof/cmdline"} {
		resp, err := http.Get("http://" + w.server.Addr["ops"] + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		silent(path, string(body))
	}
	key := strings.NewReplacer("{id}", "01", "{name}", "root").Replace(token) + "?pin-value=" + written
	said("a command with a key that is not to be had", w.admin(t, "--key", key, "site", "list").want(t, exitFailed, "your certificate and key"))
	log := w.server.stop(t)
	if !strings.Contains(log, `"msg":"request"`) {
		t.Errorf("the log does not hold what it should:\n%s", log)
	}
	silent("the log", log)
	database, err := filepath.Glob(filepath.Join(data, "touchmark.db*"))
	if err != nil || len(database) == 0 {
		t.Fatalf("no database: %v", err)
	}
	for _, file := range database {
		rows, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(rows), "hush") {
			t.Errorf("%s holds the PIN", file)
		}
	}
}
