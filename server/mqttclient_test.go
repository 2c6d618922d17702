package server

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/cms"
)

// mqttClient speaks MQTT 3.1.1 by bytes (OASIS MQTT 3.1.1 §2, §3): what the
// server takes and sends is seen as it is.
type mqttClient struct {
	*testing.T
	conn net.Conn
	in   *bufio.Reader
	id   uint16
	wait time.Duration // for each packet
}

// Packet types (§2.2.1), with the flags that they come with.
const (
	connectPacket, connackPacket  = 0x10, 0x20
	publishPacket, pubackPacket   = 0x30, 0x40
	subscribePacket, subackPacket = 0x82, 0x90
	qos1, duplicate               = 0x02, 0x08
	cleanSession                  = 0x02
	subscriptionRefused           = 0x80
)

// answerTime is how long an answer may take on a slow machine.
const answerTime = 20 * time.Second

// dialMQTT opens a TLS connection to the door with a key pair.
func (w *works) dialMQTT(p pair) (*mqttClient, error) {
	c := &tls.Config{InsecureSkipVerify: true}
	if p.cert != nil {
		c.Certificates = []tls.Certificate{{Certificate: [][]byte{p.cert.Raw}, PrivateKey: p.key}}
	}
	conn, err := tls.Dial("tcp", w.server.Addrs()["mqtt"], c)
	if err != nil {
		return nil, err
	}
	w.t.Cleanup(func() { conn.Close() })
	return &mqttClient{T: w.t, conn: conn, in: bufio.NewReader(conn), wait: answerTime}, nil
}

// mqtt connects as a client.
func (w *works) mqtt(p pair, clientID string) *mqttClient {
	w.t.Helper()
	c, err := w.dialMQTT(p)
	if err != nil {
		w.t.Fatal(err)
	}
	if code, err := c.connect(clientID, cleanSession); err != nil || code != 0 {
		w.t.Fatalf("CONNECT was answered %d, %v", code, err)
	}
	return c
}

func field(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

func (c *mqttClient) write(kind byte, parts ...[]byte) {
	body := bytes.Join(parts, nil)
	c.conn.Write(append(binary.AppendUvarint([]byte{kind}, uint64(len(body))), body...)) // a reader sees the failure
}

// connect asks for MQTT 3.1.1 (level 4) with a keep alive time of 30 s, and gives the CONNACK's return code.
func (c *mqttClient) connect(clientID string, flags byte) (byte, error) {
	c.write(connectPacket, field([]byte("MQTT")), []byte{4, flags, 0, 30}, field([]byte(clientID)))
	kind, body, err := c.read()
	if err != nil {
		return 0, err
	}
	if kind != connackPacket || len(body) != 2 {
		return 0, fmt.Errorf("CONNECT was answered by %x %x", kind, body)
	}
	return body[1], nil
}

func (c *mqttClient) read() (kind byte, body []byte, err error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(c.wait)); err != nil {
		return 0, nil, err
	}
	if kind, err = c.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(c.in)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(c.in, body)
	return kind, body, err
}

// subscribe gives the SUBACK's return code.
func (c *mqttClient) subscribe(filter string) byte {
	c.Helper()
	c.id++
	c.write(subscribePacket, binary.BigEndian.AppendUint16(nil, c.id), field([]byte(filter)), []byte{1})
	kind, body, err := c.read()
	if err != nil || kind != subackPacket || len(body) != 3 {
		c.Fatalf("SUBSCRIBE was answered by %x %x, %v", kind, body, err)
	}
	return body[2]
}

// publish sends with QoS 1 and reads up to the PUBACK; it gives the messages
// that came before it. cut says that the server hung up instead.
func (c *mqttClient) publish(topic string, payload []byte) (messages [][]byte, cut bool) {
	c.Helper()
	c.id++
	c.write(publishPacket|qos1, field([]byte(topic)), binary.BigEndian.AppendUint16(nil, c.id), payload)
	for {
		kind, body, err := c.read()
		switch timeout := net.Error(nil); {
		case errors.As(err, &timeout) && timeout.Timeout():
			c.Fatal("no PUBACK came")
		case err != nil:
			return messages, true
		}
		switch kind &^ 0x0f {
		case pubackPacket:
			return messages, false
		case publishPacket:
			messages = append(messages, body[2+binary.BigEndian.Uint16(body):])
		}
	}
}

// branchOf is where a key's topics begin.
func branchOf(p pair) string {
	sum := sha256.Sum256(p.cert.RawSubjectPublicKeyInfo)
	return "touchmark/v1/" + hex.EncodeToString(sum[:])
}

// signed makes a request message.
func (w *works) signed(p pair, at time.Time, fields map[string]any) []byte {
	w.t.Helper()
	content, err := json.Marshal(fields)
	if err != nil {
		w.t.Fatal(err)
	}
	message, err := cms.Sign(content, cms.Signatory{Certificate: p.cert, Key: p.key}, at)
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
