package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// requests makes the requests of n units in a directory.
func requests(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		serial := fmt.Sprintf("A-%06d", i)
		if err := os.Rename(request(t, serial), filepath.Join(dir, serial+".csr")); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A shift: one unit is good, one fails and is mended, one fails too late and
// is replaced, and the technician makes mistakes.
func TestRigRun(t *testing.T) {
	w, _ := rigWorld(t, 5)
	w.admin(t, "order", "set-rework", "PO-1", "site").want(t, 0)
	w.admin(t, "rule", "set", "thermostat", "tested", `record.serial != "A-000001" || test.passed`, "--otherwise", "refused", "--text", "Test it first.").want(t, 0)
	out := t.TempDir()
	shift := strings.Join([]string{
		"pass too early",
		"A-000000", "PASS",
		" A-000001 ", "fail antenna loose", "again", "pass mended",
		"A-000002", "fail radio dead", "replace A-000003 radio dead", "pass",
		"",
		"A-000009", "no such word", "serial:pass", "fail", "replace", "../../etc/passwd",
		"quit", "A-000004",
	}, "\n")
	r := touchmarkReads(t, shift, "--dir", w.rig, "rig", "run", "--csr-dir", requests(t, 5), "--out-dir", out, "--station", "FCT-2")
	r.want(t, exitFailed, "ADMITTED  A-000000", "PASSED  A-000000", "REFUSED  A-000001", "Test it first.", "FAILED  A-000001", "ADMITTED  A-000001",
		"FAILED  A-000002", "replace it", "REPLACED BY A-000003  A-000002", "ADMITTED  A-000003", "scan its serial number first", "neither a unit",
		"6 units scanned in", "admitted 4, held 0, refused 2; passed 3, failed 2, replaced 1; errors 7")
	written, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil || len(written) != 4 {
		t.Errorf("certificates %v, %v", written, err)
	}
	w.admin(t, "device", "history", "A-000002").want(t, 0, "scrapped", "station FCT-2", "radio dead")
}

// Labels as scanners read them: of units, and of enrolment codes, which are
// used and not shown.
func TestRigRunScansLabels(t *testing.T) {
	w, _ := rigWorld(t, 5)
	w.admin(t, "product", "update", "thermostat", "--proof", "rig", "--proof", "code").want(t, 0)
	w.admin(t, "rule", "set", "thermostat", "code-at-rig", `claim.rig != "" && claim.code`, "--text", "Scan the label, too.").want(t, 0)
	var codes, uris []string
	for _, args := range [][]string{{"--order", "PO-1", "--count", "3"}, {"--device", "A-000003"}} {
		made := decodeAs[api.CodesCreated](t, w.admin(t, append([]string{"code", "create", "--json"}, args...)...).want(t, 0).out)
		for _, c := range made.Codes {
			codes, uris = append(codes, c.Code), append(uris, c.URI)
		}
	}
	shift := strings.Join([]string{
		uris[0], // no unit yet
		"SN:A-000000;MODEL:thermostat", uris[0],
		uris[1], // the next unit was not scanned
		"touchmark:device?serial=A-000001", "fail loose", "code " + strings.ToLower(strings.ReplaceAll(codes[1], "-", "")), "pass",
		"A-000002", codes[0], strings.Replace(uris[2], "code=", "code=U", 1), uris[2],
		uris[3], uris[3],
		"SN:A-000004;MODEL:lamp", strings.Replace(uris[3], "/thermostat", "/lamp", 1), "MAC:02:00:00:00:00:01", "code",
	}, "\n")
	r := touchmarkReads(t, shift, "--dir", w.rig, "rig", "run", "--csr-dir", requests(t, 5), "--product", "thermostat")
	r.want(t, exitFailed, "scan its serial number first", "HELD  A-000000", "Scan the label, too.", "ADMITTED  A-000000", "needs no code: scan the next unit before its label",
		"REFUSED  A-000001", "PASSED  A-000001", "ADMITTED  A-000001", "REFUSED  A-000002", "used already", "holds the character 'U'", "ADMITTED  A-000002", "ADMITTED  A-000003",
		"the label is for the product lamp, but these should be thermostat", "has no serial number", "has 0 characters",
		"4 units scanned", "admitted 5, held 3, refused 2; passed 1, failed 1, replaced 0; errors 7")
	for _, c := range codes {
		if strings.Contains(r.out+r.err, c) || strings.Contains(r.out+r.err, c[:9]) {
			t.Errorf("the code %s is shown:\n%s", c, r.out)
		}
	}
}

// Each line is answered before the next is read, as a scanner and a person,
// or another program, need it.
func TestRigRunThroughAPipe(t *testing.T) {
	w, _ := rigWorld(t, 3)
	requests := requests(t, 3)
	cmd := exec.Command(os.Args[0], "--dir", w.rig, "rig", "run", "--csr-command", `cat "`+requests+`/$TOUCHMARK_SERIAL.csr"`, "--json")
	cmd.Env = append(os.Environ(), "TOUCHMARK_TEST_RUN=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewScanner(stdout)
	answers.Buffer(nil, 1<<20)
	next := func() (e sessionEvent) {
		t.Helper()
		if !answers.Scan() {
			t.Fatalf("no answer: %v", answers.Err())
		}
		if err := json.Unmarshal(answers.Bytes(), &e); err != nil {
			t.Fatalf("%v in %s", err, answers.Bytes())
		}
		return e
	}
	say := func(line string) sessionEvent {
		t.Helper()
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
		return next()
	}
	if e := say("A-000000"); e.Verdict == nil || e.Verdict.Verdict != vetting.Admitted || e.Verdict.Certificate == "" || e.Unit != "A-000000" {
		t.Errorf("%+v", e)
	}
	if e := say("pass"); e.Test == nil || e.Test.Next != api.NextNone {
		t.Errorf("%+v", e)
	}
	w.admin(t, "order", "pause", "PO-1").want(t, 0)
	if e := say("A-000001"); e.Verdict == nil || e.Verdict.Verdict != vetting.Held {
		t.Errorf("%+v", e)
	}
	w.admin(t, "order", "open", "PO-1").want(t, 0)
	if e := say("again"); e.Verdict == nil || e.Verdict.Verdict != vetting.Admitted {
		t.Errorf("%+v", e)
	}
	if e := say("A-000007"); !strings.Contains(e.Error, "the request of unit A-000007") {
		t.Errorf("%+v", e)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	want := sessionTally{Units: 3, Admitted: 2, Held: 1, Passed: 1, Errors: 1}
	if e := next(); e.Summary == nil || *e.Summary != want {
		t.Errorf("%+v", e.Summary)
	}
	if answers.Scan() {
		t.Errorf("more was said: %s", answers.Bytes())
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitFailed {
		t.Errorf("it ended with %v", err)
	}
}

// What cannot be used is said before the first unit.
func TestRigRunUsage(t *testing.T) {
	_, rig := rigWorld(t, 1)
	rig("run").want(t, exitUsage, "csr-dir")
	rig("run", "--csr-dir", "a", "--csr-command", "b").want(t, exitUsage, "csr-command")
	rig("run", "--csr-dir", "a").want(t, 0, "0 units scanned")
	touchmarkReads(t, strings.Repeat("x", 2*maxLine), "--dir", filepath.Join(t.TempDir(), "none"), "rig", "run", "--csr-dir", "a").want(t, exitUsage, "cli.yaml")
}
