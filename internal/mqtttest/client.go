// Package mqtttest speaks MQTT 3.1.1 by bytes (OASIS MQTT 3.1.1 §2, §3), for
// tests and benchmarks: what a broker takes and sends is seen as it is, and
// nothing that the server uses has a part in it.
package mqtttest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// Packet types (§2.2.1), with the flags that they come with.
const (
	Connect, Connack    = 0x10, 0x20
	Publish, Puback     = 0x30, 0x40
	Subscribe, Suback   = 0x82, 0x90
	Pingreq, Pingresp   = 0xc0, 0xd0
	CleanSession        = 0x02 // a flag of Connect
	SubscriptionRefused = 0x80 // in a Suback
	typeBits            = 0xf0
	qosBits, qos1       = 0x06, 0x02 // flags of Publish
)

// Client is a connection to a broker. It is not for use by several
// goroutines at a time.
type Client struct {
	net.Conn
	in *bufio.Reader
	id uint16
}

// New begins on a connection; the client closes it.
func New(c net.Conn) *Client { return &Client{Conn: c, in: bufio.NewReader(c)} }

// Field is a text or binary field with its length (§1.5.3).
func Field[T string | []byte](b T) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// Packet puts a packet together.
func Packet(kind byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := binary.AppendUvarint([]byte{kind}, uint64(n))
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// Send writes a packet.
func (c *Client) Send(kind byte, parts ...[]byte) error {
	_, err := c.Write(Packet(kind, parts...))
	return err
}

// Receive reads a packet.
func (c *Client) Receive() (kind byte, body []byte, err error) {
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

// Connect asks for MQTT 3.1.1 (level 4), with a keep alive time in seconds, 0
// for none. It gives the CONNACK's return code.
func (c *Client) Connect(clientID string, flags, keepAlive byte) (code byte, err error) {
	if err := c.Send(Connect, Field("MQTT"), []byte{4, flags, 0, keepAlive}, Field(clientID)); err != nil {
		return 0, err
	}
	return c.last(Connack)
}

// Subscribe asks for QoS 1. It gives the SUBACK's return code.
func (c *Client) Subscribe(filter string) (code byte, err error) {
	if err := c.Send(Subscribe, c.nextID(), Field(filter), []byte{1}); err != nil {
		return 0, err
	}
	return c.last(Suback)
}

// last receives a packet of a kind, whose last byte is a return code.
func (c *Client) last(want byte) (byte, error) {
	kind, body, err := c.Receive()
	if err != nil {
		return 0, err
	}
	if kind != want || len(body) == 0 {
		return 0, fmt.Errorf("the broker sent %#x %x where %#x was due", kind, body, want)
	}
	return body[len(body)-1], nil
}

// Publish sends with QoS 1; the PUBACK is the caller's to receive.
func (c *Client) Publish(topic string, payload []byte) error {
	return c.Send(Publish|qos1, Field(topic), c.nextID(), payload)
}

// Acknowledge sends the PUBACK of a message, unless it came with QoS 0.
func (c *Client) Acknowledge(m Message) error {
	if m.ID == nil {
		return nil
	}
	return c.Send(Puback, m.ID)
}

func (c *Client) nextID() []byte {
	c.id++
	return binary.BigEndian.AppendUint16(nil, c.id)
}

// Message is what was published.
type Message struct {
	Topic   string
	ID      []byte // nil if it came with QoS 0
	Payload []byte
}

// Published reads a packet as a message, if it is one.
func Published(kind byte, body []byte) (m Message, ok bool) {
	if kind&typeBits != Publish || len(body) < 2 {
		return m, false
	}
	end := 2 + int(binary.BigEndian.Uint16(body))
	m.Topic, m.Payload = string(body[2:end]), body[end:]
	if kind&qosBits != 0 {
		m.ID, m.Payload = m.Payload[:2], m.Payload[2:]
	}
	return m, true
}
