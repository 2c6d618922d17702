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
	Store            device.KeyStore
	// Listed is the fingerprint that the manifest gives for its bootstrap
	// key; a wrong one makes a bad record.
	Listed string
	// Code, if set, is the enrolment code on its label.
	Code string
	// Replays, if set, is the request of another device, caught on the wire,
	// that this unit sends instead of one of its own.
	Replays []byte
}

// Factory builds units of one product.
type Factory struct {
	// Prefix begins every serial number; Block distinguishes the MAC
	// addresses and UIDs of factories that share a server.
	Prefix string
	Block  byte
	Now    func() time.Time
	// Stores makes the key store of a unit; nil keeps keys in memory.
	Stores func(serial string) (device.KeyStore, error)
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

func (f Factory) unit(n int) (u *Unit, err error) {
	u = &Unit{
		Serial: fmt.Sprintf("%s%06d", f.Prefix, n),
		MAC:    fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", f.Block, byte(n>>24), byte(n>>16), byte(n>>8), byte(n)),
		UID:    fmt.Sprintf("%02x%014x", f.Block, n),
		Store:  new(device.MemoryStore),
	}
	if f.Stores != nil {
		if u.Store, err = f.Stores(u.Serial); err != nil {
			return nil, err
		}
	}
	return u, f.key(u)
}

// key makes a unit's bootstrap key, and lists it.
func (f Factory) key(u *Unit) error {
	c, err := device.MakeBootstrap(u.Store, u.Serial, device.P256, f.Now())
	if err != nil {
		return err
	}
	u.Listed, err = device.Fingerprint(c.Key.Public())
	return err
}

// ReadManifest reads the identities that a manifest of this package lists,
// for units whose keys are kept elsewhere.
func ReadManifest(manifest []byte) ([]*Unit, error) {
	var units []*Unit
	d := json.NewDecoder(bytes.NewReader(manifest))
	for d.More() {
		var r record
		if err := d.Decode(&r); err != nil {
			return nil, fmt.Errorf("manifest, record %d: %w", len(units)+1, err)
		}
		units = append(units, &Unit{Serial: r.Serial, MAC: r.MAC, UID: r.UID, Listed: r.BootstrapKey})
	}
	return units, nil
}

// record is a manifest line.
type record struct {
	Serial           string    `json:"serial"`
	MAC              string    `json:"mac"`
	UID              string    `json:"uid"`
	BootstrapKey     string    `json:"bootstrapKey"`
	HardwareRevision string    `json:"hardwareRevision"`
	Firmware         string    `json:"firmware"`
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
		_ = e.Encode(record{u.Serial, u.MAC, u.UID, u.Listed, "A1", "1.4.2", "line-1", "rig-1", f.Now().UTC().Truncate(time.Second),
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
