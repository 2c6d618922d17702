package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device/agent"
	"github.com/touchmark/touchmark/internal/swtpm"
	"github.com/touchmark/touchmark/vetting"
)

// TestAgentOnTPM has the real agent, its key in a TPM, live through its first
// enrolment and three renewals. In the middle of each the machine loses power,
// again and again: before the server has the request, or before the agent has
// the answer. Then the certificate is revoked.
func TestAgentOnTPM(t *testing.T) {
	i := install(t, "sqlite:touchmark.db")
	i.start()
	m := newMachine(t, i, buildAgent(t), overEST, strings.TrimPrefix(i.est, "https://"))
	i.manifest(2, []byte(m.must("bootstrap")), 1, "bootstrap-key")
	m.interrupted("once", []cut{{1, asked}, {1, answered}, {2, answered}, {3, asked}})
	number := m.active()
	// Of a renewal's connections the first uses the certificate that is there,
	// the second asks for another.
	for _, c := range []cut{{2, asked}, {2, answered}, {4, answered}} {
		m.interrupted("renew", []cut{c})
		m.must("renew")
		if now := m.active(); now == number {
			t.Errorf("after a cut at %+v the certificate is the same", c)
		} else {
			number = now
		}
	}
	m.revoked()
	i.stop()
	m.check()
}

// How an agent's configuration names a server.
const (
	overEST  = "server: https://"
	overMQTT = "mqtt: "
)

// TestAgentOverMQTT has the agent enrol over MQTT with a line that breaks. While
// it runs it hears that its certificate was revoked, and lets it rest.
func TestAgentOverMQTT(t *testing.T) {
	i := install(t, "sqlite:touchmark.db")
	door := i.overMQTT()
	i.start()
	m := newMachine(t, i, buildAgent(t), overMQTT, door)
	i.manifest(2, []byte(m.must("bootstrap")), 1, "bootstrap-key")
	m.interrupted("once", []cut{{1, asked}, {2, asked}})
	number := m.active()
	if m.must("renew"); m.active() == number {
		t.Error("after a renewal the certificate is the same")
	}
	m.hears()
	i.stop()
	m.check()
}

