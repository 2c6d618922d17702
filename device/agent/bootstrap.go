package agent

import (
	"time"

	"github.com/touchmark/touchmark/device"
)

// Record is a line of a manifest.
type Record struct {
	Serial       string `json:"serial"`
	BootstrapKey string `json:"bootstrapKey,omitempty"` // fingerprint
}

// Bootstrap makes what the device proves itself by at first, and returns what a
// manifest should say about it.
func (s *Service) Bootstrap() (*Record, error) {
	c, err := device.MakeBootstrap(s.store, s.config.Serial, s.config.KeyType, time.Now())
	if err != nil {
		return nil, err
	}
	key, err := device.Fingerprint(c.Key.Public())
	return &Record{Serial: s.config.Serial, BootstrapKey: key}, err
}
