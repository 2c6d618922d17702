package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server"
	"github.com/touchmark/touchmark/vetting"
)

func TestUsageErrors(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"ordr list", `no command "ordr"; did you mean "order"?`},
		{"order lst", `touchmark order has no command "lst"; did you mean "list"?`},
		{"order show", "accepts 1 arg(s), received 0; usage: touchmark order show NAME"},
		{"order list --stat open", "unknown flag: --stat; `touchmark order list --help` lists the flags"},
		{"order list", "which server?"},
		{"--dir /nowhere/at/all order list", "holds no cli.yaml"},
		{"--server http://x order list", "want https://HOST:PORT"},
		{"serve", "which server?"},
		{"operator add x --role king --server https://x", "unknown role"},
		{"operator add x --role rig --server https://x", "belongs to a site"},
		{"manifest sign x.jsonl", "which server?"},
	} {
		r := touchmark(t, strings.Fields(c.args)...).want(t, exitUsage, c.want)
		if r.out != "" || !strings.HasPrefix(r.err, "touchmark: ") {
			t.Errorf("%s: output %q, errors %q", c.args, r.out, r.err)
		}
	}
}

func TestInitRefuses(t *testing.T) {
	dir := initialized(t)
	touchmark(t, "init", dir, "--name", "x").want(t, exitFailed, "is not empty", "never overwrites")
	fresh := filepath.Join(t.TempDir(), "fresh")
	for _, c := range []struct{ flag, value, want string }{
		{"--name", " ", "needs a name"},
		{"--dns", "https://x", "no DNS name"},
		{"--kms", "pkcs11:object=x", "{name}"},
		{"--admin", "a b", "operator name"},
		{"--database", "mysql:x", "kind"},
		{"--database", "sqlite:/nowhere/at/all/db", "/nowhere/at/all"},
	} {
		touchmark(t, "init", fresh, "--name", "x", c.flag, c.value).want(t, exitFailed, c.want)
		if _, err := os.Stat(fresh); err == nil {
			t.Errorf("init %s %q failed but left its directory", c.flag, c.value)
		}
	}
}

func TestInitKeepsSecrets(t *testing.T) {
	dir := initialized(t)
	for _, f := range []string{"admin.key", "keys/device-ca.key", "keys/root.key", "keys/serial.key", "touchmark.yaml"} {
		info, err := os.Stat(filepath.Join(dir, f))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f, info.Mode(), err)
		}
	}
}

func TestRootKeyElsewhere(t *testing.T) {
	dir, safe := filepath.Join(t.TempDir(), "d"), filepath.Join(t.TempDir(), "safe")
	touchmark(t, "init", dir, "--name", "x", "--root-key-dir", safe).want(t, 0, filepath.Join(safe, "root.key"))
	if _, err := os.Stat(filepath.Join(safe, "root.key")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "keys", "root.key")); err == nil {
		t.Error("the root's key is in the data directory all the same")
	}
	touchmark(t, "serve", "--check", "--dir", dir).want(t, 0, "not on this machine")
}

