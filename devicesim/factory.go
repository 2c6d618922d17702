package devicesim

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/smallstep/pkcs7"
	"github.com/touchmark/touchmark/device"
)

// Unit is one device as the factory built it.
type Unit struct {
	Serial, MAC, UID string
	Store            *device.MemoryStore
	// Listed is the fingerprint that the manifest gives for its bootstrap
	// key; a wrong one makes a bad record.
	Listed string
}

// Factory builds units of one product.
type Factory struct {
	// Prefix begins every serial number; Block distinguishes the MAC
	// addresses and UIDs of factories that share a server.
	Prefix string
	Block  byte
	Now    func() time.Time
}

// Build makes units number from (included) to to (excluded), each with its
// bootstrap key.
func (f Factory) Build(from, to int) ([]*Unit, error) {
	units := make([]*Unit, to-from)
	errs := make([]error, len(units))
	var wg sync.WaitGroup
	lanes := runtime.GOMAXPROCS(0)
	for lane := range lanes {
		wg.Go(func() {
			for i := lane; i < len(units); i += lanes {
				units[i], errs[i] = f.unit(from + i)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return units, nil
}

func (f Factory) unit(n int) (*Unit, error) {
	u := &Unit{
		Serial: fmt.Sprintf("%s%06d", f.Prefix, n),
		MAC:    fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", f.Block, byte(n>>24), byte(n>>16), byte(n>>8), byte(n)),
		UID:    fmt.Sprintf("%02x%014x", f.Block, n),
		Store:  new(device.MemoryStore),
	}
	c, err := device.MakeBootstrap(u.Store, u.Serial, device.P256, f.Now())
	if err != nil {
		return nil, err
	}
	u.Listed, err = device.Fingerprint(c.Key.Public())
	return u, err
}

// record is a manifest line.
type record struct {
	Serial           string    `json:"serial"`
	MAC              string    `json:"mac"`
	UID              string    `json:"uid"`
	BootstrapKey     string    `json:"bootstrapKey"`
	HardwareRevision string    `json:"hardwareRevision"`
	Line             string    `json:"line"`
	Rig              string    `json:"rig"`
	Time             time.Time `json:"time"`
	Tests            any       `json:"tests"`
}

// Manifest is the JSON Lines file that lists units.
func (f Factory) Manifest(units []*Unit) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for _, u := range units {
		_ = e.Encode(record{u.Serial, u.MAC, u.UID, u.Listed, "A1", "line-1", "rig-1", f.Now().UTC().Truncate(time.Second),
			map[string]any{"boot": "pass", "radio": "pass"}}) // a buffer takes everything
	}
	return b.Bytes()
}

// Sign makes a detached CMS signature (RFC 5652) over a manifest.
func Sign(manifest []byte, cert *x509.Certificate, key crypto.Signer) ([]byte, error) {
	sd, err := pkcs7.NewSignedData(manifest)
	if err != nil {
		return nil, fmt.Errorf("sign the manifest: %w", err)
	}
	sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := sd.AddSigner(cert, key, pkcs7.SignerInfoConfig{}); err != nil {
		return nil, fmt.Errorf("sign the manifest: %w", err)
	}
	sd.Detach()
	return sd.Finish()
}
