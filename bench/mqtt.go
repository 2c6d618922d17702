package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/broker"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/cluster"
	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/internal/mqtttest"
	"github.com/touchmark/touchmark/server"
)

// messages measures first enrolments over MQTT, at the broker in the process
// and over Mosquitto, against answers of the same size through the same
// broker, by a program that checks the same signatures, signs a certificate
// and the answer, and does nothing else.
func (b *bench) messages(ctx context.Context, db string, t *table) error {
	for _, carrier := range []string{"embedded", "Mosquitto"} {
		r := row{name: "first enrolments over MQTT, " + carrier + ", " + db, limit: "bare round trips with the same signatures", wanted: 0.60}
		for range b.runs {
			enrolled, bare, err := b.measureMessages(ctx, db, carrier == "embedded")
			if err != nil {
				return err
			}
			r.add(enrolled.rate, bare.rate)
		}
		t.rows = append(t.rows, r)
	}
	return nil
}

func (b *bench) measureMessages(ctx context.Context, db string, embedded bool) (enrolled, bare *load, err error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	address := ""
	if !embedded {
		m, err := mqtttest.StartMosquitto(dir)
		if err != nil {
			return nil, nil, err
		}
		defer m.Stop()
		address = "mqtt://" + m.Address
	}
	w, drop, err := b.worldWith(ctx, db, filepath.Join(dir, "touchmark"), b.units, func(ctx context.Context, c *server.Config) (map[string]string, func(), error) {
		if !embedded {
			c.MQTT.Broker = server.MQTTBroker{URL: address, ClientID: "touchmark"}
		}
		return serveHere(ctx, c)
	})
	if err != nil {
		return nil, nil, err
	}
	defer drop()
	orders, err := w.orders(ctx, b.units)
	if err != nil {
		return nil, nil, err
	}
	limit, stop, err := w.bareDoor(address)
	if err != nil {
		return nil, nil, err
	}
	bare, err = b.watched("mqtt-bare", func() (*load, error) { return driveMessages(ctx, limit, bareRoot, orders, b.clients) })
	stop()
	if err != nil {
		return nil, nil, fmt.Errorf("bare round trips: %w", err)
	}
	own := address
	if embedded {
		own = "mqtts://" + w.mqtt
	}
	enrolled, err = b.watched("mqtt", func() (*load, error) { return driveMessages(ctx, own, ownRoot, orders, b.clients) })
	if err != nil {
		return nil, nil, fmt.Errorf("enrolments over MQTT: %w", err)
	}
	return enrolled, bare, nil
}

// order is a request of one device: as whom it connects, and what it sends.
type order struct {
	tls     *tls.Config
	key     string // its fingerprint
	message []byte
}

// orders builds units, hands in their records and signs their requests.
func (w *world) orders(ctx context.Context, n int) ([]order, error) {
	units, err := w.units(ctx, 0, n)
	if err != nil {
		return nil, err
	}
	list := make([]order, n)
	for i, u := range units {
		c, err := u.Store.Load(device.Bootstrap)
		if err != nil {
			return nil, err
		}
		made, err := w.client(u, w.tls(c))
		if err != nil {
			return nil, err
		}
		key := keyName(c.Leaf())
		content, err := json.Marshal(map[string]string{"operation": "enrol", "csr": string(made.body), "nonce": rand.Text(), "reply": ownRoot + key + "/reply"})
		if err != nil {
			return nil, err
		}
		message, err := cms.Sign(content, cms.Signatory{Certificate: c.Leaf(), Key: c.Key}, time.Now())
		if err != nil {
			return nil, err
		}
		list[i] = order{made.tls, key, message}
	}
	return list, nil
}

// keyName is how topics name a certificate's key.
func keyName(cert *x509.Certificate) string {
	return fmt.Sprintf("%x", sha256.Sum256(cert.RawSubjectPublicKeyInfo))
}

// driveMessages has each device ask once. Connections are made before the
// clock starts: it is about messages.
func driveMessages(ctx context.Context, address, root string, orders []order, workers int) (*load, error) {
	visitors := make([]*visitor, len(orders))
	defer func() {
		for _, v := range visitors {
			if v != nil {
				v.Close()
			}
		}
	}()
	for i, o := range orders {
		var err error
		if visitors[i], err = visit(ctx, address, o.tls, root, o.key, o.message); err != nil {
			return nil, err
		}
	}
	return share(visitors, workers, func() (func(*visitor) error, error) { return served, nil })
}

