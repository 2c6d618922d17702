package agent

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/device/keyuri"
)

// Service is one agent at work in its directory.
type Service struct {
	config *Config
	log    *slog.Logger
	store  *keyuri.Store
	device *device.Device
	agent  *device.Agent

	manager  systemd
	pulse    pulse
	listener listener

	mu     sync.Mutex // of what follows
	status Status
}

// Open opens the key store and what the agent kept. The caller holds the lock
// of the directory.
func Open(c *Config, log *slog.Logger) (*Service, error) {
	store, err := keyuri.Open(c.Keys, filepath.Join(c.Dir, "keys"))
	if err != nil {
		return nil, err
	}
	s := &Service{config: c, log: log, store: store, manager: manager()}
	if s.device, err = s.open(); err != nil {
		return nil, err
	}
	s.listener = listener{notices: make(chan device.Notice, kept), listening: s.listening}
	s.agent = &device.Agent{Device: s.device, Rekey: c.Rekey, Log: log, Refused: c.Refused,
		Ready: s.ready, Tell: s.tell, Deliver: s.deliver, FollowRoots: true, Notices: s.listener.notices, Pause: s.pulse.pause}
	s.recall()
	return s, nil
}

// recall takes up the status that an earlier run left.
func (s *Service) recall() {
	if old, err := ReadStatus(s.config.Dir); err == nil {
		s.status = *old
	}
	where := s.config.Server
	if s.config.MQTT != "" {
		where = "mqtts://" + s.config.MQTT
	}
	scheme, _, _ := strings.Cut(s.config.Keys, ":") // the rest may hold a PIN
	s.status.Running, s.status.Serial, s.status.Server, s.status.Keys = os.Getpid(), s.config.Serial, where, scheme
	s.status.Certificate, s.status.Listening = nil, false
	if official, err := s.store.Load(device.Official); err == nil && official.Leaf() != nil {
		s.status.Certificate = short(official)
	}
}

// open makes the device from the configuration.
func (s *Service) open() (*device.Device, error) {
	c := s.config
	roots, err := readRoots(c.Root)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	d := &device.Device{Serial: c.Serial, Store: s.store, Kind: c.KeyType, Root: roots[0], Successors: roots[1:]}
	if c.Proof == ProofTPM {
		d.Prover = s.store.TPM
	}
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	if c.MQTT != "" {
		d.MQTT = &device.MQTTClient{Address: c.MQTT, Product: c.Product, Roots: pool}
		return d, d.RecallRoots()
	}
	d.Client = &device.Client{URL: c.Server, Label: c.Product, Roots: pool}
	if c.Proof == ProofCode {
		code, err := os.ReadFile(c.CodeFile)
		if err != nil && s.needsProof() {
			return nil, fmt.Errorf("code-file: %w", err)
		}
		d.Client.Login = &device.Login{User: c.Serial, Code: strings.TrimSpace(string(code))}
	}
	return d, d.RecallRoots()
}

// needsProof reports whether the device has no official certificate yet.
func (s *Service) needsProof() bool {
	official, err := s.store.Load(device.Official)
	return err != nil || official.Leaf() == nil
}

func readRoots(file string) (roots []*x509.Certificate, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !root.IsCA {
			return nil, fmt.Errorf("%s: certificate %d is no CA's (%w)", file, len(roots)+1, err)
		}
		roots = append(roots, root)
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return roots, nil
}

// ready says why the server should not be asked now.
func (s *Service) ready() error {
	if now, root := time.Now(), s.device.Root; now.Before(root.NotBefore) {
		return fmt.Errorf("the clock says %s, before the root certificate was made: it is not set yet", now.UTC().Format(time.RFC3339))
	}
	return s.store.Writable()
}

// tell brings an attempt into the status, the state file and the service
// manager.
func (s *Service) tell(t device.Attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.status.State
	s.status.take(t, time.Now())
	if s.status.State != before {
		s.log.Info("the agent's state changed", "state", s.status.State, "problem", s.status.Problem)
	}
	if t.Credential.Leaf() != nil && t.Step != device.StepEnrol {
		s.listener.use(t.Credential)
	}
	s.show()
	s.manager.tell("STATUS=" + s.status.line())
}

// listening notes whether the server's notices arrive.
func (s *Service) listening(now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.Listening != now {
		s.status.Listening = now
		s.show()
	}
}

// show writes the state file.
func (s *Service) show() {
	if err := s.status.write(s.config.Dir); err != nil {
		s.log.Warn("the status could not be written", "error", err)
	}
}

// line is the status in a line.
func (s *Status) line() string {
	text := s.State
	if s.Certificate != nil {
		text += ", certificate until " + s.Certificate.NotAfter.UTC().Format(time.RFC3339)
	}
	if s.Problem != "" {
		text += "; " + s.Step + ": " + s.Problem
	}
	return text
}

// deliver writes the files and runs the hook, once for what they hold.
func (s *Service) deliver(ctx context.Context, official *device.Credential) error {
	roots := append([]*x509.Certificate{s.device.Root}, s.device.Successors...)
	files, err := s.config.Files.contents(official, roots)
	if err != nil {
		return err
	}
	changed, err := s.config.Files.write(files)
	if err != nil {
		return err
	}
	s.mu.Lock()
	done := s.status.Delivered == digest(official, roots)
	s.mu.Unlock()
	if done && !changed {
		return nil
	}
	if err := s.config.Hook.run(ctx, s.config.environment(official)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Delivered = digest(official, roots)
	return nil
}
