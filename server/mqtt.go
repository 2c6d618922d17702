package server

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/mqtt"
	"github.com/touchmark/touchmark/internal/broker"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

// mqttDoors adds the broker in the process, and the connection to the
// operator's.
func (s *Server) mqttDoors(pipeline enroller) error {
	h := s.mqttHandler(pipeline)
	s.handler = h
	if s.config.MQTT.Broker.URL != "" {
		if err := s.connectBroker(h); err != nil {
			return err
		}
	}
	var local *broker.Broker
	if s.config.MQTT.Listen != "" {
		var err error
		if local, err = s.mqttDoor(h); err != nil {
			return err
		}
	}
	if local != nil || s.connect != nil {
		s.notices = newNotices(s, local)
	}
	return nil
}

func (s *Server) mqttDoor(h *mqtt.Handler) (*broker.Broker, error) {
	c := s.config.MQTT
	d := door{name: "mqtt", addr: c.Listen, limits: c.Limits, exempt: s.config.exempt(), tls: TLSConfig(s.certificate.Get)}
	d.tls.NextProtos = []string{"mqtt"}
	d.bounds = bounded(d, nil, s.metrics)
	d.bounds.clock = s.clock
	made := newDoor(d, s.metrics, s.env.Log)
	requests := s.metrics.requestsOf(made.name)
	b, err := broker.New(broker.Config{
		Door: &brokerDoor{
			bounds: d.bounds, handler: h, timeout: time.Duration(c.RequestTimeout), panicked: made.books.panicked,
			done: func(status int, took time.Duration) { requests.note("PUBLISH", status, took) },
		},
		Bounds: broker.Bounds{
			MaxPacket: mqtt.MaxMessage + 1<<10, MaxClients: int64(c.MaxConnections),
			FirstTimeout: time.Duration(c.HeaderTimeout), WriteTimeout: time.Duration(c.HeaderTimeout), Silence: time.Duration(c.IdleTimeout),
		},
		State: made.state, Panicked: made.books.panicked, Log: s.env.Log.With("door", made.name),
	})
	if err != nil {
		return nil, err
	}
	made.service = b
	s.add(made)
	return b, nil
}

func (s *Server) mqttHandler(pipeline enroller) *mqtt.Handler {
	return (&mqtt.Handler{
		Enroller:  pipeline,
		Clients:   s.authenticator(),
		Lives:     s.store,
		Products:  s.store,
		TPM:       s.attestor,
		Witness:   witness{s.store, newRates[vetting.Fingerprint](1)},
		CACerts:   s.authorities.CACerts,
		Signatory: s.certificate.Signatory,
		Refused:   func(reason string) { s.metrics.refused.WithLabelValues(reason).Inc() },
		Log:       s.env.Log,
		Now:       s.env.Now,
		Window:    time.Duration(s.config.MQTT.Window),
	}).Ready()
}

// brokerDoor holds messages to the bounds of the door, and keeps a panic from
// being more than a message that failed.
type brokerDoor struct {
	bounds   *bounds
	handler  *mqtt.Handler
	timeout  time.Duration
	panicked func(any)
	done     func(status int, took time.Duration)
}

// Enter implements broker.Door. Whose certificate it is, is decided for each
// message: what may be published and read depends on its key alone, which the
// handshake has proved.
func (d *brokerDoor) Enter(_ context.Context, cert *x509.Certificate) (broker.Rights, error) {
	if _, err := enroll.KeyKind(cert.PublicKey); err != nil {
		return nil, err
	}
	return mqtt.BranchOf(cert), nil
}

// errTooMuch ends the connection of a client that sends too much: over MQTT
// 3.1.1 there is no other way to tell it, and what it sent is not lost,
// because it was not acknowledged.
var errTooMuch = errors.New("too many messages")

// Serve implements broker.Door.
func (d *brokerDoor) Serve(ctx context.Context, from broker.Client, m broker.Message) (answers []broker.Message, err error) {
	begin := time.Now() // a measurement; the injected clock has no say in it
	leave, err := d.enter(ctx, from.Remote)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	status := 503
	defer func() {
		cancel()
		leave()
		if p := recover(); p != nil {
			d.panicked(p)
			answers, err = nil, errors.New("internal error")
		}
		d.done(status, time.Since(begin))
	}()
	private := mqtt.Provides(m.Topic)
	out, err := d.serve(ctx, private, from, m)
	if err != nil {
		return nil, err
	}
	if status = 200; out == nil {
		status = 400
		return nil, nil
	}
	return []broker.Message{{Topic: out.Topic, Payload: out.Payload, Private: private}}, nil
}

func (d *brokerDoor) serve(ctx context.Context, private bool, from broker.Client, m broker.Message) (*mqtt.Message, error) {
	if private {
		return d.handler.Provision(ctx, from.Shown, m.Topic, m.Payload, host(from.Remote))
	}
	return d.handler.Serve(ctx, m.Topic, m.Payload, host(from.Remote))
}

// enter holds a message to the rate of its address and takes a place for it.
func (d *brokerDoor) enter(ctx context.Context, remote string) (leave func(), err error) {
	b := d.bounds
	if _, ok := b.fair(remote); !ok {
		b.shed.WithLabelValues(b.door, shedRequestRate).Inc()
		return nil, errTooMuch
	}
	if err := b.clock(ctx); err != nil {
		return nil, err
	}
	select {
	case b.places <- struct{}{}:
	default:
		b.shed.WithLabelValues(b.door, shedRequests).Inc()
		return nil, errTooMuch
	}
	b.working.Inc()
	return func() {
		<-b.places
		b.working.Dec()
	}, nil
}

// host is an address without its port.
func host(remote string) string {
	if a, err := netip.ParseAddrPort(remote); err == nil {
		return a.Addr().Unmap().String()
	}
	return remote
}

// witness keeps suspicious messages as evidence about the devices that are
// known; what is about strangers would let anybody fill the database.
type witness struct {
	store *store.Store
	rates *rates[vetting.Fingerprint]
}

// Suspicious implements mqtt.Witness.
func (w witness) Suspicious(ctx context.Context, c vetting.Claim, kind vetting.EvidenceKind, text string) error {
	if _, ok := w.rates.take(c.Auth.Key); !ok {
		return nil // it was counted often enough
	}
	f, err := w.store.Facts(ctx, c)
	if err != nil || f.Record == nil {
		return err
	}
	return w.store.WitnessEvidence(ctx, []vetting.Evidence{vetting.SuspiciousMessage(f.Record.ID, c.Auth.Key, kind, text)})
}
