package device

import (
	"bufio"
	"context"
	"crypto/rand"
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
	"net/http"
	"sync"
	"time"
)

// MQTTClient asks a server over MQTT 3.1.1 (OASIS MQTT 3.1.1), by signed
// messages, each over a connection of its own. It is a client of its own and
// small: a device needs four packets each way, and no session.
type MQTTClient struct {
	// Address is the broker's, HOST:PORT, with TLS.
	Address string
	// Product is the product's name; "" leaves it out.
	Product string
	// Roots are the trust anchors of the server, and so of its signature; the
	// broker's certificate must lead to them, too.
	Roots *x509.CertPool
	// Timeout bounds one exchange; 0 is 30 seconds.
	Timeout time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

func (c *MQTTClient) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// Enrol asks for a first certificate on the key that signed csr, by the
// bootstrap credential. It returns the CA certificates beside it.
func (c *MQTTClient) Enrol(ctx context.Context, by *Credential, csr []byte) (*x509.Certificate, []*x509.Certificate, error) {
	return c.certificate(ctx, "enrol", by, csr)
}

// Renew renews the certificate of by.
func (c *MQTTClient) Renew(ctx context.Context, by *Credential, csr []byte) (*x509.Certificate, []*x509.Certificate, error) {
	return c.certificate(ctx, "renew", by, csr)
}

// Activate tells the server that the device holds its official key, and
// returns when the certificate should be renewed.
func (c *MQTTClient) Activate(ctx context.Context, by *Credential) (*RenewalInfo, error) {
	answer, err := c.ask(ctx, mqttRequest{Operation: "activate"}, by)
	if err != nil {
		return nil, err
	}
	info := &RenewalInfo{Start: RenewAt(by.Leaf()), End: RenewAt(by.Leaf()), RetryAfter: latestCheck}
	if w := answer.Activation.Renew; !w.Start.IsZero() && !w.End.Before(w.Start) {
		info.Start, info.End = w.Start, w.End
	}
	return info, nil
}

func (c *MQTTClient) certificate(ctx context.Context, op string, by *Credential, csr []byte) (*x509.Certificate, []*x509.Certificate, error) {
	answer, err := c.ask(ctx, mqttRequest{Operation: op, CSR: csr}, by)
	if err != nil {
		return nil, nil, err
	}
	return granted(op, csr, answer.Certificate, answer.CAs)
}

// granted reads the certificate that came for a request, and the CA
// certificates beside it.
func granted(op string, csr, der []byte, beside [][]byte) (*x509.Certificate, []*x509.Certificate, error) {
	request, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: own request: %w", op, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err == nil && !sameKey(request.PublicKey, cert.PublicKey) {
		err = errors.New("the certificate is for another key")
	}
	if err == nil && len(beside) > maxCertificates {
		err = fmt.Errorf("it holds more than %d CA certificates", maxCertificates)
	}
	var cas []*x509.Certificate
	for _, der := range beside {
		var ca *x509.Certificate
		if err == nil {
			ca, err = x509.ParseCertificate(der)
		}
		cas = append(cas, ca)
	}
	if err != nil {
		return nil, nil, &ReplyError{op, err}
	}
	return cert, cas, nil
}

// request and reply are the contents of the messages.
type (
	mqttRequest struct {
		Operation string `json:"operation"`
		CSR       []byte `json:"csr,omitempty"`
		Nonce     string `json:"nonce"`
		Reply     string `json:"reply"`
		Product   string `json:"product,omitempty"`

		TPM json.RawMessage `json:"tpm,omitempty"`
	}
	mqttReply struct {
		Nonce, Request, Text string
		Status               int
		RetryAfter           int64
		Certificate          []byte
		CAs                  [][]byte
		TPM                  json.RawMessage
		Activation           struct {
			Renew struct{ Start, End time.Time }
		}
	}
)

// ask does one exchange and returns what was granted.
func (c *MQTTClient) ask(ctx context.Context, r mqttRequest, by *Credential) (*mqttReply, error) {
	op := r.Operation
	branch := branchOf(by)
	r.Nonce, r.Product = rand.Text(), c.Product
	r.Reply = branch + "/reply/" + r.Nonce
	content, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	message, err := signContent(content, by, c.now())
	if err != nil {
		return nil, err
	}
	got, err := c.exchange(ctx, op, by, branch+"/request", r.Reply, message)
	if err != nil {
		return nil, err
	}
	if got, err = openMessage(got, c.Roots, c.now()); err != nil {
		return nil, &ReplyError{op, err}
	}
	var answer mqttReply
	if err := json.Unmarshal(got, &answer); err != nil {
		return nil, &ReplyError{op, err}
	}
	if sum := sha256.Sum256(message); answer.Nonce != r.Nonce || answer.Request != hex.EncodeToString(sum[:]) {
		return nil, &ReplyError{op, errors.New("it is the answer to another request")}
	}
	return &answer, answer.verdict(op)
}