func buildAgent(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "touchmark-agent")
	build := exec.Command("go", "build", "-o", program, "../cmd/touchmark-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// machine is a Linux machine with a TPM, which reaches the server through a
// line that can be cut.
type machine struct {
	t       *testing.T
	server  *installation
	program string
	dir     string
	tpm     *swtpm.TPM
	line    *line
	powers  int
}

// newMachine makes one that reaches the server at address, by the setting door.
func newMachine(t *testing.T, i *installation, program, door, address string, more ...string) *machine {
	t.Helper()
	m := &machine{t: t, server: i, program: program, dir: t.TempDir(), tpm: swtpm.New(t), line: newLine(t, address)}
	lines := append([]string{"serial: GW-1", door + m.line.address(), "root: " + filepath.Join(i.dir, "ca", "root.crt"),
		"dir: state", "keys: tpmkms:device=" + m.tpm.Socket, "rekey: true"}, more...)
	if err := os.WriteFile(m.config(), []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) config() string { return filepath.Join(m.dir, "agent.yaml") }

func (m *machine) command(verb string, more ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	var out, complaints bytes.Buffer
	cmd := exec.Command(m.program, append([]string{verb, "--config", m.config()}, more...)...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	return cmd, &out, &complaints
}

func (m *machine) must(verb string) string {
	m.t.Helper()
	cmd, out, complaints := m.command(verb)
	if err := cmd.Run(); err != nil {
		m.t.Fatalf("%s: %v: %s", verb, err, complaints)
	}
	return out.String()
}

// interrupted runs the agent once for each cut, and kills it there and
// restarts the TPM; then it lets it finish.
func (m *machine) interrupted(verb string, cuts []cut) {
	m.t.Helper()
	for _, c := range cuts {
		reached := m.line.cutAt(c)
		cmd, _, complaints := m.command(verb)
		if err := cmd.Start(); err != nil {
			m.t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-reached:
			_ = cmd.Process.Kill()
			<-ended
		case err := <-ended:
			m.t.Fatalf("%s ended before the cut at %+v: %v: %s", verb, c, err, complaints)
		}
		m.restart()
		m.line.mend()
	}
	m.must("once")
}

// restart restarts the TPM, in order and by the plug in turn.
func (m *machine) restart() {
	m.t.Helper()
	restart := m.tpm.Reboot
	if m.powers++; m.powers%2 == 0 {
		restart = m.tpm.PowerCycle
	}
	if err := restart(); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) status() (s agent.Status) {
	m.t.Helper()
	cmd, out, _ := m.command("status", "--json")
	_ = cmd.Run() // fails where there is no good certificate
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		m.t.Fatalf("status: %v: %s", err, out)
	}
	return s
}

// active demands a certificate that the server counts, too, and returns its
// number.
func (m *machine) active() string {
	m.t.Helper()
	s := m.status()
	if s.State != agent.StateActive || s.Certificate == nil || s.Problem != "" {
		m.t.Fatalf("the status is %+v", s)
	}
	d := m.known()
	if d.State != "active" || d.Certificate != s.Certificate.Number {
		m.t.Errorf("the server knows the device as %s with certificate %s, the agent has %s", d.State, d.Certificate, s.Certificate.Number)
	}
	return s.Certificate.Number
}

// known is the device as the server knows it.
type known struct {
	ID                 int64
	State, Certificate string
}

func (m *machine) known() known {
	m.t.Helper()
	var list struct{ Items []known }
	m.do("GET", "/devices?serial=GW-1", nil, &list)
	if len(list.Items) != 1 {
		m.t.Fatalf("the server knows %d devices GW-1", len(list.Items))
	}
	return list.Items[0]
}

func (m *machine) do(method, path string, in, out any) {
	m.t.Helper()
	if err := m.server.admin().Do(m.t.Context(), method, path, in, out); err != nil {
		m.t.Fatal(err)
	}
}

// attestedOnly has the product certify only keys that a TPM attested.
func (m *machine) attestedOnly() {
	m.t.Helper()
	type object = map[string]any
	var p struct{ Revision int64 }
	m.do("GET", "/products/thermo", nil, &p)
	m.do("PUT", "/products/thermo", object{"profile": object{"validity": "825d"}, "proofs": []string{"tpm"}, "tpm": object{"attested": true}, "revision": p.Revision}, nil)
}

// revoked has the device's certificate revoked; the agent finds out.
func (m *machine) revoked() {
	m.t.Helper()
	m.do("POST", fmt.Sprintf("/devices/%d/revoke", m.known().ID), map[string]any{"reason": "keyCompromise", "note": "stolen"}, nil)
	cmd, _, complaints := m.command("renew")
	if err := cmd.Run(); err == nil || !strings.Contains(complaints.String(), "revoked") {
		m.t.Errorf("renewing after the revocation: %v: %s", err, complaints)
	}
	if s := m.status(); s.State != agent.StateRefused || !strings.Contains(s.Problem, "revoked") {
		m.t.Errorf("after the revocation the status is %+v", s)
	}
}

// hears has the certificate revoked while the agent runs.
func (m *machine) hears() {
	m.t.Helper()
	cmd, _, complaints := m.command("run")
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	m.until(complaints, func(s agent.Status) bool { return s.Listening })
	body := map[string]any{"reason": "keyCompromise", "note": "stolen"}
	m.do("POST", fmt.Sprintf("/devices/%d/revoke", m.known().ID), body, nil)
	m.until(complaints, func(s agent.Status) bool { return s.State == agent.StateRevoked })
}

// until waits until the status is so.
func (m *machine) until(complaints *bytes.Buffer, so func(agent.Status) bool) {
	m.t.Helper()
	deadline := time.After(time.Minute) // only an agent that never comes to it meets it
	for s := m.status(); !so(s); s = m.status() {
		select {
		case <-deadline:
			m.t.Fatalf("the status is %+v: %s", s, complaints)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// check demands one device, one unit of the order, and no private key outside
// of the TPM.
func (m *machine) check() {
	m.t.Helper()
	s, devices := m.server.store(), 0
	eachDevice(m.t, s, func(d *vetting.Device) { devices++ })
	o, err := s.Order(m.t.Context(), "po-1")
	if err != nil || o.Issued != 1 || devices != 1 {
		m.t.Errorf("%d devices, order %+v: %v", devices, o, err)
	}
	verifyLog(m.t, s)
	found := 0
	err = filepath.WalkDir(m.dir, func(file string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		if bytes.Contains(text, []byte("BEGIN PRIVATE KEY")) || bytes.Contains(text, []byte("BEGIN EC PRIVATE KEY")) {
			return fmt.Errorf("%s holds a private key", file)
		}
		found += bytes.Count(text, []byte("BEGIN TSS2 PRIVATE KEY"))
		return err
	})
	if err != nil || found == 0 {
		m.t.Errorf("%d keys of the TPM: %v", found, err)
	}
}

// TestAgentProvedByTPM has the agent prove itself by its TPM, of which the
// record lists the endorsement key, over EST's listener and over MQTT, with a
// line that breaks and a TPM that restarts in the exchange.
func TestAgentProvedByTPM(t *testing.T) {
	program := buildAgent(t)
	for door, cuts := range map[string][]cut{
		overEST:  {{1, asked}, {1, answered}, {2, asked}, {2, answered}, {3, asked}},
		overMQTT: {{1, asked}, {2, asked}, {3, asked}},
	} {
		t.Run(strings.Fields(door)[0], func(t *testing.T) {
			i := install(t, "sqlite:touchmark.db")
			address := i.overMQTT()
			if door == overEST {
				address = strings.TrimPrefix(i.est, "https://")
			}
			i.start()
			m := newMachine(t, i, program, door, address, "proof: tpm")
			record := m.must("bootstrap")
			if !strings.Contains(record, `"ekHash":"`) || strings.Contains(record, "bootstrapKey") {
				t.Errorf("the manifest's line is %s", record)
			}
			i.manifest(2, []byte(record), 1, "tpm")
			m.interrupted("once", cuts)
			number := m.active()
			if door == overEST { // where its TPM attests the new key, too
				m.attestedOnly()
				m.interrupted("renew", []cut{{3, answered}})
			}
			m.must("renew")
			if m.active() == number {
				t.Error("after a renewal the certificate is the same")
			}
			i.stop()
			m.check()
		})
	}
}
