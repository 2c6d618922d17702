package server

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll/attest"
	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/internal/mqtttest"
)

// mqttClient is a client of the door.
type mqttClient struct {
	*testing.T
	*mqtttest.Client
	wait time.Duration // for each packet
}

// answerTime is how long an answer may take on a slow machine.
const answerTime = 20 * time.Second

// dialMQTT opens a TLS connection to the door with a key pair, and with
// issuers of its certificate.
func (w *works) dialMQTT(p pair, issuers ...*x509.Certificate) (*mqttClient, error) {
	c := &tls.Config{InsecureSkipVerify: true}
	if p.cert != nil {
		c.Certificates = []tls.Certificate{{Certificate: [][]byte{p.cert.Raw}, PrivateKey: p.key}}
		for _, i := range issuers {
			c.Certificates[0].Certificate = append(c.Certificates[0].Certificate, i.Raw)
		}
	}
	conn, err := tls.Dial("tcp", w.server.Addrs()["mqtt"], c)
	if err != nil {
		return nil, err
	}
	w.t.Cleanup(func() { conn.Close() })
	return &mqttClient{w.t, mqtttest.New(conn), answerTime}, nil
}

// mqtt connects as a client.
func (w *works) mqtt(p pair, clientID string, issuers ...*x509.Certificate) *mqttClient {
	w.t.Helper()
	c, err := w.dialMQTT(p, issuers...)
	if err != nil {
		w.t.Fatal(err)
	}
	if code, err := c.connect(clientID, mqtttest.CleanSession); err != nil || code != 0 {
		w.t.Fatalf("CONNECT was answered %d, %v", code, err)
	}
	return c
}

// connect gives the CONNACK's return code.
func (c *mqttClient) connect(clientID string, flags byte) (byte, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.wait)); err != nil {
		return 0, err
	}
	return c.Connect(clientID, flags, 30)
}

func (c *mqttClient) read() (kind byte, body []byte, err error) {
	if err := c.SetReadDeadline(time.Now().Add(c.wait)); err != nil {
		return 0, nil, err
	}
	return c.Receive()
}

// subscribe gives the SUBACK's return code.
func (c *mqttClient) subscribe(filter string) byte {
	c.Helper()
	if err := c.SetReadDeadline(time.Now().Add(c.wait)); err != nil {
		c.Fatal(err)
	}
	code, err := c.Subscribe(filter)
	if err != nil {
		c.Fatalf("SUBSCRIBE %s: %v", filter, err)
	}
	return code
}

// publish sends with QoS 1 and reads up to the PUBACK; it gives the messages
// that came before it. cut says that the server hung up instead.
func (c *mqttClient) publish(topic string, payload []byte) (messages [][]byte, cut bool) {
	c.Helper()
	_ = c.Publish(topic, payload) // reading sees the failure
	for {
		kind, body, err := c.read()
		switch timeout := net.Error(nil); {
		case errors.As(err, &timeout) && timeout.Timeout():
			c.Fatal("no PUBACK came")
		case err != nil:
			return messages, true
		}
		if m, ok := mqtttest.Published(kind, body); ok {
			messages = append(messages, m.Payload)
		} else if kind == mqtttest.Puback {
			return messages, false
		}
	}
}

// answerTo publishes a message, gives the one answer, and hangs up.
func (c *mqttClient) answerTo(topic string, message []byte, replies ...string) []byte {
	c.Helper()
	defer c.Close()
	for _, reply := range replies {
		if code := c.subscribe(reply); code == mqtttest.SubscriptionRefused {
			c.Fatalf("SUBSCRIBE %s was refused", reply)
		}
	}
	_ = c.Publish(topic, message) // reading sees the failure
	for {
		kind, body, err := c.read()
		if err != nil {
			c.Fatalf("no answer to what was sent to %s: %v", topic, err)
		}
		if m, ok := mqtttest.Published(kind, body); ok {
			return m.Payload
		}
	}
}

// branchOf is where a key's topics begin.
func branchOf(p pair) string {
	sum := sha256.Sum256(p.cert.RawSubjectPublicKeyInfo)
	return "touchmark/v1/" + hex.EncodeToString(sum[:])
}

// signed makes a request message.
func (w *works) signed(p pair, at time.Time, fields map[string]any, issuers ...*x509.Certificate) []byte {
	w.t.Helper()
	content, err := json.Marshal(fields)
	if err != nil {
		w.t.Fatal(err)
	}
	message, err := cms.Sign(content, cms.Signatory{Certificate: p.cert, Chain: issuers, Key: p.key}, at)
	if err != nil {
		w.t.Fatal(err)
	}
	return message
}

// mqttReply is the server's answer.
type mqttReply struct {
	Nonce, Request, Text string
	Status, RetryAfter   int
	Certificate          []byte
	CAs                  [][]byte
	TPM                  *attest.Challenge
}

func (w *works) replied(message []byte) (r mqttReply) {
	w.t.Helper()
	content, by, err := cms.Open(message, 1<<16)
	if err != nil {
		w.t.Fatal(err)
	}
	if own, err := w.server.certificate.Get(nil); err != nil || !by.Certificate.Equal(own.Leaf) {
		w.t.Fatalf("the answer is signed by %s", by.Certificate.Subject)
	}
	if err := json.Unmarshal(content, &r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// replied2 is replied, of one of two servers.
func (w *works) replied2(message []byte, other *works) mqttReply {
	w.t.Helper()
	_, by, err := cms.Open(message, 1<<16)
	if err != nil {
		w.t.Fatal(err)
	}
	if own, err := w.server.certificate.Get(nil); err == nil && by.Certificate.Equal(own.Leaf) {
		return w.replied(message)
	}
	return other.replied(message)
}

// created calls create-from-csr of the compatible shape, and gives status,
// certificate and text of the answer.
func (w *works) created(p pair, csr []byte, issuers ...*x509.Certificate) (int, []byte, string) {
	w.t.Helper()
	const topic = "$aws/certificates/create-from-csr/json"
	in, err := json.Marshal(map[string]string{"certificateSigningRequest": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))})
	if err != nil {
		w.t.Fatal(err)
	}
	text := w.mqtt(p, "device", issuers...).answerTo(topic, in, topic+"/accepted", topic+"/rejected")
	var out struct {
		PEM     string `json:"certificatePem"`
		Status  int    `json:"statusCode"`
		Message string `json:"errorMessage"`
	}
	if err := json.Unmarshal(text, &out); err != nil {
		w.t.Fatalf("%v in %s", err, text)
	}
	if block, _ := pem.Decode([]byte(out.PEM)); block != nil {
		return 200, block.Bytes, ""
	}
	return out.Status, nil, out.Message
}

// enrolOver enrols a device by messages and gives its official key pair.
func (w *works) enrolOver(unit pair, ask func(*works, pair, []byte) *mqttReply) pair {
	w.t.Helper()
	key, csr := w.request(nil)
	order := w.order(unit, "enrol", nonce1)
	order["csr"] = csr
	r := ask(w, unit, w.signed(unit, w.now(), order))
	if r == nil || r.Status != 200 {
		w.t.Fatalf("enrolment: %+v", r)
	}
	return pair{key, parsed(w.t, r.Certificate)}
}

func parsed(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
