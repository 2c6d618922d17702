package device

import (
	"bytes"
	"context"
	"crypto/x509"
	"time"
)

// FollowRoots asks the server for its CA certificates and trusts, from now on,
// also the roots that one which the device trusts already vouches for by a
// certificate of their name and key: the new root of a change of the root's
// key (RFC 7030 §4.1.3, RFC 4210 §4.4). It returns those that are new. If
// the store is a [RootStore], it keeps them before they are trusted, and
// [Device.RecallRoots] finds them when the device is made again; otherwise the
// caller keeps them and gives them as Successors then. The old root stays
// trusted: the change may be taken back.
func (d *Device) FollowRoots(ctx context.Context) ([]*x509.Certificate, error) {
	fresh, err := d.NewRoots(ctx)
	if err == nil {
		err = d.keepRoots(fresh)
	}
	if err != nil {
		return nil, err
	}
	d.Succeed(fresh)
	return fresh, nil
}

// NewRoots are the roots that [Device.FollowRoots] would trust. Over MQTT they
// are among those that came with the last certificate.
func (d *Device) NewRoots(ctx context.Context) ([]*x509.Certificate, error) {
	cas := d.CAs
	if d.MQTT == nil {
		var err error
		if cas, err = d.Client.CACerts(ctx, nil); err != nil {
			return nil, err
		}
	}
	return successors(d.roots(), cas, d.now()), nil
}

// Succeed trusts roots from now on, beside those before.
func (d *Device) Succeed(roots []*x509.Certificate) {
	d.Successors = append(d.Successors, roots...)
	if d.MQTT != nil {
		d.MQTT.Roots = with(d.MQTT.Roots, roots)
	} else {
		d.Client.Roots = with(d.Client.Roots, roots)
	}
}

// with is a pool with roots added; it leaves the pool, which others may use,
// as it is.
func with(pool *x509.CertPool, roots []*x509.Certificate) *x509.CertPool {
	if pool == nil || len(roots) == 0 {
		return pool
	}
	pool = pool.Clone()
	for _, root := range roots {
		pool.AddCert(root)
	}
	return pool
}

// roots are the trust anchors of official certificates.
func (d *Device) roots() []*x509.Certificate {
	return append([]*x509.Certificate{d.Root}, d.Successors...)
}

// successors are the roots among cas that a trusted one vouches for.
func successors(trusted, cas []*x509.Certificate, now time.Time) (fresh []*x509.Certificate) {
	for _, root := range cas {
		if isRoot(root, now) && !contains(trusted, root) && vouched(root, trusted, cas, now) {
			fresh = append(fresh, root)
		}
	}
	return fresh
}

func isRoot(c *x509.Certificate, now time.Time) bool {
	return c.IsCA && current(c, now) && bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(c) == nil
}

func current(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}

func contains(list []*x509.Certificate, c *x509.Certificate) bool {
	for _, have := range list {
		if have.Equal(c) {
			return true
		}
	}
	return false
}

// vouched reports whether a trusted root of the same name signed a
// certificate for the root's key.
func vouched(root *x509.Certificate, trusted, cas []*x509.Certificate, now time.Time) bool {
	for _, cross := range cas {
		if !cross.IsCA || !current(cross, now) || !bytes.Equal(cross.RawSubject, root.RawSubject) || !bytes.Equal(cross.RawSubjectPublicKeyInfo, root.RawSubjectPublicKeyInfo) {
			continue
		}
		for _, by := range trusted {
			if current(by, now) && bytes.Equal(by.RawSubject, root.RawSubject) && cross.CheckSignatureFrom(by) == nil {
				return true
			}
		}
	}
	return false
}
