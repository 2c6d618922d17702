package mqtttest

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Mosquitto is a broker of Debian's that can be restarted. It trusts
// everybody with everything: no security rests on it.
type Mosquitto struct {
	Address string // HOST:PORT
	config  string
	process *exec.Cmd
}

// StartMosquitto starts a broker on a free port, whose files are in a
// directory, with further lines of its configuration.
func StartMosquitto(dir string, settings ...string) (*Mosquitto, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &Mosquitto{Address: l.Addr().String(), config: filepath.Join(dir, "mosquitto.conf")}
	l.Close()
	_, port, _ := net.SplitHostPort(m.Address)
	lines := append([]string{"listener " + port + " 127.0.0.1", "allow_anonymous true"}, settings...)
	if os.Geteuid() == 0 {
		lines = append(lines, "user root") // else it becomes a user who cannot write here
	}
	if err := os.WriteFile(m.config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	return m, m.Start()
}

// StartPersistent is StartMosquitto of a broker whose sessions outlive it.
func StartPersistent(dir string) (*Mosquitto, error) {
	return StartMosquitto(dir, "persistence true", "persistence_location "+dir+"/", "max_queued_messages 10000")
}

// Start starts a broker that was stopped, and returns when it listens.
func (m *Mosquitto) Start() error {
	program := "mosquitto"
	if _, err := exec.LookPath(program); err != nil {
		program = "/usr/sbin/mosquitto" // which is not on everybody's path
	}
	m.process = exec.Command(program, "-c", m.config)
	if err := m.process.Start(); err != nil {
		return err
	}
	for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", m.Address); err == nil {
			return c.Close()
		}
	}
	m.Stop()
	return errors.New("mosquitto does not listen")
}

// Stop ends the broker in order.
func (m *Mosquitto) Stop() {
	_ = m.process.Process.Signal(syscall.SIGTERM)
	_ = m.process.Wait()
}
