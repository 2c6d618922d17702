package ca

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// rolloverName is the name of the file in DIR/ca, without .crt, that holds the
// four root certificates of RFC 4210 §4.4 while the root's key is changed. One
// file, so that it is there or not.
const rolloverName = "root-rollover"

// Rollover are the certificates of a change from an old root key to a new
// one; "with" tells whose key signed. Whoever trusts one of the two keys can
// build a chain to whatever the other signed.
type Rollover struct {
	OldWithOld, NewWithNew, OldWithNew, NewWithOld *x509.Certificate
}

// NewRollover signs the certificates of a change from a root to another key:
// each key's by the other for as long as the old root is valid.
func NewRollover(old *Root, key crypto.Signer, now time.Time) (*Rollover, error) {
	r := &Rollover{OldWithOld: old.Certificate}
	fresh := caTemplate("", "", now, rootYears, rootPathLen)
	fresh.RawSubject, fresh.SubjectKeyId = old.Certificate.RawSubject, keyID(key.Public())
	var err error
	if r.NewWithNew, err = signCA(fresh, fresh, key.Public(), key); err != nil {
		return nil, err
	}
	cross := func(of, by *Root, from time.Time) (*x509.Certificate, error) {
		t := caTemplate("", "", now, rootYears, rootPathLen)
		t.NotBefore, t.NotAfter = from, old.Certificate.NotAfter
		t.RawSubject, t.SubjectKeyId, t.AuthorityKeyId = of.Certificate.RawSubject, of.Certificate.SubjectKeyId, by.Certificate.SubjectKeyId
		return signCA(t, by.Certificate, of.Key.Public(), by.Key)
	}
	next := &Root{r.NewWithNew, key}
	if r.OldWithNew, err = cross(old, next, old.Certificate.NotBefore); err != nil {
		return nil, err
	}
	if r.NewWithOld, err = cross(next, old, fresh.NotBefore); err != nil {
		return nil, err
	}
	return r, r.Check()
}

// List gives the four in the order of their file.
func (r *Rollover) List() []*x509.Certificate {
	return []*x509.Certificate{r.OldWithOld, r.NewWithNew, r.OldWithNew, r.NewWithOld}
}

// PEM is the content of their file.
func (r *Rollover) PEM() (text []byte) {
	for _, c := range r.List() {
		text = append(text, PEM(c.Raw)...)
	}
	return text
}

// ReadRollover takes four certificates as [Rollover.List] gives them, and
// refuses those that do not fit together.
func ReadRollover(list []*x509.Certificate) (*Rollover, error) {
	if len(list) != 4 {
		return nil, fmt.Errorf("a root roll-over has four certificates and not %d: old with old, new with new, old with new, new with old", len(list))
	}
	r := &Rollover{list[0], list[1], list[2], list[3]}
	return r, r.Check()
}

// readRollover reads the roll-over of a data directory, if there is one, whose
// root in force is one of its self-signed ones.
func readRollover(p Places, root *x509.Certificate) (*Rollover, error) {
	file := p.certificate(rolloverName)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	r, err := ReadRollover(list)
	if err == nil && !root.Equal(r.OldWithOld) && !root.Equal(r.NewWithNew) {
		err = fmt.Errorf("%s is neither its old root nor its new one", p.certificate(RootName))
	}
	return r, wrapped(file, err)
}

// Check holds the four to RFC 4210 §4.4: one subject, two keys, each
// certificate signed by the key that its name says.
func (r *Rollover) Check() error {
	for _, c := range [...]struct {
		name              string
		cert, subject, by *x509.Certificate
	}{
		{"the old root", r.OldWithOld, r.OldWithOld, r.OldWithOld}, {"the new root", r.NewWithNew, r.NewWithNew, r.NewWithNew},
		{"the old root by the new", r.OldWithNew, r.OldWithOld, r.NewWithNew}, {"the new root by the old", r.NewWithOld, r.NewWithNew, r.OldWithOld},
	} {
		switch {
		case !c.cert.IsCA || c.cert.KeyUsage&x509.KeyUsageCertSign == 0:
			return fmt.Errorf("%s is not a CA's certificate: it needs basicConstraints CA:TRUE and keyUsage keyCertSign", c.name)
		case !bytes.Equal(c.cert.RawSubject, r.OldWithOld.RawSubject):
			return fmt.Errorf("%s has the subject %q, but the old root has %q: in a roll-over the name stays and the key changes (RFC 4210 §4.4)", c.name, c.cert.Subject, r.OldWithOld.Subject)
		case !bytes.Equal(c.cert.RawSubjectPublicKeyInfo, c.subject.RawSubjectPublicKeyInfo) || !bytes.Equal(c.cert.SubjectKeyId, c.subject.SubjectKeyId):
			return fmt.Errorf("%s has another key or subjectKeyIdentifier than the root that it is about", c.name)
		}
		if err := c.cert.CheckSignatureFrom(c.by); err != nil {
			return fmt.Errorf("%s was not signed by the key that it should be: %w", c.name, err)
		}
	}
	if bytes.Equal(r.OldWithOld.RawSubjectPublicKeyInfo, r.NewWithNew.RawSubjectPublicKeyInfo) {
		return errors.New("the old root and the new one have the same key: a roll-over is to another")
	}
	return nil
}

// valid are those of the four whose time is not over: an old root that ran
// out keeps nobody from starting, but is no longer handed out. Those signed
// by the other key come first.
func (r *Rollover) valid(now time.Time) (certs []*x509.Certificate) {
	if r == nil {
		return nil
	}
	for _, c := range []*x509.Certificate{r.OldWithNew, r.NewWithOld, r.OldWithOld, r.NewWithNew} {
		if !now.After(c.NotAfter) {
			certs = append(certs, c)
		}
	}
	return certs
}

// Kin names the other root of a roll-over as Name names the root in force;
// nothing if there is no roll-over.
func (a *Authorities) Kin() []string {
	if a.rollover == nil {
		return nil
	}
	other := a.rollover.OldWithOld
	if other.Equal(a.Root) {
		other = a.rollover.NewWithNew
	}
	return []string{nameOf(other)}
}

// Cross are the certificates by which the roots of a roll-over signed each
// other; none if there is no roll-over.
func (a *Authorities) Cross() []*x509.Certificate {
	if a.rollover == nil {
		return nil
	}
	return []*x509.Certificate{a.rollover.OldWithNew, a.rollover.NewWithOld}
}

func nameOf(root *x509.Certificate) string {
	sum := sha256.Sum256(root.Raw)
	return hex.EncodeToString(sum[:])
}

// chain is what leads from a certificate of one of the authorities to either
// root, without the roots themselves: the authority, and in a roll-over its
// root as signed by the other root's key.
func (a *Authorities) chain(by Authority) []*x509.Certificate {
	chain := []*x509.Certificate{by.Certificate}
	for _, c := range a.further {
		if c.CheckSignatureFrom(c) != nil && by.Certificate.CheckSignatureFrom(c) == nil {
			chain = append(chain, c)
		}
	}
	return chain
}
