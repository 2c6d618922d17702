//go:build pkcs11

package main

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/mqtttest"
)

// askOverMQTT has a device ask for a certificate by a signed message.
func (d *device) askOverMQTT(t *testing.T, w *world) (status, retryAfter int) {
	t.Helper()
	r := opened(t, d.publish(t, w, d.branch()+"/request", d.message(t), d.branch()+"/reply"))
	return r.Status, r.RetryAfter
}

// askToProvision has a device ask in the shape of fleet provisioning.
func (d *device) askToProvision(t *testing.T, w *world) (status int) {
	t.Helper()
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: d.request(t)})
	in, err := json.Marshal(map[string]string{"certificateSigningRequest": string(csr)})
	if err != nil {
		t.Fatal(err)
	}
	const topic = "$aws/certificates/create-from-csr/json"
	answer := d.publish(t, w, topic, in, topic+"/accepted", topic+"/rejected")
	return decodeAs[struct{ StatusCode int }](t, string(answer)).StatusCode
}

// publish gives the answer to a message.
func (d *device) publish(t *testing.T, w *world, topic string, message []byte, replies ...string) []byte {
	t.Helper()
	conn, err := tls.Dial("tcp", w.server.Addr["mqtt"], &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{d.bootstrap}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := mqtttest.New(conn)
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if code, err := c.Connect("device", mqtttest.CleanSession, 0); err != nil || code != 0 {
		t.Fatalf("CONNECT was answered %d, %v", code, err)
	}
	for _, reply := range replies {
		if code, err := c.Subscribe(reply); err != nil || code == mqtttest.SubscriptionRefused {
			t.Fatalf("SUBSCRIBE %s was answered %#x, %v", reply, code, err)
		}
	}
	if err := c.Publish(topic, message); err != nil {
		t.Fatal(err)
	}
	for {
		kind, body, err := c.Receive()
		if err != nil {
			t.Fatalf("no answer to what was sent to %s: %v", topic, err)
		}
		if m, ok := mqtttest.Published(kind, body); ok {
			return m.Payload
		}
	}
}
