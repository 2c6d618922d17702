package device

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
)

// Device is one unit: its keys and the server it belongs to.
type Device struct {
	Serial string
	Store  KeyStore
	Client *Client
	// MQTT, if set, carries enrolment, renewal and activation in place of the
	// Client, which may then be nil.
	MQTT *MQTTClient
	// Prover, if set, proves the device at its first enrolment by its TPM, in
	// place of a bootstrap key. The store's keys must be in that TPM.
	Prover Prover
	// Kind of the official key; empty is P-256.
	Kind KeyKind
	// Root is the trust anchor that an official certificate must lead to, or to
	// one of Successors: roots that FollowRoots took up.
	Root       *x509.Certificate
	Successors []*x509.Certificate
	// CAs are the CA certificates it already has. Without them, or when a
	// certificate comes from another CA, it fetches the server's.
	CAs []*x509.Certificate
}

// PowerOn brings the unit to an official certificate and returns it. It does
// nothing if there is one, and finishes what a power cut interrupted. A held
// registration is a *PendingError: ask again after the time it says.
func (d *Device) PowerOn(ctx context.Context) (*Credential, error) {
	official, err := d.Store.Load(Official)
	if err == nil && official.Leaf() != nil {
		return official, nil
	}
	if err != nil && !errors.Is(err, ErrEmpty) {
		return nil, err
	}
	bootstrap, err := d.Store.Load(Bootstrap)
	if err != nil && !(errors.Is(err, ErrEmpty) && (d.coded() || d.Prover != nil)) {
		return nil, fmt.Errorf("bootstrap key: %w", err)
	}
	if pending, err := d.Store.Load(Pending); err == nil && pending.Leaf() != nil {
		return d.promote() // power was cut between keeping the certificate and using it
	}
	csr, err := d.Request()
	if err != nil {
		return nil, err
	}
	cert, err := d.enrol(ctx, bootstrap, csr)
	if err != nil {
		return nil, err
	}
	return d.Accept(ctx, cert)
}

// Request returns the request of a first enrolment, for a rig that sends it
// on the device's behalf. Asked again, it is for the same key.
func (d *Device) Request() ([]byte, error) {
	pending, err := d.pending()
	if err != nil {
		return nil, err
	}
	return NewCSR(pending.Key, d.Serial)
}

// Accept takes the certificate that came for [Device.Request], if it is for
// that key and leads to the root; otherwise it returns a *ReplyError.
func (d *Device) Accept(ctx context.Context, cert *x509.Certificate) (*Credential, error) {
	pending, err := d.Store.Load(Pending)
	if err != nil {
		return nil, fmt.Errorf("pending key: %w", err)
	}
	if !sameKey(pending.Key.Public(), cert.PublicKey) {
		return nil, &ReplyError{"simpleenroll", errors.New("the certificate is for another key")}
	}
	chain, err := d.chain(ctx, cert)
	if err != nil {
		return nil, err
	}
	if err := d.Store.Certify(Pending, chain); err != nil {
		return nil, err
	}
	return d.promote()
}

// pending returns the key that a certificate is being asked for; it is on
// the disk before it is used.
func (d *Device) pending() (*Credential, error) {
	c, err := d.Store.Load(Pending)
	if errors.Is(err, ErrEmpty) {
		return d.Store.Create(Pending, d.Kind)
	}
	return c, err
}

func (d *Device) promote() (*Credential, error) {
	if err := d.Store.Promote(); err != nil {
		return nil, err
	}
	return d.Store.Load(Official)
}

// Renew replaces the official certificate: on the same key, or with rekey on
// a new one. Interrupted, it is called again with the same rekey.
func (d *Device) Renew(ctx context.Context, rekey bool) (*Credential, error) {
	official, err := d.Store.Load(Official)
	if err != nil {
		return nil, fmt.Errorf("official key: %w", err)
	}
	if !rekey {
		return d.renewSameKey(ctx, official)
	}
	pending, err := d.pending()
	if err != nil {
		return nil, err
	}
	if pending.Leaf() != nil {
		return d.promote()
	}
	csr, err := RenewalCSR(pending.Key, official.Leaf())
	if err != nil {
		return nil, err
	}
	cert, err := d.another(ctx, official, pending.Key, csr)
	if err != nil {
		return nil, err
	}
	return d.Accept(ctx, cert)
}

func (d *Device) renewSameKey(ctx context.Context, official *Credential) (*Credential, error) {
	csr, err := RenewalCSR(official.Key, official.Leaf())
	if err != nil {
		return nil, err
	}
	cert, err := d.reenrol(ctx, official, csr)
	if err != nil {
		return nil, err
	}
	chain, err := d.chain(ctx, cert)
	if err != nil {
		return nil, err
	}
	if err := d.Store.Certify(Official, chain); err != nil {
		return nil, err
	}
	return d.Store.Load(Official)
}

// Use makes one authenticated request with the official certificate, which
// activates it.
func (d *Device) Use(ctx context.Context) error {
	official, err := d.Store.Load(Official)
	if err != nil {
		return fmt.Errorf("official key: %w", err)
	}
	if d.MQTT != nil {
		_, err := d.MQTT.Activate(ctx, official)
		return err
	}
	_, err = d.Client.CACerts(ctx, official)
	return err
}

// RenewalInfo asks when an official certificate should be renewed.
func (d *Device) RenewalInfo(ctx context.Context, c *Credential) (*RenewalInfo, error) {
	if d.MQTT != nil {
		return d.MQTT.Activate(ctx, c)
	}
	return d.Client.RenewalInfo(ctx, c.Leaf())
}

// coded reports whether a code stands for the bootstrap key.
func (d *Device) coded() bool { return d.MQTT == nil && d.Client.Login != nil }

func (d *Device) enrol(ctx context.Context, by *Credential, csr []byte) (*x509.Certificate, error) {
	if d.Prover != nil {
		pending, err := d.Store.Load(Pending)
		if err != nil {
			return nil, fmt.Errorf("pending key: %w", err)
		}
		return d.prove(ctx, nil, pending.Key, csr)
	}
	if d.MQTT == nil {
		return d.Client.Enrol(ctx, by, csr)
	}
	return d.keepCAs(d.MQTT.Enrol(ctx, by, csr))
}

// another asks for a certificate on another key: with the TPM's word on that, if
// the device proves itself by its TPM.
func (d *Device) another(ctx context.Context, by *Credential, key crypto.Signer, csr []byte) (*x509.Certificate, error) {
	if d.Prover != nil && d.MQTT == nil { // over MQTT there is no such message
		return d.prove(ctx, by, key, csr)
	}
	return d.reenrol(ctx, by, csr)
}

func (d *Device) reenrol(ctx context.Context, by *Credential, csr []byte) (*x509.Certificate, error) {
	if d.MQTT == nil {
		return d.Client.Reenrol(ctx, by, csr)
	}
	return d.keepCAs(d.MQTT.Renew(ctx, by, csr))
}

// keepCAs keeps the CA certificates that came with a certificate. That they
// lead to the root is yet to be seen.
func (d *Device) keepCAs(cert *x509.Certificate, cas []*x509.Certificate, err error) (*x509.Certificate, error) {
	if err == nil {
		d.CAs = cas
	}
	return cert, err
}
