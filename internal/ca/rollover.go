package ca

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// Names of a roll-over's files in DIR/ca, without .crt: the four root
// certificates of RFC 4210 §4.4, where "with" tells whose key signed.
const (
	oldWithOld = "root-old"
	newWithNew = "root-new"
	oldWithNew = "root-old-with-new"
	newWithOld = "root-new-with-old"
)

// Rollover are the certificates of a change from an old root key to a new
// one. Whoever trusts one of the two keys can build a chain to whatever the
// other signed.
type Rollover struct {
	OldWithOld, NewWithNew, OldWithNew, NewWithOld *x509.Certificate
}

// readRollover reads the four certificates if they are there, and refuses
// them if they do not fit together and to the root in force, which is one of
// the two self-signed ones.
func readRollover(p Places, root *x509.Certificate) (*Rollover, error) {
	r := new(Rollover)
	var missing, present []string
	for _, f := range [...]struct {
		name string
		into **x509.Certificate
	}{{oldWithOld, &r.OldWithOld}, {newWithNew, &r.NewWithNew}, {oldWithNew, &r.OldWithNew}, {newWithOld, &r.NewWithOld}} {
		if _, err := os.Stat(p.certificate(f.name)); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, p.certificate(f.name))
			continue
		}
		present = append(present, p.certificate(f.name))
		var err error
		if *f.into, err = readCertificate(p.certificate(f.name)); err != nil {
			return nil, err
		}
	}
	switch {
	case len(present) == 0:
		return nil, nil
	case len(missing) > 0:
		return nil, fmt.Errorf("of a root roll-over there are %s, but not %s: put all four there, or none", strings.Join(present, ", "), strings.Join(missing, ", "))
	}
	return r, r.check(p, root)
}

// check holds the four to RFC 4210 §4.4: one subject, two keys, each
// certificate signed by the key that its name says.
func (r *Rollover) check(p Places, root *x509.Certificate) error {
	for _, c := range [...]struct {
		name        string
		cert        *x509.Certificate
		subject, by *x509.Certificate
	}{
		{oldWithOld, r.OldWithOld, r.OldWithOld, r.OldWithOld}, {newWithNew, r.NewWithNew, r.NewWithNew, r.NewWithNew},
		{oldWithNew, r.OldWithNew, r.OldWithOld, r.NewWithNew}, {newWithOld, r.NewWithOld, r.NewWithNew, r.OldWithOld},
	} {
		file := p.certificate(c.name)
		switch {
		case !c.cert.IsCA || c.cert.KeyUsage&x509.KeyUsageCertSign == 0:
			return fmt.Errorf("%s is not a CA's: it needs basicConstraints CA:TRUE and keyUsage keyCertSign", file)
		case !bytes.Equal(c.cert.RawSubject, root.RawSubject):
			return fmt.Errorf("%s has the subject %q, but the root has %q: in a roll-over the name stays and the key changes (RFC 4210 §4.4)", file, c.cert.Subject, root.Subject)
		case !bytes.Equal(c.cert.RawSubjectPublicKeyInfo, c.subject.RawSubjectPublicKeyInfo):
			return fmt.Errorf("%s has another key than the root that it is about", file)
		}
		if err := c.cert.CheckSignatureFrom(c.by); err != nil {
			return fmt.Errorf("%s was not signed by the key that its name says: %w", file, err)
		}
	}
	switch {
	case bytes.Equal(r.OldWithOld.RawSubjectPublicKeyInfo, r.NewWithNew.RawSubjectPublicKeyInfo):
		return fmt.Errorf("%s and %s have the same key: a roll-over is to another", p.certificate(oldWithOld), p.certificate(newWithNew))
	case !root.Equal(r.OldWithOld) && !root.Equal(r.NewWithNew):
		return fmt.Errorf("%s is neither %s nor %s: before the change it is a copy of the first, after it of the second", p.certificate(RootName), p.certificate(oldWithOld), p.certificate(newWithNew))
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

func nameOf(root *x509.Certificate) string {
	sum := sha256.Sum256(root.Raw)
	return hex.EncodeToString(sum[:])
}

// Chain is what leads from a certificate of one of the authorities to either
// root, without the roots themselves: the authority, and in a roll-over the
// root in force as signed by the other root's key.
func (a *Authorities) Chain(by Authority) []*x509.Certificate {
	chain := []*x509.Certificate{by.Certificate}
	for _, c := range a.further {
		if bytes.Equal(c.RawSubjectPublicKeyInfo, a.Root.RawSubjectPublicKeyInfo) && !c.Equal(a.Root) {
			chain = append(chain, c)
		}
	}
	return chain
}
