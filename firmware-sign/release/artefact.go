package release

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// MaxArtefacts bounds a release.
const MaxArtefacts = 64

// Same reports whether both want the same signatures for the same file.
func (a *Artefact) Same(o *Artefact) bool {
	return a.Name == o.Name && a.Stage == o.Stage && a.Format == o.Format && a.Source == o.Source && maps.Equal(a.Parameters, o.Parameters) &&
		slices.Equal(a.Keys, o.Keys) && slices.EqualFunc(a.ToSign, o.ToSign, firmwaresign.ToSign.Equal)
}

// Accept takes the signatures of an artefact that has none, each of which it
// verifies.
func (a *Artefact) Accept(signatures [][]byte) error {
	if len(signatures) != len(a.ToSign) {
		return fmt.Errorf("%d signatures came for the artefact %s: it wants %d", len(signatures), a.Name, len(a.ToSign))
	}
	for i, want := range a.ToSign {
		if err := want.Verify(signatures[i]); err != nil {
			return fmt.Errorf("signature %d of the artefact %s: %w", i+1, a.Name, err)
		}
	}
	a.Signatures, a.Imported = signatures, nil
	return nil
}

// Verified takes down how the signed file was verified. A file that was
// verified stays what it is, once the release is published.
func (a *Artefact) Verified(r *Release, signed File, checks []Check) error {
	switch {
	case len(a.Signatures) == 0:
		return fmt.Errorf("the artefact %s has no signatures yet", a.Name)
	case len(checks) == 0:
		return errors.New("nothing is said of what verified the file")
	case a.Signed != nil && *a.Signed != signed && r.State != Approved && r.State != Signed && a.Stage == Production:
		return fmt.Errorf("release %s is %s with %s as the signed file of %s: another one comes too late", r.Name(), r.State, a.Signed.SHA256, a.Name)
	}
	a.Signed, a.Checks = &signed, checks
	return nil
}

// SignedBy reports whether a key signed a part of the release, or is to.
func (r *Release) SignedBy(key string) bool {
	return slices.ContainsFunc(r.Artefacts, func(a Artefact) bool { return slices.Contains(a.Keys, key) })
}
