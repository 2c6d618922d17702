package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// fences finds the blocks of shell commands in Markdown.
var fences = regexp.MustCompile("(?ms)^```sh\n(.*?)^```")

// pages are the Markdown pages with shell commands.
func pages(t *testing.T) []string {
	t.Helper()
	guides, err := filepath.Glob("guides/*.md")
	if err != nil || len(guides) == 0 {
		t.Fatalf("no guides: %v", err)
	}
	return append(guides, "../README.md")
}

// blocks are a page's shell commands.
func blocks(t *testing.T, page string) (found []string) {
	t.Helper()
	for _, m := range fences.FindAllStringSubmatch(read(t, page), -1) {
		found = append(found, m[1])
	}
	return found
}

// shim makes a directory with programs that run a line of bash, for PATH.
func shim(t *testing.T, programs map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, line := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/usr/bin/env bash\n"+line+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// script runs bash in a directory, with programs of that name found first.
func script(t *testing.T, dir, path, text string, env ...string) (out string, err error) {
	t.Helper()
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", text)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"))
	cmd.Env = append(cmd.Env, env...)
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// TestDocumentedCommands asks the programs for the help of each command in
// the guides, with the flags that the guides give it: a command or a flag
// that does not exist fails.
func TestDocumentedCommands(t *testing.T) {
	path := shim(t, map[string]string{
		"touchmark":        `exec "` + bin + `/touchmark" "$@" --help`,
		"touchmark-pkcs11": `exec "` + bin + `/touchmark" "$@" --help`,
		"touchmark-agent":  `exec "` + bin + `/touchmark-agent" "$@" --help`,
		"devicesim":        `exec "` + bin + `/devicesim" "$@" --help`,
	})
	for _, page := range pages(t) {
		for _, block := range blocks(t, page) {
			for line := range strings.Lines(block) {
				if !strings.HasPrefix(line, "touchmark") && !strings.HasPrefix(line, "devicesim") {
					continue
				}
				out, err := script(t, t.TempDir(), path, line)
				if err != nil || !strings.Contains(out, "\nUsage:\n") || strings.Contains(out, "[command]") {
					t.Errorf("%s: %s%v\n%s", page, line, err, out)
				}
			}
		}
	}
}

// TestFirstSteps does what the README says to do first, word for word but
// for the ports.
func TestFirstSteps(t *testing.T) {
	w := newWorld(t, "sqlite:touchmark.db")
	dir := t.TempDir()
	if err := os.Symlink(w.dir, filepath.Join(dir, "tm")); err != nil {
		t.Fatal(err)
	}
	path := shim(t, map[string]string{
		"touchmark": `exec "` + bin + `/touchmark" "$@"`,
		"devicesim": `[[ $1 != fleet ]] || set -- "$@" --est "` + w.est + `"; exec "` + bin + `/devicesim" "$@"`,
	})
	steps := ""
	for _, block := range blocks(t, "../README.md") {
		if strings.Contains(block, "TOUCHMARK_DIR") {
			steps = block
		}
	}
	out, err := script(t, dir, path, steps, "TOUCHMARK_SERVER="+w.api)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"admitted 8, held 0, refused 2, failed 0", "nothing is wrong"} {
		if !strings.Contains(out, want) {
			t.Errorf("the first steps did not say %q:\n%s", want, out)
		}
	}
	order := w.cli(t, "order", "show", "PO-1001", "--json")
	if field[int](t, order, "issued") != 8 {
		t.Errorf("the order was not filled: %s", order)
	}
}

// TestDemoScript runs what `make demo` runs, on a small order, and looks
// that it cleans up.
func TestDemoScript(t *testing.T) {
	dir := t.TempDir()
	out, err := script(t, "..", dir, "deploy/demo.sh --quantity 12", "BIN="+bin, "TMPDIR="+dir)
	if err != nil || !strings.Contains(out, "All came out right") || !strings.Contains(out, "GW-000001") || !strings.Contains(out, "nothing is wrong") {
		t.Errorf("%v\n%s", err, out)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("the demo left %v behind (%v)", left, err)
	}
}
