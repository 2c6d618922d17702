package device

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"sync"
)

// Slot is a place for one key and its certificate.
type Slot string

const (
	// Bootstrap holds the key made on the line with its self-signed
	// certificate.
	Bootstrap Slot = "bootstrap"
	// Pending holds a key for which a certificate was or will be asked.
	Pending Slot = "pending"
	// Official holds the key that the device works with.
	Official Slot = "official"
)

// ErrEmpty says that a slot holds no key.
var ErrEmpty = errors.New("the slot holds no key")

// Credential is a key and, once there is one, its certificate.
type Credential struct {
	Key crypto.Signer
	// Chain is the certificate followed by the CA certificates between it
	// and the root; empty if there is only a key.
	Chain []*x509.Certificate

	block *pem.Block // what a Keyring finds the key by; nil for a key in memory
}

// Leaf is the key's own certificate, or nil.
func (c *Credential) Leaf() *x509.Certificate {
	if c == nil || len(c.Chain) == 0 {
		return nil
	}
	return c.Chain[0]
}

// TLS is the credential in the form that crypto/tls wants.
func (c *Credential) TLS() *tls.Certificate {
	cert := &tls.Certificate{PrivateKey: c.Key, Leaf: c.Leaf()}
	for _, x := range c.Chain {
		cert.Certificate = append(cert.Certificate, x.Raw)
	}
	return cert
}

// KeyStore keeps a device's keys over power cuts.
//
// When a method returns nil, its effect is durable. When it returns an error
// or power is lost during the call, the effect has either happened entirely
// or not at all; no slot is ever left with half a key or with a certificate
// of another key. One device uses a store at a time.
type KeyStore interface {
	// Load returns what a slot holds, or ErrEmpty.
	Load(Slot) (*Credential, error)
	// Create makes a key in a slot, in place of whatever it held.
	Create(Slot, KeyKind) (*Credential, error)
	// Certify puts a chain beside the key of a slot, in place of the one
	// before. It fails if the first certificate is not for that key.
	Certify(Slot, []*x509.Certificate) error
	// Promote makes the pending key with its chain the official one and
	// empties the pending slot, in one step. It fails if the pending key has
	// no certificate.
	Promote() error
	// Drop empties a slot; an empty one stays so.
	Drop(Slot) error
}

var errNoPromotion = errors.New("the pending key has no certificate, so it cannot become the official one")

func checkFits(key crypto.Signer, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("an empty certificate chain certifies nothing")
	}
	if !sameKey(key.Public(), chain[0].PublicKey) {
		return errors.New("the certificate is for another key than the slot holds")
	}
	return nil
}

// MemoryStore is a [KeyStore] that lives as long as the process: for fleets
// of simulated devices. The zero value is empty and ready.
type MemoryStore struct {
	mu    sync.Mutex
	slots map[Slot]Credential
}

// Load implements [KeyStore].
func (m *MemoryStore) Load(s Slot) (*Credential, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.slots[s]
	if !ok {
		return nil, ErrEmpty
	}
	return &c, nil
}

// Create implements [KeyStore].
func (m *MemoryStore) Create(s Slot, kind KeyKind) (*Credential, error) {
	key, err := kind.generate()
	if err != nil {
		return nil, err
	}
	c := Credential{Key: key}
	m.Put(s, c)
	return &c, nil
}

// Put fills a slot with a given credential, as a cloner does who read out
// another device.
func (m *MemoryStore) Put(s Slot, c Credential) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.slots == nil {
		m.slots = make(map[Slot]Credential, 2)
	}
	m.slots[s] = c
}

// Certify implements [KeyStore].
func (m *MemoryStore) Certify(s Slot, chain []*x509.Certificate) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.slots[s]
	if !ok {
		return ErrEmpty
	}
	if err := checkFits(c.Key, chain); err != nil {
		return err
	}
	c.Chain = chain
	m.slots[s] = c
	return nil
}

// Promote implements [KeyStore].
func (m *MemoryStore) Promote() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.slots[Pending]
	switch {
	case !ok:
		return ErrEmpty
	case len(c.Chain) == 0:
		return errNoPromotion
	}
	m.slots[Official] = c
	delete(m.slots, Pending)
	return nil
}

// Drop implements [KeyStore].
func (m *MemoryStore) Drop(s Slot) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.slots, s)
	return nil
}
