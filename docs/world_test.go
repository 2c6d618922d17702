package docs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// bin is where TestMain put the programs.
var bin string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "touchmark-docs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir, "../cmd/touchmark", "../cmd/touchmark-agent", "../cmd/devicesim")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
		return 1
	}
	bin = dir
	return m.Run()
}

// world is one running server, and the directory that `touchmark init` made
// for it.
type world struct {
	t             *testing.T // the test that made it, for as long as it lives
	dir           string
	est, api, ops string // addresses, with scheme
	mqtt          string // host:port
	stop          func() // ends the server in order
}

// newWorld makes a Touchmark on a database and serves it until the test
// ends.
func newWorld(t *testing.T, database string) *world {
	t.Helper()
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "data")}
	must(t, bin+"/touchmark", "init", w.dir, "--name", "Test Works", "--database", database,
		"--est", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0", "--status", "127.0.0.1:0", "--ops", "127.0.0.1:0")
	w.serve()
	return w
}

// serve starts the server and waits until it says where it listens.
func (w *world) serve() {
	t := w.t
	t.Helper()
	cmd := exec.Command(bin+"/touchmark", "serve", "--dir", w.dir)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(log)
	addresses, told := serving(lines)
	rest := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(lines) // ends with the process
		rest <- b
	}()
	w.stop = sync.OnceFunc(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("stop the server: %v", err)
		}
		told = append(told, <-rest...)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server did not stop in order: %v", err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", told)
		}
	})
	t.Cleanup(w.stop)
	if addresses == nil {
		t.Fatal("the server did not start")
	}
	w.mqtt = addresses["mqtt"]
	w.est, w.api, w.ops = "https://"+addresses["est"], "https://"+addresses["api"], "http://"+addresses["ops"]
}

// serving reads the log up to the line that tells the addresses.
func serving(log *bufio.Reader) (addresses map[string]string, told []byte) {
	for {
		line, err := log.ReadBytes('\n')
		told = append(told, line...)
		if err != nil {
			return nil, told
		}
		var entry struct {
			Msg       string
			Addresses map[string]string
		}
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "serving" {
			return entry.Addresses, told
		}
	}
}

// cli runs touchmark as the operator of a directory and returns what it
// prints.
func (w *world) cli(t *testing.T, args ...string) string {
	t.Helper()
	return w.as(t, w.dir, args...)
}

func (w *world) as(t *testing.T, dir string, args ...string) string {
	t.Helper()
	return must(t, bin+"/touchmark", append([]string{"--dir", dir, "--server", w.api}, args...)...)
}

// root is the root certificate's file.
func (w *world) root() string { return filepath.Join(w.dir, "ca", "root.crt") }

// must runs a command that has to succeed and returns its standard output.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, errors, code := outcome(t, name, args...)
	if code != 0 {
		t.Fatalf("%s %s: exit status %d\n%s%s", filepath.Base(name), strings.Join(args, " "), code, out, errors)
	}
	return out
}

// outcome runs a command and returns what it printed and its exit status.
func outcome(t *testing.T, name string, args ...string) (out, errors string, code int) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatalf("run %s: %v", name, err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// field reads one value of a JSON object.
func field[T any](t *testing.T, text, name string) (value T) {
	t.Helper()
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatalf("not a JSON object: %v\n%s", err, text)
	}
	if err := json.Unmarshal(object[name], &value); err != nil {
		t.Fatalf("field %s: %v\n%s", name, err, text)
	}
	return value
}

// write makes a file in a temporary directory.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
