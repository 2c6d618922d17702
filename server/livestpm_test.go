package server

import (
	"crypto"
	"encoding/json"
	"fmt"

	"github.com/touchmark/touchmark/enroll/attest/attesttest"
	"github.com/touchmark/touchmark/internal/swtpm"
	"github.com/touchmark/touchmark/vetting"
)

// newTPM makes the TPM of a device.
func (l *lives) newTPM() *attesttest.Device {
	return attesttest.New(l.t, swtpm.New(l.t), attesttest.P256)
}

// tpmDoor is for devices with a TPM, which certify its one key.
func (l *lives) tpmDoor() entry {
	l.product(func(p *vetting.Product) { p.Proofs = append(p.Proofs, vetting.ProofTPM) })
	w := &tpmWorld{l.works}
	return entry{
		name: "tpm",
		open: func(d *lived) bool { return d.tpm != nil },
		enrol: func(d *lived, _ crypto.Signer) answered {
			code, _, body := w.posts("enrol", w.proves(d.tpm))
			var answer struct{ Certificate []byte }
			if code != 200 {
				return answered{text: fmt.Sprint(code, " ", body)}
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil {
				l.t.Fatalf("%v in %s", err, body)
			}
			return answered{cert: parsed(l.t, answer.Certificate), key: d.tpm.Key}
		},
	}
}
