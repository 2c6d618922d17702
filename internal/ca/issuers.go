package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/vetting"
)

// issuer is one CA below the root.
type issuer struct {
	Authority        // its Signer is nil if the key could not be opened
	id        int64  // in the database; 0 is one that is only a file
	name      string // of its owners; the device CA's is DeviceName
	purpose   vetting.Purpose
	serials   Serials // of devices' certificates only
	state     vetting.IssuingState
	lost      error // why there is no Signer
	foreign   error // why it counts for nothing: it is not below the root

	signing tried
}

// issuers are the CAs below the root, those of files first. They do not
// change; another set takes their place.
type issuers struct {
	all       []*issuer
	list      []*issuer          // those that issue to devices, the device CA first
	byName    map[string]*issuer // of list; the default also as ""
	bySubject map[string]*issuer // of list, by the DER of the name
}

func newIssuers(all []*issuer) *issuers {
	s := &issuers{all: all, byName: map[string]*issuer{}, bySubject: map[string]*issuer{}}
	s.byName[""] = all[0]
	for _, i := range all {
		if i.purpose != vetting.ForDevices {
			continue
		}
		s.list = append(s.list, i)
		s.byName[i.name], s.bySubject[string(i.Certificate.RawSubject)] = i, i
		if i.state == vetting.IssuingDefault {
			s.byName[""] = i
		}
	}
	return s
}

// named is the CA of a name, whatever it is for; nil if there is none.
func (s *issuers) named(name string) *issuer {
	if n := slices.IndexFunc(s.all, func(i *issuer) bool { return i.name == name }); n >= 0 {
		return s.all[n]
	}
	return nil
}

// IssuingKeyName is the name of an issuing CA's key, as a server's
// configuration and the files in keys/ have it.
func IssuingKeyName(name string) string { return "issuer-" + name }

// IsIssuingKeyName reports whether a key's name is one of an issuing CA.
func IsIssuingKeyName(key string) bool {
	name, ok := strings.CutPrefix(key, IssuingKeyName(""))
	return ok && vetting.CheckIssuingCAName(name) == nil
}

// Learn makes the CAs of the database known, in place of those that were known
// before but for those of files, of which it tells the state at most. One
// whose key cannot be opened is known all the same: its certificates count,
// and only issuing fails. It changes nothing and fails if one of them is not
// below the root.
func (a *Authorities) Learn(ctx context.Context, list []*vetting.IssuingCA) error {
	a.learning.Lock()
	defer a.learning.Unlock()
	known := a.issuers.Load()
	next := slices.Clone(a.founders)
	for _, c := range list {
		if a.keyless && c.Purpose != vetting.ForDevices {
			continue // of no use there, and its file is not there
		}
		i := known.named(c.Name)
		founder := a.founder(c.Name, c.Purpose)
		if i == nil || !i.is(c, founder >= 0) || a.found(i) {
			var err error
			if i, err = a.openIssuer(ctx, c); err != nil {
				return err
			}
		}
		if founder >= 0 {
			next[founder] = i
		} else {
			next = append(next, i)
		}
	}
	if !slices.Equal(next, known.all) {
		a.issuers.Store(newIssuers(next))
	}
	return nil
}

// is reports whether the CA is as the database has it, which knows nothing but
// the state of one of a file.
func (i *issuer) is(c *vetting.IssuingCA, ofFile bool) bool {
	return i.id == c.ID && i.state == c.State && (ofFile || bytes.Equal(i.Certificate.Raw, c.Certificate))
}

// found reports whether a key that was missing may be there by now. Only
// files are looked at again: an HSM that refuses a PIN too often locks itself.
func (a *Authorities) found(i *issuer) bool {
	return i.lost != nil && !a.keyless && a.founder(i.name, i.purpose) < 0 && a.places.Keys[IssuingKeyName(i.name)] == ""
}

func (a *Authorities) openIssuer(ctx context.Context, c *vetting.IssuingCA) (*issuer, error) {
	if n := a.founder(c.Name, c.Purpose); n >= 0 {
		return a.founders[n].inState(c), nil
	}
	cert, err := x509.ParseCertificate(c.Certificate)
	if err != nil {
		return nil, fmt.Errorf("the certificate of the issuing CA %s in the database: %w", c.Name, err)
	}
	foreign := a.belowRoot(cert)
	if dead := c.Purpose != vetting.ForDevices && c.State == vetting.IssuingClosed; foreign != nil && !dead {
		return nil, fmt.Errorf("the issuing CA %s: %w; it is signed anew with `touchmark ca request`, before the other root goes", c.Name, foreign)
	}
	i := &issuer{id: c.ID, name: c.Name, purpose: c.Purpose, state: c.State, Authority: Authority{Certificate: cert}, serials: a.Serials.Of(cert), foreign: foreign}
	if c.Purpose != vetting.ForDevices {
		i.seen = new(certificates)
	}
	i.Signer, i.lost = a.keyOf(ctx, c.Name, cert)
	return i, nil
}

// belowRoot reports whether the root signed the certificate: the one in
// force, or in a roll-over either.
func (a *Authorities) belowRoot(cert *x509.Certificate) error {
	err := cert.CheckSignatureFrom(a.Root)
	if err == nil || a.rollover == nil {
		return wrapped("it was not signed by the root CA "+a.places.certificate(RootName), err)
	}
	if cert.CheckSignatureFrom(a.rollover.OldWithOld) != nil && cert.CheckSignatureFrom(a.rollover.NewWithNew) != nil {
		return errors.New("it was signed by neither of the two roots of the roll-over")
	}
	return nil
}

