package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/touchmark/touchmark/internal/durable"
	"github.com/touchmark/touchmark/vetting"
)

// What a ceremony made takes the place of files in DIR/ca here. Each file is
// replaced whole, and whichever of them are, a server starts from what is
// there; so a step that broke off is simply taken again. A running server
// reads them at its next start.

// fixed are the authorities of files but for the root, by the names of those.
func (a *Authorities) fixed() map[string]Authority {
	return map[string]Authority{DeviceName: a.Device, FactoryName: a.Factory, OperatorName: a.Operator, CodeSignName: a.CodeSign}
}

// CheckReplacement says for which of the authorities of files a certificate
// is a new one: of the same subject, key and subjectKeyIdentifier, below a
// root in force, for no further CA. The name is "" for one of another subject.
func (a *Authorities) CheckReplacement(cert *x509.Certificate, now time.Time) (name string, err error) {
	for name, have := range a.fixed() {
		if !bytes.Equal(have.Certificate.RawSubject, cert.RawSubject) {
			continue
		}
		if err = sameKey(have.Certificate, cert); err == nil {
			err = a.checkCA(cert, now)
		}
		return name, wrapped("the certificate of "+name, err)
	}
	return "", nil
}

// sameKey reports that a certificate could not take another's place, because
// what that one's key signed would not be found below it.
func sameKey(have, cert *x509.Certificate) error {
	if !bytes.Equal(have.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) {
		return errors.New("it is for another key: what the CA has signed could not be verified with it")
	}
	if !bytes.Equal(have.SubjectKeyId, cert.SubjectKeyId) {
		return fmt.Errorf("its subjectKeyIdentifier is %x, and what the CA has signed names %x", cert.SubjectKeyId, have.SubjectKeyId)
	}
	return nil
}

// Replace puts a certificate that passed CheckReplacement in its place.
func (a *Authorities) Replace(name string, cert *x509.Certificate) error {
	return durable.Replace(a.places.certificate(name), PEM(cert.Raw), 0o644)
}

// InRollover reports whether the root's key is being changed.
func (a *Authorities) InRollover() bool { return a.rollover != nil }

// BeginRollover puts a roll-over from the root in force beside it. To begin
// the same again changes nothing.
func (a *Authorities) BeginRollover(r *Rollover) error {
	switch {
	case a.rollover != nil && bytes.Equal(a.rollover.PEM(), r.PEM()):
		return nil
	case a.rollover != nil:
		return errors.New("another root roll-over has begun: finish that one first, with `touchmark ca root-rollover finish`")
	case !r.OldWithOld.Equal(a.Root):
		return fmt.Errorf("the roll-over is from the root %s, and here is %s", nameOf(r.OldWithOld), a.Name())
	}
	return durable.Replace(a.places.certificate(rolloverName), r.PEM(), 0o644)
}

// SwitchRoot makes the new root of a roll-over the one in force, once it has
// signed every authority of a file of which something counts. To switch again changes nothing.
func (a *Authorities) SwitchRoot() error {
	if a.rollover == nil {
		return errors.New("there is no root roll-over: begin one with `touchmark ca root-rollover begin`, and import what that makes")
	}
	for name, have := range a.fixed() {
		if !a.issuers.Load().named(name).dead() && have.Certificate.CheckSignatureFrom(a.rollover.NewWithNew) != nil {
			return fmt.Errorf("%s is not signed by the new root: `touchmark ca request` it, sign it with the new root, and import it", name)
		}
	}
	return durable.Replace(a.places.certificate(RootName), PEM(a.rollover.NewWithNew.Raw), 0o644)
}

// FinishRollover drops the root that is not in force: the old one after the
// switch, the new one before. Nothing may be left below it.
func (a *Authorities) FinishRollover() error {
	if a.rollover == nil {
		return errors.New("there is no root roll-over")
	}
	for _, c := range a.List() {
		if c.Name != RootName && !c.ofRollover && !c.dead && c.Certificate.CheckSignatureFrom(a.Root) != nil {
			return fmt.Errorf("%s is signed by the root that would go: `touchmark ca request` it, sign it with the other root, and import it", c.Name)
		}
	}
	err := os.Remove(a.places.certificate(rolloverName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Requests makes requests for the CAs of these names by the keys that they
// have. A name that no CA has is that of a new one for a purpose, whose key is
// made.
func (a *Authorities) Requests(ctx context.Context, names []string, purpose vetting.Purpose) (text []byte, err error) {
	have := map[string]*x509.Certificate{}
	for _, c := range a.List() {
		have[c.Name] = c.Certificate
	}
	for _, name := range names {
		var der []byte
		switch cert := have[name]; {
		case name == RootName:
			return nil, errors.New("the root signs itself: another one comes with `touchmark ca root-rollover begin`")
		case cert == nil:
			der, err = a.places.RequestIssuingCA(ctx, name, purpose, a.Root)
		case purpose != vetting.ForDevices:
			return nil, fmt.Errorf("there is a CA %s already, and what it is for does not change: choose another name for a new one", name)
		default:
			der, err = a.places.Request(ctx, a.keyName(name), cert)
		}
		if err != nil {
			return nil, err
		}
		text = append(text, RequestPEM(der)...)
	}
	return text, nil
}

// keyName is the name of a CA's key.
func (a *Authorities) keyName(name string) string {
	if _, ok := a.fixed()[name]; ok {
		return name
	}
	return IssuingKeyName(name)
}
