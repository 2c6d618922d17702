package soak

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a `touchmark serve` that can be ended and started again; its
// addresses stay.
type process struct {
	program, dir  string
	est, api, ops string // with scheme
	log           string // a file
	file          string // SQLite's database; empty with another
	mu            sync.Mutex
	running       *exec.Cmd
	life          int // how often it was started
	since         time.Time
}

// install makes the Touchmark that the process will serve.
func install(ctx context.Context, program, dir, database string) (*process, error) {
	p := &process{program: program, dir: dir, log: dir + ".log"}
	if file, ok := strings.CutPrefix(database, "sqlite:"); ok {
		p.file = filepath.Join(dir, file)
		if filepath.IsAbs(file) {
			p.file = file
		}
	}
	listen := make([]string, 4)
	for i := range listen {
		var err error
		if listen[i], err = freeAddress(); err != nil {
			return nil, err
		}
	}
	p.est, p.api, p.ops = "https://"+listen[0], "https://"+listen[1], "http://"+listen[2]
	out, err := exec.CommandContext(ctx, program, "init", dir, "--name", "Soak", "--ip", "127.0.0.1", "--database", database,
		"--est", listen[0], "--mqtt", "127.0.0.1:0", "--api", listen[1], "--ops", listen[2], "--status", listen[3]).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("touchmark init: %w: %s", err, out)
	}
	return p, nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// command is a call of the program on the data directory.
func (p *process) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, p.program, append(args, "--dir", p.dir)...)
}

// startTime is how long a start may take.
const startTime = time.Minute

// start returns when the server says that it is ready.
func (p *process) start(ctx context.Context) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := p.command(context.WithoutCancel(ctx), "serve")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return err
	}
	p.mu.Lock()
	p.running, p.since = cmd, time.Now()
	p.life++
	p.mu.Unlock()
	return p.ready(ctx)
}

func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		if err := p.get(ctx, "/readyz", nil); err == nil {
			return nil
		} else if ctx.Err() != nil {
			return fmt.Errorf("the server is not ready %s after its start (its log is %s): %w", startTime, p.log, err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
}

// get asks the supervision's door.
func (p *process) get(ctx context.Context, path string, body *bytes.Buffer) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.ops+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	if body == nil {
		return nil
	}
	_, err = body.ReadFrom(response.Body)
	return err
}

// take returns the running process and makes it the caller's to end.
func (p *process) take() *exec.Cmd {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := p.running
	p.running = nil
	return cmd
}

// stop ends the process in order.
func (p *process) stop() error {
	cmd := p.take()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("the server did not stop in order (its log is %s): %w", p.log, err)
	}
	return nil
}

// kill ends it as a power cut does.
func (p *process) kill() error {
	cmd := p.take()
	if cmd == nil {
		return nil
	}
	err := cmd.Process.Kill()
	_ = cmd.Wait() // it says that it was killed
	return err
}

// now tells which process runs, and since when. pid is 0 if none does.
func (p *process) now() (pid, life int, since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return 0, p.life, p.since
	}
	return p.running.Process.Pid, p.life, p.since
}

// logged returns what the server itself thought was wrong.
func (p *process) logged() error {
	log, err := os.Open(p.log)
	if err != nil {
		return err
	}
	defer log.Close()
	var errs []error
	wrong := 0
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry struct{ Level string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Level != "ERROR" {
			continue
		}
		if wrong++; wrong <= maxTold {
			errs = append(errs, fmt.Errorf("the server's log: %s", lines.Text()))
		}
	}
	if wrong > maxTold {
		errs = append(errs, fmt.Errorf("and %d more lines of the server's log, %s", wrong-maxTold, p.log))
	}
	return errors.Join(append(errs, lines.Err())...)
}

// maxTold is how many findings of a kind are told one by one.
const maxTold = 10
