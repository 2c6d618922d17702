package devicetest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"

	"go.mozilla.org/pkcs7"
)

// Broker answers signed messages over MQTT 3.1.1, with certificates of a
// [Server]. Its fields are set before the first request.
type Broker struct {
	Address string
	// Change, if set, changes an answer before it is signed.
	Change func(answer map[string]any)
	// Damage, if set, changes the message after that.
	Damage func(message []byte) []byte
	// Drop, if set, says which operations are acknowledged and then forgotten,
	// as Mosquitto 2.0 does while no server subscribes.
	Drop func(operation string) bool
	// Usage is the signer's extended key usage; a server's by default.
	Usage x509.ExtKeyUsage
	// Notices, if set, are the messages that are sent to who subscribes to
	// notices.
	Notices [][]byte
	// Operations are those that were asked for, in order.
	Operations chan string

	server *Server
	t      *testing.T
	own    tls.Certificate
}

// NewBroker starts a broker that ends with the test.
func NewBroker(t *testing.T, s *Server) *Broker {
	t.Helper()
	b := &Broker{t: t, server: s, Usage: x509.ExtKeyUsageServerAuth, Operations: make(chan string, 100)}
	key := newKey(t)
	der := s.root.sign(t, &x509.Certificate{SerialNumber: big.NewInt(3), DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, &key.PublicKey)
	b.own = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{ClientAuth: tls.RequireAnyClientCert, Certificates: []tls.Certificate{b.own}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	b.Address = "localhost:" + port
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.serve(c)
		}
	}()
	return b
}

// serve speaks as much MQTT as one exchange needs (MQTT 3.1.1 §3).
func (b *Broker) serve(c net.Conn) {
	defer c.Close()
	in, topic := bufio.NewReader(c), ""
	for {
		kind, body, err := readPacket(in)
		if err != nil {
			return
		}
		switch kind >> 4 {
		case 1: // CONNECT
			c.Write([]byte{0x20, 2, 0, 0})
		case 8: // SUBSCRIBE
			topic = text(body[2:])
			c.Write([]byte{0x90, 3, body[0], body[1], 1})
			for _, m := range b.Notices {
				if strings.HasSuffix(topic, "/notice") {
					c.Write(publish(topic, m))
				}
			}
		case 3: // PUBLISH
			at := text(body)
			id := body[2+len(at):]
			c.Write([]byte{0x40, 2, id[0], id[1]})
			answer, err := b.answer(at, topic, id[2:])
			if err != nil {
				b.t.Errorf("the broker got a message that it cannot read: %v", err)
				return
			}
			if answer != nil {
				c.Write(publish(topic, answer))
			}
		case 14: // DISCONNECT
			return
		}
	}
}

// publish is a PUBLISH of QoS 1.
func publish(topic string, message []byte) []byte {
	out := append(append(field(topic), 0, 7), message...)
	return append(binary.AppendUvarint([]byte{0x32}, uint64(len(out))), out...)
}

func readPacket(in *bufio.Reader) (kind byte, body []byte, err error) {
	if kind, err = in.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(in)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(in, body)
	return kind, body, err
}

func text(b []byte) string { return string(b[2 : 2+binary.BigEndian.Uint16(b)]) }

func field(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

// answer checks who signed the message, and that it came and goes where it
// should. It is nil for one that is dropped.
func (b *Broker) answer(topic, reply string, message []byte) ([]byte, error) {
	p7, err := pkcs7.Parse(message)
	if err != nil {
		return nil, err
	}
	if err := p7.Verify(); err != nil {
		return nil, err
	}
	var in struct{ Operation, CSR, Nonce, Reply string }
	if err := json.Unmarshal(p7.Content, &in); err != nil {
		return nil, err
	}
	key := sha256.Sum256(p7.GetOnlySigner().RawSubjectPublicKeyInfo)
	branch := "touchmark/v1/" + hex.EncodeToString(key[:])
	if topic != branch+"/request" || in.Reply != reply || !strings.HasPrefix(reply, branch+"/reply/") {
		return nil, fmt.Errorf("it came by %s and wants its answer at %s, where the device reads %s", topic, in.Reply, reply)
	}
	b.Operations <- in.Operation
	if b.Drop != nil && b.Drop(in.Operation) {
		return nil, nil
	}
	sum := sha256.Sum256(message)
	out := map[string]any{"nonce": in.Nonce, "request": hex.EncodeToString(sum[:]), "status": 200}
	if in.Operation != "activate" {
		der, err := base64.StdEncoding.DecodeString(in.CSR)
		if err != nil {
			return nil, err
		}
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			return nil, err
		}
		b.server.Set(func(s *Server) {
			out["certificate"], out["cas"] = s.Certify(csr), [][]byte{s.Root.Raw, s.issuer.Cert.Raw}
		})
	}
	if b.Change != nil {
		b.Change(out)
	}
	return b.sign(out)
}

// Notice makes the message of a notice, signed by a key for usage.
func (b *Broker) Notice(what, certificate string, usage x509.ExtKeyUsage) []byte {
	b.t.Helper()
	server := b.Usage
	defer func() { b.Usage = server }()
	b.Usage = usage
	message, err := b.sign(map[string]any{"event": "1-1", "notice": what, "serial": "SN-1", "certificate": certificate})
	if err != nil {
		b.t.Fatal(err)
	}
	return message
}

func (b *Broker) sign(content map[string]any) ([]byte, error) {
	body, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	key := newKey(b.t)
	cert, err := x509.ParseCertificate(b.server.root.sign(b.t, &x509.Certificate{SerialNumber: big.NewInt(4), ExtKeyUsage: []x509.ExtKeyUsage{b.Usage}}, &key.PublicKey))
	if err != nil {
		return nil, err
	}
	m, err := pkcs7.NewSignedData(body)
	if err != nil {
		return nil, err
	}
	m.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := m.AddSigner(cert, (*ecdsa.PrivateKey)(key), pkcs7.SignerInfoConfig{}); err != nil {
		return nil, err
	}
	message, err := m.Finish()
	if b.Damage != nil {
		message = b.Damage(message)
	}
	return message, err
}
