package main

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/internal/mqtttest"
)

// branch is where the topics of the device's key begin.
func (d *device) branch() string { return "touchmark/v1/" + d.key.String() }

// message is a request for a first certificate, as the device signs it.
func (d *device) message(t *testing.T) []byte {
	t.Helper()
	cert, err := x509.ParseCertificate(d.bootstrap.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	content, err := json.Marshal(map[string]any{"operation": "enrol", "csr": d.request(t), "nonce": rand.Text(), "reply": d.branch() + "/reply"})
	if err != nil {
		t.Fatal(err)
	}
	message, err := cms.Sign(content, cms.Signatory{Certificate: cert, Key: d.bootstrap.PrivateKey.(crypto.Signer)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return message
}

// mqttAnswer is the server's.
type mqttAnswer struct {
	Nonce, Request, Text string
	Status, RetryAfter   int
	Certificate          []byte
	CAs                  [][]byte
}

func opened(t *testing.T, message []byte) mqttAnswer {
	t.Helper()
	content, _, err := cms.Open(message, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	return decodeAs[mqttAnswer](t, string(content))
}

// brokerSession is a device's at a broker, which outlives its connections.
func brokerSession(t *testing.T, m *mqtttest.Mosquitto, name string) *mqtttest.Client {
	t.Helper()
	conn, err := net.Dial("tcp", m.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := mqtttest.New(conn)
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if code, err := c.Connect(name, 0, 0); err != nil || code != 0 {
		t.Fatalf("CONNECT was answered %d, %v", code, err)
	}
	return c
}

// What a broker took while the only server was dead is kept over a restart of
// the broker as well, and answered once when the server is back.
func TestBrokerKeepsRequests(t *testing.T) {
	m, err := mqtttest.StartPersistent(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Stop() })
	data := initialized(t)
	config := filepath.Join(data, "touchmark.yaml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(`url: ""`+"\n\n    # client_id", `url: "mqtt://`+m.Address+`"`+"\n\n    # client_id", `client_id: ""`, `client_id: "touchmark-1"`).Replace(string(text))
	if err := os.WriteFile(config, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorldIn(t, data)
	unit := newDevice(t, "A-0001")
	w.handIn(t, unit)
	w.joins(t)
	if err := w.server.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = w.server.cmd.Wait()

	c := brokerSession(t, m, "device")
	if code, err := c.Subscribe(unit.branch() + "/reply"); err != nil || code != 1 {
		t.Fatalf("SUBSCRIBE was answered %#x, %v", code, err)
	}
	if err := c.Publish(unit.branch()+"/request", unit.message(t)); err != nil {
		t.Fatal(err)
	}
	if kind, _, err := c.Receive(); err != nil || kind != mqtttest.Puback {
		t.Fatalf("%#x, %v instead of a PUBACK", kind, err)
	}
	m.Stop()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	w.server = serve(t, data)
	c = brokerSession(t, m, "device")
	kind, body, err := c.Receive()
	if err != nil {
		t.Fatal(err)
	}
	answer, ok := mqtttest.Published(kind, body)
	if !ok {
		t.Fatalf("%#x instead of an answer", kind)
	}
	if r := opened(t, answer.Payload); r.Status != 200 || r.Certificate == nil {
		t.Errorf("%+v", r)
	}
	if err := c.Acknowledge(answer); err != nil {
		t.Fatal(err)
	}
	w.admin(t, "order", "show", "PO-1").want(t, 0, "1 of 5 (4 left)")
}

// joins waits until the server reads requests at its broker.
func (w *world) joins(t *testing.T) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get("http://" + w.server.Addr["ops"] + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		var r struct{ Checks map[string]string }
		err = json.NewDecoder(resp.Body).Decode(&r)
		resp.Body.Close()
		switch {
		case err != nil:
			t.Fatal(err)
		case r.Checks["mqtt-broker"] == "ok":
			return
		case time.Since(begin) > time.Minute:
			t.Fatalf("not at the broker: %v", r.Checks)
		}
	}
}
