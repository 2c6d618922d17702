package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/touchmark/touchmark/device/agent"
)

// What the agent of a Linux machine may take.
const (
	agentProgram = 15e6 // bytes on the disk
	agentMemory  = 25e6 // bytes resident
)

// agents measures how large the agent is: the program as it ships, and what is
// resident of it after a first enrolment and three renewals.
func (b *bench) agents(ctx context.Context, db string, t *table) error {
	program := row{name: "the agent's program, bytes, " + db, limit: "15 MB over it", wanted: 1}
	memory := row{name: "the agent's memory, bytes, " + db, limit: "25 MB over it", wanted: 1}
	for range b.runs {
		size, resident, err := b.measureAgent(ctx, db)
		if err != nil {
			return err
		}
		program.figure, program.base = append(program.figure, agentProgram), append(program.base, size)
		memory.figure, memory.base = append(memory.figure, agentMemory), append(memory.base, resident)
	}
	t.rows = append(t.rows, program, memory)
	return nil
}

func (b *bench) measureAgent(ctx context.Context, db string) (size, resident float64, err error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	w, drop, err := b.world(ctx, db, filepath.Join(dir, "touchmark"), 1)
	if err != nil {
		return 0, 0, err
	}
	defer drop()
	m := &agentMachine{dir: dir, program: filepath.Join(dir, "touchmark-agent")}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", m.program, "./cmd/touchmark-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, 0, fmt.Errorf("build the agent: %w: %s", err, out)
	}
	info, err := os.Stat(m.program)
	if err != nil {
		return 0, 0, err
	}
	if err := m.admit(ctx, w); err != nil {
		return 0, 0, err
	}
	resident, err = m.live(ctx)
	return float64(info.Size()), resident, err
}

// agentMachine is a machine with an agent.
type agentMachine struct{ dir, program string }

func (m *agentMachine) command(ctx context.Context, verb string) *exec.Cmd {
	return exec.CommandContext(ctx, m.program, verb, "--config", filepath.Join(m.dir, "agent.yaml"))
}

// admit has the machine made known to the server.
func (m *agentMachine) admit(ctx context.Context, w *world) error {
	config := fmt.Sprintf("serial: GW-1\nserver: %s\nroot: %s\ndir: state\nrekey: true\n", w.est, filepath.Join(w.dir, "ca", "root.crt"))
	if err := os.WriteFile(filepath.Join(m.dir, "agent.yaml"), []byte(config), 0o600); err != nil {
		return err
	}
	record, err := m.command(ctx, "bootstrap").Output()
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	lin, err := w.admin.Hire(ctx, "lin", "site-operator", "hsinchu")
	if err != nil {
		return err
	}
	defer lin.Close()
	_, err = lin.HandIn(ctx, "po-1", record)
	return err
}

// live runs the agent through an enrolment and three renewals, and tells what is
// resident of it then.
func (m *agentMachine) live(ctx context.Context) (float64, error) {
	run := m.command(ctx, "run")
	var log strings.Builder
	run.Stderr = &log
	if err := run.Start(); err != nil {
		return 0, err
	}
	defer func() { _ = run.Process.Kill(); _ = run.Wait() }()
	number := ""
	for renewals := 0; ; renewals++ {
		next, err := m.after(ctx, number)
		if err != nil {
			return 0, fmt.Errorf("%w: %s", err, log.String())
		}
		if number = next; renewals == 3 {
			break
		}
		if out, err := m.command(ctx, "renew").CombinedOutput(); err != nil {
			return 0, fmt.Errorf("renew: %w: %s", err, out)
		}
	}
	resident := figure(fmt.Sprintf("/proc/%d/status", run.Process.Pid), "VmRSS") << 10
	if resident == 0 {
		return 0, errors.New("the system does not tell what is resident of a process")
	}
	return float64(resident), nil
}

// after waits until the agent works with another certificate.
func (m *agentMachine) after(ctx context.Context, number string) (string, error) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		s, err := agent.ReadStatus(filepath.Join(m.dir, "state"))
		if err == nil && s.State == agent.StateActive && s.Certificate.Number != number {
			return s.Certificate.Number, ctx.Err()
		}
	}
	return "", errors.New("the agent gets no certificate")
}
