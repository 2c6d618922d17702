// Package redistest runs a Redis for tests, in a process of its own.
package redistest

import (
	"bufio"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
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
	return start(t, "--port", options)
}

// StartTLS does the same with a Redis that speaks TLS only, with a certificate
// for 127.0.0.1 that its clients must trust: it is in the PEM file ca.
func StartTLS(t testing.TB, options ...string) (r *Redis, ca string) {
	t.Helper()
	ca, key := certificate(t)
	return start(t, "--tls-port", append([]string{"--port", "0", "--tls-cert-file", ca, "--tls-key-file", key, "--tls-ca-cert-file", ca, "--tls-auth-clients", "no"}, options...)), ca
}

func start(t testing.TB, portOption string, options []string) *Redis {
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
	r := &Redis{t: t, port: port, options: append([]string{"--bind", "127.0.0.1", portOption, port, "--save", "", "--dir", t.TempDir()}, options...)}
	r.Restart()
	t.Cleanup(r.Stop)
	return r
}

// Addr is its address.
func (r *Redis) Addr() string { return "127.0.0.1:" + r.port }

// Client speaks with it as anybody could, until the test ends.
func (r *Redis) Client() *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: r.Addr()})
	r.t.Cleanup(func() { c.Close() })
	return c
}

// Shuffle puts the value of each entry in place of another's, and reports how
// many there are.
func (r *Redis) Shuffle() int {
	r.t.Helper()
	c, ctx := r.Client(), r.t.Context()
	names, err := c.Keys(ctx, "*").Result()
	if err != nil || len(names) == 0 {
		r.t.Fatalf("entries %q, %v", names, err)
	}
	values, err := c.MGet(ctx, append(names[1:len(names):len(names)], names[0])...).Result()
	for i, name := range names {
		if err == nil {
			err = c.Set(ctx, name, values[i], redis.KeepTTL).Err()
		}
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return len(names)
}

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
