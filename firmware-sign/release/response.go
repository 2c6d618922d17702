package release

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
)

// ResponseType names this form of responses.
const ResponseType = "touchmark/firmware-response/1"

// Response is what an offline key signed for a release: all that it is to sign
// there, and nothing else.
type Response struct {
	Type    string `json:"type" enum:"touchmark/firmware-response/1" doc:"The form of the response"`
	Release string `json:"release" minLength:"3" maxLength:"127" doc:"The release, as PRODUCT@VERSION"`
	// Statement is the SHA-256 of the statement that was approved.
	Statement  string              `json:"statement" pattern:"^[0-9a-f]{64}$" doc:"The SHA-256 of the release's statement, in hexadecimal"`
	PublicKey  []byte              `json:"publicKey" doc:"The public key of the key that signed: a SubjectPublicKeyInfo, DER in base64"`
	Signatures []ResponseSignature `json:"signatures" minItems:"1" maxItems:"256" nullable:"false" doc:"The signatures"`
}

// ResponseSignature is one signature that an artefact wants.
type ResponseSignature struct {
	Artefact string `json:"artefact" minLength:"1" maxLength:"128" doc:"The artefact's name"`
	ImportedSignature
}

// ImportedSignature is one that was made elsewhere.
type ImportedSignature struct {
	Index     int    `json:"index" minimum:"0" doc:"Which of the artefact's toSign it answers, from 0"`
	Signature []byte `json:"signature" doc:"The signature"`
}

func (a *Artefact) imported(i int) []byte {
	n := slices.IndexFunc(a.Imported, func(s ImportedSignature) bool { return s.Index == i })
	if n < 0 {
		return nil
	}
	return a.Imported[n].Signature
}

// Import takes the signatures of an offline key into the artefacts of a
// release, all or none, and returns the artefacts that changed. The keys are
// those that the release's artefacts name, as they are now. A signature that
// is there already stays: the first ones are what everybody gets.
func (r *Release) Import(in *Response, keys []*Key) ([]*Artefact, error) {
	key, err := r.importable(in, keys)
	if err != nil {
		return nil, err
	}
	given, err := in.bySlot()
	if err != nil {
		return nil, err
	}
	var changed []*Artefact
	for n := range r.Artefacts {
		a := r.Artefacts[n] // a copy, until all is known to be good
		if !slices.Contains(a.Keys, key.Name) {
			continue
		}
		if _, err := Allow(r, &r.Artefacts[n], keysOf(&a, keys)); err != nil {
			return nil, err
		}
		news, err := a.take(key, given)
		if err != nil {
			return nil, err
		}
		if news {
			changed = append(changed, &a)
		}
	}
	for at := range given {
		return nil, fmt.Errorf("the response has signature %d of %s, which release %s does not want from the key %s", at.index+1, at.artefact, r.Name(), key.Name)
	}
	for i, a := range changed {
		kept := r.Artefact(a.Name)
		*kept = *a
		changed[i] = kept
	}
	r.Advance()
	return changed, nil
}

// importable finds the offline key that a response is by.
func (r *Release) importable(in *Response, keys []*Key) (*Key, error) {
	digest := r.Statement().Digest()
	switch {
	case in.Type != ResponseType:
		return nil, fmt.Errorf("the response is of the type %q: want %s", in.Type, ResponseType)
	case in.Release != r.Name():
		return nil, fmt.Errorf("the response is for release %s, and not for %s", in.Release, r.Name())
	case in.Statement != hex.EncodeToString(digest[:]):
		return nil, fmt.Errorf("the response is about another statement of %s than the one that stands: its SHA-256 is %s, and that of the release %x; export the request again", r.Name(), in.Statement, digest)
	}
	n := slices.IndexFunc(keys, func(k *Key) bool { return bytes.Equal(k.PublicKey, in.PublicKey) })
	switch {
	case n < 0:
		return nil, fmt.Errorf("the response is by a key that signs nothing of release %s", r.Name())
	case !keys[n].Offline:
		return nil, fmt.Errorf("the key %s is in the server's key store, and signs there", keys[n].Name)
	}
	return keys[n], nil
}

// slot is the place of a signature in a release.
type slot struct {
	artefact string
	index    int
}

func (in *Response) bySlot() (map[slot][]byte, error) {
	given := map[slot][]byte{}
	for _, s := range in.Signatures {
		at := slot{s.Artefact, s.Index}
		if _, twice := given[at]; twice {
			return nil, fmt.Errorf("the response has signature %d of %s twice", s.Index+1, s.Artefact)
		}
		given[at] = s.Signature
	}
	return given, nil
}

// take moves the signatures that an artefact wants from a key out of what is
// given, and reports whether one of them is new.
func (a *Artefact) take(key *Key, given map[slot][]byte) (news bool, err error) {
	a.Imported = slices.Clone(a.Imported)
	for i, want := range a.ToSign {
		if !bytes.Equal(want.PublicKey, key.PublicKey) {
			continue
		}
		at := slot{a.Name, i}
		sig, ok := given[at]
		if !ok {
			return false, fmt.Errorf("signature %d of %s by the key %s is missing in the response: sign the whole request", i+1, a.Name, key.Name)
		}
		if err := want.Verify(sig); err != nil {
			return false, fmt.Errorf("signature %d of %s: %w", i+1, a.Name, err)
		}
		delete(given, at)
		if len(a.Signatures) == 0 && a.imported(i) == nil {
			a.Imported, news = append(a.Imported, ImportedSignature{i, sig}), true
		}
	}
	if !news || len(a.Imported) < len(a.ToSign) {
		return news, nil
	}
	all := make([][]byte, len(a.ToSign))
	for i := range all {
		all[i] = a.imported(i)
	}
	return true, a.Accept(all)
}

func keysOf(a *Artefact, among []*Key) []*Key {
	return slices.DeleteFunc(slices.Clone(among), func(k *Key) bool { return !slices.Contains(a.Keys, k.Name) })
}

// KeyNames are those of all keys that the release's artefacts name, sorted.
func (r *Release) KeyNames() []string {
	var names []string
	for _, a := range r.Artefacts {
		names = append(names, a.Keys...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Lacks reports whether a signature that is wanted from a key is not there.
func (a *Artefact) Lacks(k *Key) bool {
	for i, want := range a.ToSign {
		if bytes.Equal(want.PublicKey, k.PublicKey) && len(a.Signatures) == 0 && a.imported(i) == nil {
			return true
		}
	}
	return false
}
