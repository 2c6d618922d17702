package offline

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Why a certificate must not be taken for good.
var (
	// ErrNotGood is a certificate that is revoked or on hold.
	ErrNotGood = errors.New("the certificate is revoked or on hold")
	// ErrExpired is one that has run out.
	ErrExpired = errors.New("the certificate has run out")
	// ErrNotCovered is one that may have been issued after the filter was
	// made: get a newer filter.
	ErrNotCovered = errors.New("the filter does not cover the certificate")
	// ErrOutdated is a filter whose time is over: get a newer one.
	ErrOutdated = errors.New("the filter is outdated")
	// ErrOtherIssuer is a certificate that the filter's CA did not issue.
	ErrOtherIssuer = errors.New("the certificate is not of the filter's issuing CA")
)

// clockError is how far ahead of this machine's clock the server's may be.
const clockError = 5 * time.Minute

// Check returns nil only if the certificate was issued by the filter's CA, has
// not run out, and is neither revoked nor on hold; otherwise one of the errors
// above, wrapped, that says what to do.
func (f *Filter) Check(cert *x509.Certificate, now time.Time) error {
	h := f.Header()
	if err := f.issued(cert); err != nil {
		return err
	}
	if now.After(cert.NotAfter) || h.ThisUpdate.After(cert.NotAfter) {
		return fmt.Errorf("%w, at %s", ErrExpired, cert.NotAfter.Format(time.RFC3339))
	}
	covered := !cert.NotBefore.After(h.CoversUntil)
	// What an outdated filter knows against a certificate still counts.
	if covered && f.NotGood(cert.SerialNumber.Bytes()) {
		return ErrNotGood
	}
	if err := f.InForce(now); err != nil || covered {
		return err
	}
	return fmt.Errorf("%w: it covers certificates until %s, this one is from %s: get a newer filter", ErrNotCovered, h.CoversUntil.Format(time.RFC3339), cert.NotBefore.Format(time.RFC3339))
}

// InForce returns ErrOutdated if the filter's time is over, or has not come.
func (f *Filter) InForce(now time.Time) error {
	switch h := f.Header(); {
	case h.ThisUpdate.After(now.Add(clockError)):
		return fmt.Errorf("%w: it was made at %s, later than now: look at this machine's clock", ErrOutdated, h.ThisUpdate.Format(time.RFC3339))
	case now.After(h.NextUpdate):
		return fmt.Errorf("%w since %s: get a newer one", ErrOutdated, h.NextUpdate.Format(time.RFC3339))
	}
	return nil
}

// issued refuses a certificate that the filter's CA did not sign.
func (f *Filter) issued(cert *x509.Certificate) error {
	switch {
	case !bytes.Equal(cert.RawIssuer, f.issuer.RawSubject):
		return fmt.Errorf("%w: it names %q, the filter is of %q", ErrOtherIssuer, cert.Issuer, f.issuer.Subject)
	case len(cert.AuthorityKeyId) > 0 && len(f.issuer.SubjectKeyId) > 0 && !bytes.Equal(cert.AuthorityKeyId, f.issuer.SubjectKeyId):
		return fmt.Errorf("%w: it names another key of %q", ErrOtherIssuer, cert.Issuer)
	}
	if err := cert.CheckSignatureFrom(f.issuer); err != nil {
		return fmt.Errorf("%w: %v", ErrOtherIssuer, err)
	}
	return nil
}
