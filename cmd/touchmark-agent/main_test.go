package main

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/device/agent"
	"github.com/touchmark/touchmark/device/devicetest"
)

// program is the agent, built as it ships.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "agent")
	if err == nil {
		program = filepath.Join(dir, "touchmark-agent")
		build := exec.Command("go", "build", "-tags", tags, "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", program, ".")
		build.Env = append(os.Environ(), cgo)
		build.Stderr = os.Stderr
		err = build.Run()
	}
	code := 1
	if err == nil {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// TestSize watches what small machines have to carry.
func TestSize(t *testing.T) {
	const most = 15_000_000
	info, err := os.Stat(program)
	if err != nil || info.Size() > most {
		t.Errorf("the agent has %d bytes, more than %d (%v)", info.Size(), most, err)
	}
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the agent is linked dynamically")
		}
	}
}

// machine is a directory with an agent's configuration.
type machine struct {
	t    *testing.T
	dir  string
	file string
}

// newMachine makes one whose server is s. more are lines of the configuration.
func newMachine(t *testing.T, s *devicetest.Server, more ...string) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir()}
	m.file = filepath.Join(m.dir, "agent.yaml")
	m.write("root.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Root.Raw})))
	lines := append([]string{"serial: SN-1", "server: " + s.URL, "root: root.crt", "dir: state"}, more...)
	m.write("agent.yaml", strings.Join(lines, "\n")+"\n")
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(m.path(name), []byte(text), 0o700); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(name string) string {
	m.t.Helper()
	b, err := os.ReadFile(m.path(name))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

func (m *machine) command(args ...string) *exec.Cmd {
	return exec.Command(program, append(args, "--config", m.file)...)
}

// agent runs the agent and returns what it printed.
func (m *machine) agent(args ...string) (out, complaint string, err error) {
	var o, e bytes.Buffer
	cmd := m.command(args...)
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return o.String(), e.String(), err
}

func (m *machine) must(args ...string) string {
	m.t.Helper()
	out, complaint, err := m.agent(args...)
	if err != nil {
		m.t.Fatalf("%v: %v\n%s", args, err, complaint)
	}
	return out
}

func (m *machine) status() (s agent.Status) {
	m.t.Helper()
	out, _, _ := m.agent("status", "--json") // which fails where there is no certificate
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		m.t.Fatalf("status: %v: %s", err, out)
	}
	return s
}

// fails runs the agent, which must fail and say so.
func (m *machine) fails(say string, args ...string) {
	m.t.Helper()
	if out, complaint, err := m.agent(args...); err == nil || !strings.Contains(complaint, say) {
		m.t.Errorf("%v: %v, and did not say %q:\n%s%s", args, err, say, out, complaint)
	}
}
