package agent

import (
	"time"

	"github.com/touchmark/touchmark/device"
)

// Record is a line of a manifest.
type Record struct {
	Serial       string `json:"serial"`
	BootstrapKey string `json:"bootstrapKey,omitempty"` // fingerprint
	EKHash       string `json:"ekHash,omitempty"`       // fingerprint of the TPM's endorsement key
}

// Bootstrap makes what the device proves itself by at first, and returns what a
// manifest should say about it.
func (s *Service) Bootstrap() (r *Record, err error) {
	r = &Record{Serial: s.config.Serial}
	if s.config.Proof == ProofTPM {
		ek, err := s.store.TPM.ReadEK()
		if err != nil {
			return nil, err
		}
		r.EKHash, err = device.Fingerprint(ek.Public)
		return r, err
	}
	c, err := device.MakeBootstrap(s.store, s.config.Serial, s.config.KeyType, time.Now())
	if err != nil {
		return nil, err
	}
	r.BootstrapKey, err = device.Fingerprint(c.Key.Public())
	return r, err
}
