// Package redistest runs a Redis for tests, in a process of its own.
package redistest

import (
	"bufio"
	"net"
	"os/exec"
	"strings"
	"testing"
)

// Redis is a server that keeps its address over restarts.
type Redis struct {
	t       testing.TB
	port    string
	options []string
	process *exec.Cmd
}

// Start runs a Redis until the test ends. Options are those of redis-server,
// as on its command line.
func Start(t testing.TB, options ...string) *Redis {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	r := &Redis{t: t, port: port, options: append([]string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", t.TempDir()}, options...)}
	r.Restart()
	t.Cleanup(r.Stop)
	return r
}

// Addr is its address.
func (r *Redis) Addr() string { return "127.0.0.1:" + r.port }

// Restart starts it after Stop, and returns when it answers.
func (r *Redis) Restart() {
	r.t.Helper()
	cmd := exec.Command("redis-server", r.options...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		r.t.Fatalf("redis-server: %v: run deploy/install-test-deps.sh", err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Ready to accept connections") {
			r.process = cmd
			go func() {
				for lines.Scan() { // lest it waits for a reader
				}
			}()
			return
		}
	}
	_ = cmd.Wait()
	r.t.Fatalf("redis-server did not start with %q", r.options)
}

// Stop ends it at once, and with it every connection.
func (r *Redis) Stop() {
	if r.process != nil {
		_ = r.process.Process.Kill()
		_ = r.process.Wait()
		r.process = nil
	}
}