// served asks, and checks the answer.
func served(v *visitor) error {
	answer, err := v.ask()
	if err != nil {
		return err
	}
	content, _, err := cms.Open(answer, 1<<16)
	if err != nil {
		return err
	}
	var r struct{ Status int }
	if err := json.Unmarshal(content, &r); err != nil || r.Status != 200 {
		return fmt.Errorf("the answer is %s (%w)", content, err)
	}
	return nil
}

// bareSigner checks and signs as an enrolment does, and keeps nothing.
type bareSigner struct {
	issuer ca.Authority
	cas    [][]byte
	by     cms.Signatory
}

func (s *bareSigner) answer(message []byte) (topic string, payload []byte, err error) {
	content, signer, err := cms.Open(message, 1<<15)
	if err != nil {
		return "", nil, err
	}
	var r struct{ CSR, Nonce, Reply string }
	if err := json.Unmarshal(content, &r); err != nil {
		return "", nil, err
	}
	der, err := base64.StdEncoding.DecodeString(r.CSR)
	if err != nil {
		return "", nil, err
	}
	csr, err := enroll.ParseCSR(der)
	if err != nil {
		return "", nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return "", nil, err
	}
	cert, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: signer.Certificate.Subject, NotBefore: time.Now(), NotAfter: time.Now().AddDate(2, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, s.issuer.Certificate, csr.PublicKey, s.issuer.Signer)
	if err != nil {
		return "", nil, err
	}
	text, err := json.Marshal(map[string]any{"nonce": r.Nonce, "status": 200, "certificate": cert, "cas": s.cas})
	if err != nil {
		return "", nil, err
	}
	payload, err = cms.Sign(text, s.by, time.Now())
	return r.Reply, payload, err
}

// Enter and Serve implement broker.Door.
func (*bareSigner) Enter(context.Context, *x509.Certificate) (broker.Rights, error) {
	return anything{}, nil
}

func (s *bareSigner) Serve(_ context.Context, _ broker.Client, m broker.Message) ([]broker.Message, error) {
	topic, payload, err := s.answer(m.Payload)
	return []broker.Message{{Topic: topic, Payload: payload}}, err
}

type anything struct{}

func (anything) MayPublish(string) bool { return true }
func (anything) MayRead(string) bool    { return true }

// bareDoor serves bare answers at a broker in this process, or at the one with
// the address, and gives the address.
func (w *world) bareDoor(address string) (_ string, stop func(), err error) {
	own, err := ca.NewServerCertificate(w.authorities, []string{"127.0.0.1"}, time.Now)
	if err != nil {
		return "", nil, err
	}
	by, err := own.Signatory()
	if err != nil {
		return "", nil, err
	}
	s := &bareSigner{issuer: w.authorities.Device, cas: w.authorities.CACerts(), by: by}
	if address != "" {
		return w.bareAt(address, s)
	}
	limits := broker.Bounds{MaxPacket: 1 << 16, MaxClients: 1 << 20, FirstTimeout: time.Minute, WriteTimeout: time.Minute, Silence: time.Hour}
	b, err := broker.New(broker.Config{Door: s, Bounds: limits, Panicked: func(p any) { panic(p) }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return "", nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	go func() { _ = b.Serve(eager{l, server.TLSConfig(own.Get)}) }()
	return "mqtts://" + l.Addr().String(), func() { _ = b.Close() }, nil
}

// eager does the handshake of each connection before it gives it out.
type eager struct {
	net.Listener
	config *tls.Config
}

func (e eager) Accept() (net.Conn, error) {
	for {
		c, err := e.Listener.Accept()
		if err != nil {
			return nil, err
		}
		t := tls.Server(c, e.config)
		if err := t.Handshake(); err == nil {
			return t, nil
		}
		c.Close()
	}
}

// Where request topics begin: Touchmark's, and the bare program's, so that each
// gets its own requests only.
const ownRoot, bareRoot = "touchmark/v1/", "bare/"

// bareAt serves bare answers at a broker.
func (w *world) bareAt(address string, s *bareSigner) (string, func(), error) {
	m := cluster.Connect(cluster.MQTTOptions{
		URL: address, ClientID: "bare", Group: "bare", Filter: bareRoot + "+/request", Places: 256, Log: slog.New(slog.DiscardHandler),
		Dropped: func() {}, Panicked: func(p any) { panic(p) },
		Serve: func(_ context.Context, in cluster.Message) (*cluster.Message, error) {
			topic, payload, err := s.answer(in.Payload)
			return &cluster.Message{Topic: topic, Payload: payload}, err
		},
	})
	for range 1000 {
		if m.Check(context.Background()) == nil {
			return address, func() { _ = m.Stop(context.Background()) }, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "", nil, errors.New("no connection to Mosquitto")
}
