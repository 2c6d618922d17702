package release

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"regexp"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// Bounds of an artefact.
const (
	maxKeys       = 4
	maxParameters = 64
	maxParameter  = 1024     // bytes
	maxToSign     = 16 << 10 // bytes of a message, which signed attributes do not reach
)

var parameterForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// Permit is the right to make the signatures of one artefact. Only [Allow]
// makes one, so nothing is signed that it has not seen.
type Permit struct {
	artefact *Artefact
	keys     []*Key // in the order of what is to be signed
}

// Allow decides whether keys may sign for an artefact of a release: keys of
// the release's product and the artefact's stage that were not revoked; a
// production key only once the release was approved, and then only what it
// was approved with, which is the artefact as it is kept with the release.
func Allow(r *Release, a *Artefact, keys []*Key) (*Permit, error) {
	if a.Stage == Production {
		if err := r.state("production keys sign approved releases alone", Approved, Signed, Published); err != nil {
			return nil, err
		}
		if kept := r.Artefact(a.Name); kept == nil || kept.ID != a.ID {
			return nil, fmt.Errorf("release %s was approved without the artefact %d", r.Name(), a.ID)
		}
	} else if r.State == Yanked {
		return nil, fmt.Errorf("release %s was yanked", r.Name())
	}
	return permit(r, a, keys)
}

// CheckArtefact reports the first thing wrong with an artefact that is handed
// in, whose keys are given.
func CheckArtefact(r *Release, a *Artefact, keys []*Key) error {
	switch {
	case !nameForm.MatchString(a.Name):
		return fmt.Errorf("the artefact's name %q: use 1 to 128 letters, digits and . + ~ _ -, beginning with a letter or digit", a.Name)
	case a.Source.Size < 1 || !digestForm.MatchString(a.Source.SHA256):
		return errors.New("the artefact needs its file's size and SHA-256")
	case len(a.Keys) == 0 || len(a.Keys) > maxKeys:
		return fmt.Errorf("an artefact is signed by 1 to %d keys, not by %d", maxKeys, len(a.Keys))
	case len(a.Parameters) > maxParameters:
		return fmt.Errorf("%d parameters are more than the %d that an artefact has at most", len(a.Parameters), maxParameters)
	}
	for name, value := range a.Parameters {
		if !parameterForm.MatchString(name) || len(value) > maxParameter || !printable(value) {
			return fmt.Errorf("the parameter %q has a name or value that is not taken", name)
		}
	}
	_, err := permit(r, a, keys)
	return err
}

func printable(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// permit finds the key of each signature.
func permit(r *Release, a *Artefact, keys []*Key) (*Permit, error) {
	if len(a.ToSign) == 0 || len(a.ToSign) > maxKeys {
		return nil, fmt.Errorf("%d signatures are wanted: 1 to %d are made", len(a.ToSign), maxKeys)
	}
	p := &Permit{artefact: a}
	for _, key := range keys {
		if err := key.fits(r, a.Stage); err != nil {
			return nil, err
		}
	}
	for i, want := range a.ToSign {
		key, err := keyOf(want, keys)
		if err != nil {
			return nil, fmt.Errorf("signature %d of %d: %w", i+1, len(a.ToSign), err)
		}
		p.keys = append(p.keys, key)
	}
	return p, nil
}

func (k *Key) fits(r *Release, stage Stage) error {
	switch {
	case k.Product != r.Product:
		return fmt.Errorf("the key %s is of product %s, not of %s", k.Name, k.Product, r.Product)
	case k.Stage != stage:
		return fmt.Errorf("the key %s is for the stage %s: it does not sign for %s", k.Name, k.Stage, stage)
	case k.SignsStatements():
		return fmt.Errorf("the key %s is of kind %s, and signs statements about releases: take another one for files", k.Name, k.Kind)
	case !k.Revoked.IsZero():
		return fmt.Errorf("the key %s was revoked: take another one", k.Name)
	}
	return nil
}

// keyOf is the key that a signature is wanted from. Ed25519 signs what it
// cannot see the meaning of only where that is a digest: a file of any length
// would pass through the server, and could be anything.
func keyOf(want firmwaresign.ToSign, keys []*Key) (*Key, error) {
	if want.Algorithm == firmwaresign.Ed25519 && len(want.Message) != 32 && len(want.Message) != 64 {
		return nil, fmt.Errorf("an Ed25519 signature over %d bytes of a file itself is not made here: use a format that signs a digest", len(want.Message))
	}
	if len(want.Message) > maxToSign {
		return nil, fmt.Errorf("the message to sign is %d bytes long: at most %d are taken", len(want.Message), maxToSign)
	}
	for _, k := range keys {
		if bytes.Equal(k.PublicKey, want.PublicKey) {
			return k, nil
		}
	}
	return nil, errors.New("it is wanted from a key that the artefact does not name")
}

// Waits reports the first offline key whose signature was not imported yet.
func (p *Permit) Waits() error {
	for i, key := range p.keys {
		if key.Offline && p.artefact.imported(i) == nil {
			return fmt.Errorf("the key %s is offline: take what it is to sign to it with touchmark firmware request export, and import what it made", key.Name)
		}
	}
	return nil
}

// Sign makes the signatures of the keys that are here, and adds those that
// were imported. Nobody may have them before it is kept that they were made.
func (p *Permit) Sign(open func(*Key) (crypto.Signer, error)) ([][]byte, error) {
	if err := p.Waits(); err != nil {
		return nil, err
	}
	var signatures [][]byte
	for i, want := range p.artefact.ToSign {
		if p.keys[i].Offline {
			signatures = append(signatures, p.artefact.imported(i))
			continue
		}
		signer, err := open(p.keys[i])
		if err != nil {
			return nil, err
		}
		sig, err := want.Sign(signer)
		if err != nil {
			return nil, fmt.Errorf("sign with %s: %w", p.keys[i].Name, err)
		}
		signatures = append(signatures, sig)
	}
	return signatures, nil
}
