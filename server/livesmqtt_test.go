package server

import (
	"crypto"
	"crypto/x509"
	"fmt"
)

// mqttDoor is MQTT with messages that the device signs.
func (l *lives) mqttDoor() entry {
	return entry{
		name: "mqtt",
		enrol: func(d *lived, key crypto.Signer) answered {
			return l.messaged(d.boot, "enrol", l.csr(key, x509.CertificateRequest{}))
		},
		renew: func(by *grant, key crypto.Signer) answered {
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
	r := l.replied(l.mqtt(p, "device").answerTo(branchOf(p)+"/request", l.signed(p, l.now(), fields), branchOf(p)+"/reply"))
	return l.answered(r.Status, r.Certificate, r.Text)
}

// provisioningDoor is MQTT in the shape of fleet provisioning.
func (l *lives) provisioningDoor() entry {
	return entry{
		name: "provisioning",
		enrol: func(d *lived, key crypto.Signer) answered {
			return l.answered(l.created(d.boot, l.csr(key, x509.CertificateRequest{})))
		},
		renew: func(by *grant, key crypto.Signer) answered {
			return l.answered(l.created(by.pair, l.renewal(by, key)))
		},
	}
}

func (l *lives) answered(status int, der []byte, text string) answered {
	if der == nil {
		return answered{text: fmt.Sprint(status, " ", text)}
	}
	return answered{cert: parsed(l.t, der)}
}