func TestCheck(t *testing.T) {
	dir := initialized(t)
	touchmark(t, "serve", "--check", "--dir", dir).want(t, 0, "configuration", "database")
	if err := os.Chmod(filepath.Join(dir, "keys", "log.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	touchmark(t, "serve", "--check", "--dir", dir).want(t, exitFailed, "BAD", "chmod 600")
	file := filepath.Join(dir, server.ConfigFile)
	if err := os.WriteFile(file, []byte("databse: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	touchmark(t, "serve", "--check", "-c", file).want(t, exitFailed, `touchmark.yaml:1: unknown key "databse"; did you mean "database"?`)
}

func TestConfigPrintsASample(t *testing.T) {
	r := touchmark(t, "config").want(t, 0)
	if _, err := server.ParseConfig("sample", []byte(r.out)); err != nil {
		t.Error(err)
	}
}

func TestVersion(t *testing.T) {
	b := decodeAs[build](t, touchmark(t, "version", "--json").want(t, 0).out)
	if b.Go == "" || b.Target == "" {
		t.Errorf("version %+v", b)
	}
}

// Every command can be found out about: it says what it does, and its
// examples are command lines that parse.
func TestHelp(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s has no description", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	a := newApp(strings.NewReader(""), os.Stdout, os.Stderr)
	root := a.root()
	walk(root)
	touchmark(t, "order", "create", "--help").want(t, 0, "Examples:", "--quantity")
	touchmark(t).want(t, 0, "Exit status:", "Working with a running server:")
	touchmark(t, "completion", "bash").want(t, 0, "touchmark")
}

func TestPlanning(t *testing.T) {
	w := newWorld(t)
	w.admin(t, "product", "list").want(t, 0, "thermostat", "bootstrap-key")
	w.admin(t, "product", "create", "thermostat").want(t, exitFailed, "touchmark: product thermostat exists already")
	w.admin(t, "product", "update", "thermostat", "--description", "for walls").want(t, 0, "for walls", "3650d")
	p := decodeAs[vetting.Product](t, w.admin(t, "product", "show", "thermostat", "--json").want(t, 0).out)
	if p.Description != "for walls" || p.Profile.Validity != "3650d" || p.Revision != 2 {
		t.Errorf("product %+v", p)
	}
	w.admin(t, "product", "create", "button", "--server-keys", "encrypted").want(t, 0, "server keys", "encrypted")
	w.admin(t, "product", "update", "button", "--description", "small").want(t, 0, "small", "encrypted")
	w.admin(t, "product", "update", "button", "--server-keys", "off").want(t, 0, "off")
	w.admin(t, "product", "update", "button", "--server-keys", "always").want(t, exitFailed, "serverKeys")
	w.admin(t, "product", "create", "bad", "--validity", "soon").want(t, exitFailed, "soon")
	w.admin(t, "site", "update", "penang", "--network", "203.0.113.0/24").want(t, 0, "203.0.113.0/24")
	w.admin(t, "site", "update", "penang", "--network", "203.0.113.7/24").want(t, exitFailed, `"203.0.113.7/24" is no network`)
	w.admin(t, "site", "show", "nowhere").want(t, exitFailed, `"nowhere"`)
	w.admin(t, "order", "create", "PO-2", "--product", "thermostat", "--site", "penang", "--quantity", "3",
		"--serials", "A-1..A-9", "--not-before", "2026-11-01", "--not-after", "2026-12-31", "--signatures", "2").want(t, 0, "draft", "A-1..A-9", "2 wanted")
	w.admin(t, "order", "set-window", "PO-2", "--not-before", "none").want(t, 0)
	w.admin(t, "order", "set-quantity", "PO-2", "7").want(t, 0, "0 of 7")
	o := decodeAs[vetting.Order](t, w.admin(t, "order", "open", "PO-2", "--json").want(t, 0).out)
	if o.Quantity != 7 || !o.NotBefore.IsZero() || o.NotAfter.IsZero() || o.State != vetting.OrderOpen {
		t.Errorf("order %+v", o)
	}
	w.admin(t, "order", "close", "PO-2").want(t, 0, "closed")
	w.admin(t, "order", "cancel", "PO-2").want(t, exitUsage, "will be cancelled for good", "--yes")
	w.admin(t, "order", "cancel", "PO-2", "--yes").want(t, 0, "cancelled")
	w.admin(t, "order", "open", "PO-2").want(t, exitFailed, "cancelled")
	w.admin(t, "order", "list", "--state", "cancelled").want(t, 0, "PO-2")
	list := decodeAs[struct {
		Items []vetting.Order
		Next  string
	}](t, w.admin(t, "order", "list", "--json", "--limit", "1").want(t, 0).out)
	if len(list.Items) != 1 || list.Next == "" {
		t.Errorf("first page %+v", list)
	}
	w.admin(t, "order", "list", "--limit", "1").want(t, 0, "There are more")
	w.admin(t, "order", "list", "--limit", "0").want(t, 0, "PO-1", "PO-2")
}

func TestPace(t *testing.T) {
	w := newWorld(t)
	w.admin(t, "order", "create", "PO-3", "--product", "thermostat", "--site", "penang", "--quantity", "30", "--per-hour", "10", "--open").want(t, 0, "10 an hour")
	w.admin(t, "order", "set-limits", "PO-3", "--per-day", "50", "--line-per-hour", "1200").want(t, 0, "10 an hour, 50 a day, 1,200 an hour on one line")
	w.admin(t, "order", "set-limits", "PO-3", "--per-hour", "0").want(t, 0, "50 a day")
	w.admin(t, "order", "set-limits", "PO-3").want(t, exitUsage, "per-hour")
	w.admin(t, "order", "set-limits", "PO-3", "--rig-per-hour", "-1").want(t, exitFailed, "rigPerHour is -1")
	w.admin(t, "order", "pause", "PO-3").want(t, 0, "paused")
	w.admin(t, "order", "pause", "PO-3").want(t, 0, "paused")
	w.admin(t, "order", "list", "--state", "paused").want(t, 0, "PO-3")
	w.admin(t, "order", "open", "PO-3").want(t, 0, "open")
}

func TestRules(t *testing.T) {
	w := newWorld(t)
	touchmark(t, "rule", "--help").want(t, 0, "record.serial", "history.order_last_hour", "cel.dev")
	w.admin(t, "rule", "list", "thermostat").want(t, 0, "has no rules")
	w.admin(t, "rule", "try", "thermostat").want(t, exitUsage, "give an expression")
	// What else the product says stays, whatever its rules become.
	w.admin(t, "product", "update", "thermostat", "--server-keys", "plain", "--await-records", "72h", "--validity", "99d").want(t, 0)
	w.admin(t, "rule", "set", "thermostat", "any", "true").want(t, 0)
	w.admin(t, "rule", "remove", "thermostat", "any").want(t, 0)
	w.admin(t, "product", "show", "thermostat").want(t, 0, "plain", "72h", "99d")
	w.admin(t, "rule", "set", "thermostat", "tested", "record.tests.passed", "--otherwise", "refused", "--text", "Rework it.").want(t, 0, "tested", "refused", "Rework it.")
	w.admin(t, "rule", "set", "thermostat", "day", "now.getHours() >= 6").want(t, 0, "tested", "day", "held")
	w.admin(t, "rule", "set", "thermostat", "day", "now.getHours() >= 7").want(t, 0, ">= 7")
	w.admin(t, "rule", "set", "thermostat", "bad", "record.passed").want(t, exitFailed, "undefined field 'passed'")
	w.admin(t, "product", "update", "thermostat", "--description", "for walls").want(t, 0, "tested, otherwise refused: record.tests.passed")
	w.admin(t, "rule", "try", "thermostat", "false").want(t, 0, "Of 0 devices that were let in, 0 would have been refused and 0 held.")
	w.admin(t, "rule", "remove", "thermostat", "tested").want(t, 0, "day")
	w.admin(t, "rule", "remove", "thermostat", "tested").want(t, exitFailed, `no rule "tested"`)
	w.site(t, "rule", "try", "thermostat", "true").want(t, exitFailed, "plan production")
	// Versions 1 and 2 came and went with "any"; 3 is tested, 4 and 5 are day, 6 is the end of tested.
	w.admin(t, "rule", "list", "thermostat").want(t, 0, "version", "6")
	w.admin(t, "rule", "history", "thermostat", "day").want(t, 0, "5  ", "by operator:admin", "now.getHours() >= 6, otherwise held", "now.getHours() >= 7, otherwise held", "(none)")
	changes := decodeAs[[]ruleChange](t, w.admin(t, "rule", "history", "thermostat", "--json").want(t, 0).out)
	var versions []int64
	for _, c := range changes {
		versions = append(versions, c.Version)
	}
	if !slices.Equal(versions, []int64{6, 5, 4, 3, 2, 1}) || changes[0].After != nil || changes[0].Before.Name != "tested" || changes[5].Before != nil {
		t.Errorf("%+v", changes)
	}
	w.admin(t, "rule", "history", "thermostat", "none").want(t, 0, "no such rules")
	w.admin(t, "rule", "history", "none").want(t, exitFailed, `no product "none"`)
	w.admin(t, "rule", "try", "thermostat", "--version", "3").want(t, 0, "Of 0 devices")
	w.admin(t, "rule", "try", "thermostat", "--version", "2").want(t, exitFailed, "had no rules")
	w.admin(t, "rule", "try", "thermostat", "--version", "9").want(t, exitFailed, "no version 9")
	w.admin(t, "rule", "try", "thermostat", "true", "--version", "3").want(t, exitUsage, "not both")
}

func TestOperators(t *testing.T) {
	w := newWorld(t)
	w.site(t, "operator", "whoami").want(t, 0, "anna", "site-operator", "penang", "hand in manifests")
	w.site(t, "product", "create", "x").want(t, exitFailed, "plan production")
	w.admin(t, "operator", "list").want(t, 0, "admin", "anna")
	info, err := os.Stat(filepath.Join(w.anna, "anna.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("anna's key: %v %v", info.Mode(), err)
	}
	out := filepath.Join(t.TempDir(), "again")
	w.admin(t, "operator", "add", "anna", "--role", "planner", "--out", out).want(t, exitFailed, "anna")
	if _, err := os.Stat(filepath.Join(out, "anna.key")); err == nil {
		t.Error("the key of an operator who was refused was left behind")
	}
	retried := filepath.Join(t.TempDir(), "retried")
	w.admin(t, "operator", "add", "berta", "--role", "planner", "--out", retried, "--server", "https://127.0.0.1:1").want(t, exitFailed)
	w.admin(t, "operator", "add", "berta", "--role", "planner", "--out", retried).want(t, 0)
	w.admin(t, "operator", "add", "berta", "--role", "planner", "--out", retried).want(t, exitFailed, "never overwritten")
	w.admin(t, "operator", "revoke", "anna").want(t, exitUsage, "loses all rights")
	w.admin(t, "operator", "revoke", "anna", "--yes").want(t, 0, "revoked")
	w.site(t, "operator", "whoami").want(t, exitFailed, "revoked")
}

func TestManifests(t *testing.T) {
	w := newWorld(t)
	file := manifestFile(t, 1200)
	w.site(t, "manifest", "upload", "PO-1", file).want(t, exitUsage, "manifest sign")
	w.site(t, "manifest", "sign", file).want(t, 0, "Signed: "+file+".p7s")
	m := decodeAs[vetting.Manifest](t, w.site(t, "manifest", "upload", "PO-1", file, "--json").want(t, 0).out)
	if m.State != vetting.ManifestLoaded || m.Fresh != 1200 || len(m.Signers) != 1 {
		t.Errorf("manifest %+v", m)
	}
	w.site(t, "manifest", "upload", "PO-1", file).want(t, 0, "1,200")
	w.site(t, "manifest", "list", "--order", "PO-1").want(t, 0, "loaded", "anna")
	if err := os.WriteFile(file, []byte("{\"serial\":\"B\"}\nnonsense\n{\"serial\":\"C\",\"colour\":\"red\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.site(t, "manifest", "upload", "PO-1", file, "--sign").want(t, exitFailed, "line 1", "line 2", "line 3", "colour")
	w.site(t, "manifest", "upload", "PO-1", file).want(t, exitFailed) // the signature is of the former file
	w.site(t, "manifest", "upload", "PO-1", filepath.Join(w.anna, "anna.crt"), "--sign").want(t, exitUsage, ".jsonl nor .csv")

	w.admin(t, "order", "create", "PO-2", "--product", "thermostat", "--site", "penang", "--quantity", "5", "--open", "--signatures", "2").want(t, 0)
	bert := filepath.Join(t.TempDir(), "bert")
	w.admin(t, "operator", "add", "bert", "--role", "site-operator", "--site", "penang", "--out", bert).want(t, 0)
	file = manifestFile(t, 3)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "A-", "C-")), 0o600); err != nil {
		t.Fatal(err)
	}
	r := w.site(t, "manifest", "upload", "PO-2", file, "--sign").want(t, 0, "unsigned", "1 more must sign")
	id := regexp.MustCompile(`manifest +(\d+)`).FindStringSubmatch(r.out)[1]
	touchmark(t, "--dir", bert, "manifest", "sign", file, "-o", file+".bert").want(t, 0)
	touchmark(t, "--dir", bert, "manifest", "sign-more", id, file+".bert").want(t, 0, "loaded", "anna, bert")
	w.admin(t, "evidence", "list").want(t, 0, "duplicate-key") // the keys are those of PO-1's records
	w.admin(t, "manifest", "show", id).want(t, 0, "3 disputed")
}

func TestServeStopsInOrder(t *testing.T) {
	dir := initialized(t)
	p := serve(t, dir)
	log := p.stop(t)
	if !strings.Contains(log, `"msg":"stopping"`) || !strings.Contains(log, `"msg":"stopped"`) {
		t.Errorf("log %s", log)
	}
	touchmark(t, "audit", "verify", "--dir", dir).want(t, 0, "nothing is wrong")
}

// With a client that never ends its request the first signal waits, the
// second does not.
func TestSecondSignalForces(t *testing.T) {
	dir := initialized(t)
	p := serve(t, dir)
	conn, err := tls.Dial("tcp", p.Addr["est"], &tls.Config{
		InsecureSkipVerify: true, // who it is does not matter here
		Certificates:       []tls.Certificate{newDevice(t, "A-1").bootstrap},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: x\r\nContent-Type: application/pkcs10\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("the server does not wait for the body: %q, %v", line, err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for p.log.Scan() && !strings.Contains(p.log.Text(), `"stopping"`) {
	}
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	var last string
	for p.log.Scan() {
		last = p.log.Text()
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitFailed || !strings.Contains(last, "ending at once") {
		t.Errorf("ended with %v, %q", err, last)
	}
	touchmark(t, "audit", "verify", "--dir", dir).want(t, 0)
}

func TestUnreachable(t *testing.T) {
	w := newWorld(t)
	touchmark(t, "--server", "https://"+w.server.Addr["api"], "site", "list").want(t, exitFailed, "not to be trusted", "--ca")
	touchmark(t, "--server", "https://"+w.server.Addr["api"], "--ca", filepath.Join(w.dir, "ca", "root.crt"), "site", "list").want(t, exitFailed, "certificate")
}