// verdict is nil for what was granted.
func (a *mqttReply) verdict(op string) error {
	text, wait := readable([]byte(a.Text)), time.Duration(min(max(a.RetryAfter, 0), 1<<31))*time.Second
	switch a.Status {
	case http.StatusOK:
		return nil
	case http.StatusAccepted:
		return &PendingError{Op: op, RetryAfter: max(wait, time.Second), Text: text}
	}
	return &StatusError{Op: op, Status: a.Status, Text: text, RetryAfter: wait}
}

// branchOf is the topic that all topics of a credential's key begin with.
func branchOf(by *Credential) string {
	spki := sha256.Sum256(by.Leaf().RawSubjectPublicKeyInfo)
	return "touchmark/v1/" + hex.EncodeToString(spki[:])
}

// exchange subscribes, publishes with QoS 1, and returns the first message on
// the reply topic.
func (c *MQTTClient) exchange(ctx context.Context, op string, by *Credential, topic, reply string, message []byte) ([]byte, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := c.dial(ctx, op, by)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	p := &packets{conn: conn, in: bufio.NewReader(conn), client: "device"}
	answer, err := p.request(topic, reply, message)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, &LineError{op, err}
	}
	p.write(packetDisconnect) // good manners; the answer is here
	return answer, nil
}

func (c *MQTTClient) dial(ctx context.Context, op string, by *Credential) (net.Conn, error) {
	cert := by.TLS()
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12, Time: c.Now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }}}
	conn, err := dialer.DialContext(ctx, "tcp", c.Address)
	if bad := new(tls.CertificateVerificationError); errors.As(err, &bad) {
		return nil, &TrustError{c.Address, err}
	}
	if err != nil {
		return nil, &LineError{op, err}
	}
	return conn, nil
}

// Control packets, with the flags that they come with here (MQTT 3.1.1 §2.2).
const (
	packetConnect, packetConnack       = 0x10, 0x20
	packetPublish, packetPuback        = 0x32, 0x40 // QoS 1
	packetSubscribe, packetSuback      = 0x82, 0x90
	packetPing, packetDisconnect       = 0xc0, 0xe0
	protocolLevel, cleanSession        = 4, 2
	subscribeID, publishID             = 1, 2
	keepAlive, lastGrant               = 60, 2
	kindMask, qosMask             byte = 0xf0, 0x06
)

// packets speaks MQTT on a connection.
type packets struct {
	conn   net.Conn
	in     *bufio.Reader
	client string        // identifier (§3.1.3.1)
	idle   time.Duration // how long nothing may come; 0 leaves that to the exchange's end
	mu     sync.Mutex
}

// subscribe begins a session and subscribes to a topic.
func (p *packets) subscribe(topic string) error {
	for _, step := range []struct {
		want byte
		send func() error
	}{
		{packetConnack, func() error {
			return p.write(packetConnect, field("MQTT"), []byte{protocolLevel, cleanSession, 0, keepAlive}, field(p.client))
		}},
		{packetSuback, func() error { return p.write(packetSubscribe, number(subscribeID), field(topic), []byte{1}) }},
	} {
		if err := step.send(); err != nil {
			return err
		}
		kind, body, err := p.read()
		if err != nil {
			return err
		}
		if kind != step.want || len(body) < 2 || body[len(body)-1] > lastGrant || kind == packetConnack && body[1] != 0 {
			return fmt.Errorf("the broker answered %#x %x", kind, body)
		}
	}
	return nil
}

func (p *packets) request(topic, reply string, message []byte) ([]byte, error) {
	if err := p.subscribe(reply); err != nil {
		return nil, err
	}
	if err := p.write(packetPublish, field(topic), number(publishID), message); err != nil {
		return nil, err
	}
	return p.message()
}

// message reads on until a message comes.
func (p *packets) message() ([]byte, error) {
	for {
		kind, body, err := p.read()
		if err != nil {
			return nil, err
		}
		if kind&kindMask == packetPublish&kindMask {
			return p.delivered(kind, body)
		}
	}
}

// delivered takes a PUBLISH apart and acknowledges it.
func (p *packets) delivered(kind byte, body []byte) ([]byte, error) {
	if len(body) < 2 || len(body) < 4+int(binary.BigEndian.Uint16(body)) {
		return nil, errors.New("the broker sent a PUBLISH that is too short")
	}
	body = body[2+binary.BigEndian.Uint16(body):]
	if kind&qosMask == 0 {
		return body, nil
	}
	return body[2:], p.write(packetPuback, body[:2])
}

func field(s string) []byte { return append(number(uint16(len(s))), s...) }

func number(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func (p *packets) write(kind byte, parts ...[]byte) error {
	var body []byte
	for _, part := range parts {
		body = append(body, part...)
	}
	// The remaining length (§2.2.3) is spelled as a varint is.
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.conn.Write(append(binary.AppendUvarint([]byte{kind}, uint64(len(body))), body...))
	return err
}

func (p *packets) read() (kind byte, body []byte, err error) {
	if p.idle > 0 {
		_ = p.conn.SetReadDeadline(time.Now().Add(p.idle)) // fails only where the read will, too
	}
	if kind, err = p.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(p.in)
	if err != nil {
		return 0, nil, err
	}
	if n > maxReply {
		return 0, nil, fmt.Errorf("the broker sends a packet of %d bytes: at most %d are taken", n, maxReply)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(p.in, body)
	return kind, body, err
}
