package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

// Operators, rigs and what signs code have CAs of their own. Those of files
// were there from the beginning; as with devices, others can take their places
// and are learnt from the database, and what the former ones signed counts
// until they are closed.

// units stand in the subjects of CAs and tell what they are for.
var units = map[vetting.Purpose]string{
	vetting.ForDevices: "Device CA", vetting.ForSites: "Factory CA", vetting.ForOperators: "Operator CA", vetting.ForCodeSigning: "Code Signing CA",
}

// purposeOf tells by the subject of a CA what it is for.
func purposeOf(cert *x509.Certificate) vetting.Purpose {
	for p, unit := range units {
		if slices.Equal(cert.Subject.OrganizationalUnit, []string{unit}) {
			return p
		}
	}
	return vetting.ForDevices
}

// openFounders opens the CAs of files but for the device CA. One whose key or
// root is not there any more may have given its place to another, so that is
// not judged before [Authorities.Ready].
func (a *Authorities) openFounders(ctx context.Context) error {
	a.founders = []*issuer{{Authority: a.Device, name: DeviceName, serials: a.Serials}}
	for _, f := range [...]struct {
		purpose vetting.Purpose
		into    *Authority
	}{{vetting.ForSites, &a.Factory}, {vetting.ForOperators, &a.Operator}, {vetting.ForCodeSigning, &a.CodeSign}} {
		name := f.purpose.FoundingCA()
		file := a.places.certificate(name)
		cert, err := readCertificate(file)
		if err != nil {
			return err
		}
		i := &issuer{name: name, purpose: f.purpose, Authority: Authority{Certificate: cert, seen: new(certificates)}}
		i.foreign = wrapped(file, a.belowRoot(cert))
		i.Signer, i.lost = a.places.openKey(ctx, a.places.key(name), cert)
		*f.into = i.Authority
		a.founders = append(a.founders, i)
	}
	return nil
}

// founder is the CA of a file that has this name and purpose, at its place
// among the founders; -1 if there is none.
func (a *Authorities) founder(name string, p vetting.Purpose) int {
	return slices.IndexFunc(a.founders, func(i *issuer) bool { return i.name == name && i.purpose == p })
}

// dead reports whether nothing counts that the CA issued.
func (i *issuer) dead() bool {
	return i.purpose != vetting.ForDevices && i.state == vetting.IssuingClosed
}

// inState is a CA of a file as the database has it.
func (i *issuer) inState(c *vetting.IssuingCA) *issuer {
	return &issuer{Authority: i.Authority, id: c.ID, name: i.name, purpose: i.purpose, state: c.State, lost: i.lost, foreign: i.foreign}
}

// Ready reports why a server could not work with the CAs that it has: one that
// counts was not signed by the root, or one that issues cannot.
func (a *Authorities) Ready(now time.Time) error {
	known := a.issuers.Load()
	for _, i := range known.all {
		if i.purpose == vetting.ForDevices || i.state == vetting.IssuingClosed {
			continue
		}
		if i.foreign != nil {
			return i.foreign
		}
		if known.present(i.purpose) != i {
			continue
		}
		if err := i.unable(now); err != nil {
			return fmt.Errorf("%s cannot sign: %w", i.name, err)
		}
	}
	return nil
}

// present is the CA that issues for a purpose now.
func (s *issuers) present(p vetting.Purpose) *issuer {
	if p == vetting.ForDevices {
		return s.byName[""]
	}
	var first *issuer
	for _, i := range s.all {
		switch {
		case i.purpose != p:
		case i.state == vetting.IssuingDefault:
			return i
		case first == nil:
			first = i
		}
	}
	return first
}

// present is the CA that issues for a purpose now; if it cannot, the error is
// an *enroll.IssuerError.
func (a *Authorities) present(p vetting.Purpose, now time.Time) (*issuer, error) {
	i := a.issuers.Load().present(p)
	if err := i.unable(now); err != nil {
		return nil, &enroll.IssuerError{Issuer: i.name, Err: err}
	}
	return i, nil
}

// Issues reports whether a CA issues at present: to devices, or as the default
// of another purpose.
func (a *Authorities) Issues(name string) bool {
	known := a.issuers.Load()
	i := known.named(name)
	return i != nil && i.state != vetting.IssuingClosed && (i.purpose == vetting.ForDevices || known.present(i.purpose) == i)
}

// trusted are the CAs of a purpose whose certificates count, the present one
// first.
func (a *Authorities) trusted(p vetting.Purpose) (list []*issuer) {
	known := a.issuers.Load()
	present := known.present(p)
	for _, i := range append([]*issuer{present}, known.all...) {
		if i.purpose == p && i.state != vetting.IssuingClosed && i.foreign == nil && !slices.Contains(list, i) {
			list = append(list, i)
		}
	}
	return list
}

// FactoryCAs are the CAs that certify the operators and rigs of sites.
func (a *Authorities) FactoryCAs() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, i := range a.trusted(vetting.ForSites) {
		pool.AddCert(i.Certificate)
	}
	return pool
}

// verifyFor checks a certificate of one of the CAs of a purpose.
func (a *Authorities) verifyFor(p vetting.Purpose, cert *x509.Certificate, at time.Time) error {
	known := a.issuers.Load()
	for _, i := range known.all {
		if i.purpose != p || !i.IssuedBy(cert) {
			continue
		}
		switch {
		case i.foreign != nil:
			return i.foreign
		case i.state == vetting.IssuingClosed:
			return errors.New("its issuer " + i.name + " was closed, so none of its certificates counts: an admin gives you one of its successor, with `touchmark operator renew`")
		}
		return i.verify(cert, at)
	}
	return &otherIssuer{cert, known.present(p).Certificate}
}

// Founding is a CA of a file, in the form that the database has of others.
func (a *Authorities) Founding(p vetting.Purpose) *vetting.IssuingCA {
	cert := a.founders[slices.IndexFunc(a.founders, func(i *issuer) bool { return i.purpose == p })].Certificate
	return &vetting.IssuingCA{Name: p.FoundingCA(), Purpose: p, Certificate: cert.Raw, Subject: cert.RawSubject, Key: vetting.KeyFingerprint(cert.RawSubjectPublicKeyInfo)}
}

// OperatorChain is what leads from an operator's certificate to the root,
// without the root, as DER.
func (a *Authorities) OperatorChain(cert *x509.Certificate) (chain [][]byte) {
	for _, i := range a.trusted(vetting.ForOperators) {
		if !i.IssuedBy(cert) {
			continue
		}
		for _, c := range a.chain(i.Authority) {
			chain = append(chain, c.Raw)
		}
		break
	}
	return chain
}
