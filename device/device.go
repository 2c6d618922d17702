package device

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
)

// Device is one unit: its keys and the server it belongs to.
type Device struct {
	Serial string
	Store  KeyStore
	Client *Client
	// Kind of the official key; empty is P-256.
	Kind KeyKind
	// Root is the trust anchor that an official certificate must lead to.
	Root *x509.Certificate
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
	if err != nil {
		return nil, fmt.Errorf("bootstrap key: %w", err)
	}
	pending, err := d.pending(true)
	if err != nil {
		return nil, err
	}
	if pending.Leaf() == nil {
		csr, err := NewCSR(pending.Key, d.Serial)
		if err != nil {
			return nil, err
		}
		cert, err := d.Client.Enrol(ctx, bootstrap, csr)
		if err != nil {
			return nil, err
		}
		if err := d.accept(ctx, cert); err != nil {
			return nil, err
		}
	}
	return d.promote()
}

// pending returns the key that a certificate is being asked for; it is on
// the disk before it is used.
func (d *Device) pending(fresh bool) (*Credential, error) {
	c, err := d.Store.Load(Pending)
	if errors.Is(err, ErrEmpty) && fresh {
		return d.Store.Create(Pending, d.Kind)
	}
	return c, err
}

// accept keeps a certificate once it leads to the root.
func (d *Device) accept(ctx context.Context, cert *x509.Certificate) error {
	chain, err := d.chain(ctx, cert)
	if err != nil {
		return err
	}
	return d.Store.Certify(Pending, chain)
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
	pending, err := d.pending(true)
	if err != nil {
		return nil, err
	}
	if pending.Leaf() == nil {
		csr, err := RenewalCSR(pending.Key, official.Leaf())
		if err != nil {
			return nil, err
		}
		cert, err := d.Client.Reenrol(ctx, official, csr)
		if err != nil {
			return nil, err
		}
		if err := d.accept(ctx, cert); err != nil {
			return nil, err
		}
	}
	return d.promote()
}

func (d *Device) renewSameKey(ctx context.Context, official *Credential) (*Credential, error) {
	csr, err := RenewalCSR(official.Key, official.Leaf())
	if err != nil {
		return nil, err
	}
	cert, err := d.Client.Reenrol(ctx, official, csr)
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
	_, err = d.Client.CACerts(ctx, official)
	return err
}
