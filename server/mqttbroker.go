package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/touchmark/touchmark/enroll/mqtt"
	"github.com/touchmark/touchmark/internal/cluster"
)

func (b MQTTBroker) check(bad func(string, ...any)) {
	if b == (MQTTBroker{}) {
		return
	}
	if err := cluster.CheckURL(b.URL); err != nil {
		bad("mqtt.broker.url: %w", err)
	}
	if b.ClientID == "" || len(b.ClientID) > 64 {
		bad("mqtt.broker.client_id is %q: want a name of this server's own, of at most 64 characters", b.ClientID)
	}
	if (b.Certificate == "") != (b.Key == "") {
		bad("mqtt.broker: certificate and key go together")
	}
	if b.PasswordFile != "" && b.User == "" {
		bad("mqtt.broker.password_file is given without a user")
	}
}

// shareGroup is the name under which servers share the requests.
const shareGroup = "touchmark"

// brokerOptions reads the files that the configuration names.
func (s *Server) brokerOptions() (o cluster.MQTTOptions, err error) {
	b := s.config.MQTT.Broker
	o = cluster.MQTTOptions{URL: b.URL, ClientID: b.ClientID, User: b.User, Group: shareGroup, Filter: mqtt.RequestFilter, Places: s.config.MQTT.MaxRequests, Log: s.env.Log}
	path := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(s.config.Dir, name)
	}
	o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if b.CA != "" {
		text, err := os.ReadFile(path(b.CA))
		if err != nil {
			return o, fmt.Errorf("mqtt.broker.ca: %w", err)
		}
		o.TLS.RootCAs = x509.NewCertPool()
		if !o.TLS.RootCAs.AppendCertsFromPEM(text) {
			return o, fmt.Errorf("mqtt.broker.ca: %s holds no certificate in PEM", b.CA)
		}
	}
	if b.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(path(b.Certificate), path(b.Key))
		if err != nil {
			return o, fmt.Errorf("mqtt.broker.certificate: %w", err)
		}
		o.TLS.Certificates = []tls.Certificate{pair}
	}
	if b.PasswordFile != "" {
		text, err := os.ReadFile(path(b.PasswordFile))
		if err != nil {
			return o, fmt.Errorf("mqtt.broker.password_file: %w", err)
		}
		o.Password = strings.TrimRight(string(text), "\r\n")
	}
	return o, nil
}

// connectBroker serves what comes over the operator's broker.
func (s *Server) connectBroker(h *mqtt.Handler) error {
	o, err := s.brokerOptions()
	if err != nil {
		return err
	}
	const carrier = "mqtt-broker"
	o.Dropped = func() { s.metrics.shed.WithLabelValues(carrier, shedRequests).Inc() }
	o.Panicked = func(p any) { s.metrics.panicked(s.env.Log, p, "where", carrier) }
	timeout := time.Duration(s.config.MQTT.RequestTimeout)
	o.Serve = func(ctx context.Context, m cluster.Message) (*cluster.Message, error) {
		if err := s.clock(ctx); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		out, err := h.Serve(ctx, m.Topic, m.Payload, "")
		if err != nil || out == nil {
			return nil, err
		}
		return &cluster.Message{Topic: out.Topic, Payload: out.Payload}, nil
	}
	s.connect = func() { s.broker = cluster.Connect(o) }
	s.health.warnings = append(s.health.warnings, check{carrier, s.checkBroker})
	return nil
}

func (s *Server) checkBroker(ctx context.Context) error {
	if s.broker == nil {
		return errors.New("not started yet")
	}
	return s.broker.Check(ctx)
}

// forgetEvery is how often signed messages are forgotten that are too old to
// come again.
const forgetEvery = 10 * time.Minute

func (s *Server) forgetMessages(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			// A message may be signed ahead of time by the window, and come
			// again until its time is over by the window.
			if err := s.store.ForgetMessages(ctx, s.env.Now().Add(-2*time.Duration(s.config.MQTT.Window))); err != nil && ctx.Err() == nil {
				s.env.Log.ErrorContext(ctx, "old messages were not forgotten; it is tried again", "error", err)
			}
		}
	}
}