func wrapped(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// CheckIssuingCA holds a certificate to what an issuing CA of that name needs
// here: signed by the root, a CA's, for no further CA below it, of another
// name and key than the other CAs, and its key in this server's hands. Its
// errors are *vetting.Errors with Invalid.
func (a *Authorities) CheckIssuingCA(ctx context.Context, name string, der []byte, now time.Time) (*vetting.IssuingCA, error) {
	cert, err := x509.ParseCertificate(der)
	if err == nil {
		err = errors.Join(vetting.CheckIssuingCAName(name), a.checkIssuing(name, cert, now))
	}
	if err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "the certificate of the issuing CA %s: %v", name, err)
	}
	if _, err := a.places.openKey(ctx, a.places.key(IssuingKeyName(name)), cert); err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "the server cannot use the key of the issuing CA %s: %v", name, keys.Redact(err.Error()))
	}
	return &vetting.IssuingCA{Name: name, Purpose: purposeOf(cert), Certificate: der, Subject: cert.RawSubject, Key: vetting.KeyFingerprint(cert.RawSubjectPublicKeyInfo)}, nil
}

// checkIssuing also holds the certificate to the CA that has the name already,
// or else to be none of those of files.
func (a *Authorities) checkIssuing(name string, cert *x509.Certificate, now time.Time) error {
	if err := a.checkCA(cert, now); err != nil {
		return err
	}
	if have := a.issuers.Load().named(name); have != nil {
		return sameKey(have.Certificate, cert)
	}
	for _, other := range []*x509.Certificate{a.Root, a.Device.Certificate, a.Factory.Certificate, a.Operator.Certificate, a.CodeSign.Certificate} {
		if bytes.Equal(other.RawSubject, cert.RawSubject) || bytes.Equal(other.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) {
			return fmt.Errorf("it has the name or the key of %q", other.Subject)
		}
	}
	return nil
}

// checkCA holds the certificate of a CA below the root to what one needs.
func (a *Authorities) checkCA(cert *x509.Certificate, now time.Time) error {
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("it is not a CA's: it needs basicConstraints CA:TRUE and keyUsage keyCertSign")
	case !cert.MaxPathLenZero:
		return errors.New("it allows further CAs below it: it needs pathlen:0")
	case len(cert.SubjectKeyId) == 0:
		return errors.New("it has no subjectKeyIdentifier, by which its certificates name it")
	case len(cert.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("it has the critical extension %s, which is not understood", cert.UnhandledCriticalExtensions[0])
	case now.Before(cert.NotBefore) || now.After(cert.NotAfter):
		return fmt.Errorf("it is valid from %s to %s only", cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339))
	}
	return a.belowRoot(cert)
}

// Unable tells which of the CAs cannot sign here, and why: one whose key is
// missing or broken, whose time is over, or whose last signature failed.
func (a *Authorities) Unable(now time.Time) map[string]error {
	out := map[string]error{}
	for _, i := range a.issuers.Load().all {
		if i.state == vetting.IssuingClosed {
			continue // so it is meant
		}
		if err := i.unable(now); err != nil {
			out[i.name] = err
		} else if err := i.signing.last(); err != nil {
			out[i.name] = err
		}
	}
	return out
}

// Default is the name of the CA that issues to devices whose owner names none.
func (a *Authorities) Default() string { return a.issuerFor(nil).name }

// unable says why the CA cannot even try to sign.
func (i *issuer) unable(now time.Time) error {
	switch {
	case i.state == vetting.IssuingClosed:
		return errors.New("it is closed")
	case i.lost != nil:
		return i.lost
	case now.After(i.Certificate.NotAfter):
		return fmt.Errorf("its certificate ran out at %s", i.Certificate.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// sign signs a certificate; its error is an *enroll.IssuerError.
func (i *issuer) sign(t *x509.Certificate, key crypto.PublicKey) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, i.Certificate, key, i.Signer)
	if err = i.signing.note(err); err != nil {
		return nil, &enroll.IssuerError{Issuer: i.name, Err: err}
	}
	return der, nil
}

// Probe signs with the keys of the CAs whose last signature failed, as an HSM
// may be back, or with those of all that should be able to sign, as one may be
// gone; and with the server's own keys. [Authorities.Unable] and
// [Authorities.CheckOwn] tell what came of it.
func (a *Authorities) Probe(all bool) {
	for _, i := range a.issuers.Load().all {
		i.signing.probe(i.Signer, all)
	}
	for _, k := range a.own {
		k.probe(k.key, all)
	}
}

// issuerFor is the CA that issues to an owner's devices; o is nil for the
// manufacturer's.
func (a *Authorities) issuerFor(o *vetting.Owner) *issuer {
	name := ""
	if o != nil {
		name = o.Issuer
	}
	return a.issuers.Load().byName[name]
}

// issuerOf is the CA that a device's certificate names as its issuer; nil if
// there is none.
func (a *Authorities) issuerOf(cert *x509.Certificate) *issuer {
	return a.issuers.Load().bySubject[string(cert.RawIssuer)]
}
