package enroll

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid"
)

// Authorities tells whose certificate it is. internal/ca implements it.
type Authorities interface {
	// VerifyDevice checks that a device CA issued the certificate and that
	// its time had come and not run out then; VerifyFactory the same for the
	// factory CA.
	VerifyDevice(cert *x509.Certificate, at time.Time) error
	VerifyFactory(cert *x509.Certificate, at time.Time) error
	// OfDevice and OfFactory report whether the certificate names that CA
	// as its issuer, genuine or not.
	OfDevice(cert *x509.Certificate) bool
	OfFactory(cert *x509.Certificate) bool
}

// Operators finds the holder of a key; a vetting.NotFound error if none.
type Operators interface {
	OperatorByKey(ctx context.Context, key vetting.Fingerprint) (*access.Operator, error)
}

// Vendors finds the products that trust the chain of a vendor's certificate,
// the device's own first. A *vendorid.Rejection says why none does.
type Vendors interface {
	Matches(ctx context.Context, chain []*x509.Certificate) ([]vetting.VendorMatch, error)
}

// AuthError says why a client certificate does not count.
type AuthError struct{ Reason string }

func (e *AuthError) Error() string { return e.Reason }

// ProofError says that a proof is too old, or was not asked for by this
// server: its holder begins anew.
type ProofError struct{ Reason string }

func (e *ProofError) Error() string { return e.Reason }

func authError(format string, args ...any) error {
	return &AuthError{fmt.Sprintf(format, args...)}
}

// Authenticator tells from a client certificate who speaks. The TLS
// handshake has proved that the client holds its key.
type Authenticator struct {
	Authorities Authorities
	Operators   Operators
	Vendors     Vendors
	Now         func() time.Time
}

// Client is who speaks: the certificate and what it amounts to.
type Client struct {
	Certificate *x509.Certificate
	Auth        vetting.Auth
	// Asserted is the identity that a bootstrap certificate states.
	Asserted vetting.Identity
	// Vendors are those that trust a vendor's certificate, by product.
	Vendors []vetting.VendorMatch
	// Expired says that an official certificate ran out. It counts for
	// nothing but a renewal, which vetting judges.
	Expired bool
}

// Identify tells a bootstrap certificate, an official certificate, a rig's
// and a vendor's apart. Any other is an *AuthError. With issuers come the
// certificates that the client presented beside its own; they count for a
// vendor's only.
func (a *Authenticator) Identify(ctx context.Context, cert *x509.Certificate, issuers ...*x509.Certificate) (Client, error) {
	c := Client{Certificate: cert, Auth: vetting.Auth{Key: vetting.KeyFingerprint(cert.RawSubjectPublicKeyInfo)}}
	switch {
	case a.Authorities.OfDevice(cert):
		at := a.Now()
		if c.Expired = at.After(cert.NotAfter); c.Expired {
			at = cert.NotAfter
		}
		if err := a.Authorities.VerifyDevice(cert, at); err != nil {
			return c, authError("the official certificate does not count: %v", err)
		}
		c.Auth.Proof, c.Auth.Certificate = vetting.ProofOfficial, SerialHex(cert)
		return c, nil
	case a.Authorities.OfFactory(cert):
		return a.rig(ctx, c)
	case bytes.Equal(cert.RawIssuer, cert.RawSubject):
		return bootstrap(c)
	default:
		return a.vendor(ctx, c, issuers)
	}
}

// bootstrap takes a self-signed certificate. Its signature is not checked:
// the handshake has proved that the peer holds the key, and that is all that
// counts; the names are assertions whoever signed them.
func bootstrap(c Client) (Client, error) {
	if _, err := KeyKind(c.Certificate.PublicKey); err != nil {
		return c, authError("the bootstrap certificate's key: %v", err)
	}
	id, err := AssertedIdentity(c.Certificate.Subject.Names)
	if err != nil {
		return c, authError("the bootstrap certificate's subject: %v", err)
	}
	c.Auth.Proof, c.Asserted = vetting.ProofBootstrapKey, id
	return c, nil
}

// vendor takes a certificate of a vendor that products trust. Which product it
// is for shows when the device's record is found.
func (a *Authenticator) vendor(ctx context.Context, c Client, issuers []*x509.Certificate) (_ Client, err error) {
	c.Vendors, err = a.Vendors.Matches(ctx, append([]*x509.Certificate{c.Certificate}, issuers...))
	rejection := new(vendorid.Rejection)
	switch {
	case errors.As(err, &rejection) && rejection.Stranger:
		return c, authError("the certificate was issued by %q, which is no CA of this server, and neither is it of a vendor that a product trusts: present the self-signed bootstrap certificate, a vendor's, an official certificate or a rig's", c.Certificate.Issuer)
	case errors.As(err, &rejection):
		return c, authError("%v", rejection)
	case err != nil:
		return c, err
	}
	if _, err := KeyKind(c.Certificate.PublicKey); err != nil {
		return c, authError("the vendor certificate's key: %v", err)
	}
	c.Auth.Proof = vetting.ProofVendor
	return c, nil
}

func (a *Authenticator) rig(ctx context.Context, c Client) (Client, error) {
	if err := a.Authorities.VerifyFactory(c.Certificate, a.Now()); err != nil {
		return c, authError("the rig's certificate does not count: %v", err)
	}
	if !isRA(c.Certificate) {
		return c, authError("the certificate of %q is not a registration authority's (extKeyUsage id-kp-cmcRA, RFC 7030 §3.7): only rigs enrol for devices", c.Certificate.Subject.CommonName)
	}
	o, err := a.Operators.OperatorByKey(ctx, c.Auth.Key)
	switch {
	case vetting.ProblemOf(err) == vetting.NotFound:
		return c, authError("no rig is known by the key of this certificate: it was replaced or never registered")
	case err != nil:
		return c, err
	case o.Role != access.RoleRig || !o.Revoked.IsZero():
		return c, authError("%s is not an active rig: its role is %s, revoked at %v", o.Name, o.Role, o.Revoked)
	}
	c.Auth.Proof, c.Auth.Operator, c.Auth.Site = vetting.ProofRig, o.Name, o.Site
	return c, nil
}

var (
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidSerialNumber = asn1.ObjectIdentifier{2, 5, 4, 5}
	oidCMCRA        = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 28}
)

func isRA(cert *x509.Certificate) bool {
	for _, oid := range cert.UnknownExtKeyUsage {
		if oid.Equal(oidCMCRA) {
			return true
		}
	}
	return false
}

// SerialHex is a certificate's serial number as the store keeps it: an even
// number of lower-case hexadecimal digits.
func SerialHex(cert *x509.Certificate) string { return fmt.Sprintf("%x", cert.SerialNumber.Bytes()) }
