package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/device/atomicfile"
)

// What an agent may be at.
const (
	StateEnrolling = "enrolling" // no certificate yet
	StateHeld      = "held"      // no certificate yet: a person must decide, or a condition come true
	StateRefused   = "refused"   // the server said no; the problem says why
	StateActive    = "active"    // the certificate counts
	StateExpired   = "expired"   // the certificate ended
	StateRevoked   = "revoked"   // the server said so
	StateWaiting   = "waiting"   // the machine is not ready: its clock, its disk
)

// Status is what an agent is at, in its state file and in `status --json`.
type Status struct {
	State string    `json:"state"`
	Since time.Time `json:"since"`
	// Running is the agent's process, 0 if none runs.
	Running int    `json:"running"`
	Serial  string `json:"serial"`
	Server  string `json:"server"`
	Keys    string `json:"keys"`
	// Certificate is the official one.
	Certificate *Certificate `json:"certificate,omitempty"`
	// Renew is when it will be renewed.
	Renew *time.Time `json:"renew,omitempty"`
	// Step is what failed last, Problem why, and Retry when it is tried again.
	Step    string     `json:"step,omitempty"`
	Problem string     `json:"problem,omitempty"`
	Retry   *time.Time `json:"retry,omitempty"`
	// Failures is how often in a row.
	Failures int `json:"failures"`
	// Listening is true while notices of the server arrive, over MQTT.
	Listening bool `json:"listening"`
	// Delivered names what the files and the hook were last given.
	Delivered string `json:"delivered,omitempty"`
}

// Certificate is the official certificate in short.
type Certificate struct {
	Number    string    `json:"number"` // the serial number in hexadecimal
	Key       string    `json:"key"`    // the key's fingerprint, as in a record
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

const statusFile = "status.json"

// ReadStatus reads the status of the agent in a directory.
func ReadStatus(dir string) (*Status, error) {
	b, err := os.ReadFile(filepath.Join(dir, statusFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no agent has worked in %s yet", dir)
	}
	if err != nil {
		return nil, err
	}
	var s Status
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, statusFile), err)
	}
	s.Running = Holder(dir)
	s.Listening = s.Listening && s.Running > 0
	return &s, nil
}

func (s *Status) write(dir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	look := atomicfile.Private
	look.Mode = 0o644
	return atomicfile.Write(filepath.Join(dir, statusFile), append(b, '\n'), look)
}

// take brings an attempt into the status.
func (s *Status) take(t device.Attempt, now time.Time) {
	if t.Credential.Leaf() != nil {
		s.Certificate = short(t.Credential)
	}
	state := s.after(t, now)
	if state != s.State {
		s.State, s.Since = state, now.UTC()
	}
	switch {
	case t.Err != nil:
		if s.Step == t.Step {
			s.Failures++
		} else {
			s.Failures = 1
		}
		s.Step, s.Problem, s.Retry = t.Step, t.Err.Error(), when(t.Next)
	case t.Step == s.Step, t.Step == device.StepActivate:
		s.Step, s.Problem, s.Retry, s.Failures = "", "", nil, 0
	}
	if t.Step == device.StepWait {
		s.Renew = when(t.Next)
	}
}

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

func short(c *device.Credential) *Certificate {
	leaf := c.Leaf()
	key, err := device.Fingerprint(leaf.PublicKey)
	if err != nil {
		key = "" // it was parsed, so it has one
	}
	return &Certificate{Number: fmt.Sprintf("%x", leaf.SerialNumber.Bytes()), Key: key, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
}

// after is the state that an attempt leaves.
func (s *Status) after(t device.Attempt, now time.Time) string {
	var held *device.PendingError
	var refused *device.StatusError
	var unready *device.NotReadyError
	switch {
	case errors.Is(t.Err, device.ErrRevoked):
		return StateRevoked
	case errors.As(t.Err, &unready):
		return StateWaiting
	case errors.As(t.Err, &refused) && refused.Final():
		return StateRefused
	case s.Certificate == nil && errors.As(t.Err, &held):
		return StateHeld
	case s.Certificate == nil:
		return StateEnrolling
	case now.After(s.Certificate.NotAfter):
		return StateExpired
	}
	return StateActive
}

// Good reports whether the machine has a certificate that counts.
func (s *Status) Good(now time.Time) bool {
	bad := s.State == StateRevoked || s.Certificate == nil
	return !bad && !now.Before(s.Certificate.NotBefore) && now.Before(s.Certificate.NotAfter)
}
