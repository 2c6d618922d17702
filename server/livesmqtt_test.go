package server

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
)

// mqttDoor is MQTT with messages that the device signs.
func (l *lives) mqttDoor() entry {
	return entry{
		name: "mqtt",
		enrol: func(d *lived, key *ecdsa.PrivateKey) answered {
			return l.messaged(d.boot, "enrol", l.csr(key, x509.CertificateRequest{}))
		},
		renew: func(by *grant, key *ecdsa.PrivateKey) answered {
			return l.messaged(by.pair, "renew", l.renewal(by, key))
		},
		use: func(by *grant) { l.messaged(by.pair, "activate", nil) },
	}
}

// messaged publishes a signed message; csr is nil if the operation has none.
func (l *lives) messaged(p pair, operation string, csr []byte) answered {
	fields := map[string]any{"operation": operation, "nonce": fmt.Sprintf("%s-%d", nonce1, l.rand.Uint64()), "reply": branchOf(p) + "/reply"}
	if csr != nil {
		fields["csr"] = csr
	}
	r := l.replied(l.published(p, branchOf(p)+"/request", l.signed(p, l.now(), fields), branchOf(p)+"/reply"))
	if r.Certificate == nil {
		return answered{text: fmt.Sprint(r.Status, " ", r.Text)}
	}
	return answered{cert: parsed(l.t, r.Certificate)}
}

// provisioningDoor is MQTT in the shape of fleet provisioning.
func (l *lives) provisioningDoor() entry {
	return entry{
		name: "provisioning",
		enrol: func(d *lived, key *ecdsa.PrivateKey) answered {
			return l.created(d.boot, l.csr(key, x509.CertificateRequest{}))
		},
		renew: func(by *grant, key *ecdsa.PrivateKey) answered {
			return l.created(by.pair, l.renewal(by, key))
		},
	}
}

// created calls create-from-csr.
func (l *lives) created(p pair, csr []byte) answered {
	in, err := json.Marshal(map[string]string{"certificateSigningRequest": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))})
	if err != nil {
		l.t.Fatal(err)
	}
	const topic = "$aws/certificates/create-from-csr/json"
	text := l.published(p, topic, in, topic+"/accepted", topic+"/rejected")
	var out struct {
		PEM string `json:"certificatePem"`
	}
	if err := json.Unmarshal(text, &out); err != nil {
		l.t.Fatalf("%v in %s", err, text)
	}
	block, _ := pem.Decode([]byte(out.PEM))
	if block == nil {
		return answered{text: string(text)}
	}
	return answered{cert: parsed(l.t, block.Bytes)}
}

// published gives the one answer to a message, which comes on one of the
// topics for replies.
func (l *lives) published(p pair, topic string, message []byte, replies ...string) []byte {
	c := l.mqtt(p, "device")
	defer c.Close()
	for _, reply := range replies {
		if code := c.subscribe(reply); code != 1 {
			l.t.Fatalf("SUBSCRIBE %s: %#x", reply, code)
		}
	}
	answers, cut := c.publish(topic, message)
	if cut || len(answers) != 1 {
		l.t.Fatalf("%d answers to what was sent to %s, cut off: %v", len(answers), topic, cut)
	}
	return answers[0]
}
