package tuf

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"time"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// Bounds of a root that comes from outside.
const (
	MaxRoot       = 64 << 10 // bytes
	maxRoleKeys   = 32
	maxSignatures = 2 * maxRoleKeys
)

// Root is a root on its way from one holder of a key to the next: it has the
// signatures that were made so far, in the form of a root file (§4.3).
type Root struct {
	Version int
	Expires time.Time
	Roles   Roles

	draft      *Draft
	signatures map[string][]byte // by key ID; not all may be good
}

// BeginRoot makes a root that nobody has signed yet.
func BeginRoot(version int, expires time.Time, r Roles) (*Root, error) {
	expires = expires.UTC().Truncate(time.Second)
	d, err := NewRoot(version, expires, r)
	if err != nil {
		return nil, err
	}
	return &Root{Version: version, Expires: expires, Roles: r, draft: d, signatures: map[string][]byte{}}, nil
}

// rootFile is what ParseRoot reads.
type rootFile struct {
	Signed struct {
		Type       string `json:"_type"`
		Spec       string `json:"spec_version"`
		Version    int    `json:"version"`
		Expires    string `json:"expires"`
		Consistent bool   `json:"consistent_snapshot"`
		Keys       map[string]rootKey
		Roles      map[string]rootRole
	}
	Signatures []struct {
		KeyID string `json:"keyid"`
		Sig   string `json:"sig"`
	}
}

type rootKey struct {
	KeyType string `json:"keytype"`
	Scheme  string `json:"scheme"`
	KeyVal  struct {
		Public string `json:"public"`
	} `json:"keyval"`
}

type rootRole struct {
	KeyIDs    []string `json:"keyids"`
	Threshold int      `json:"threshold"`
}

// specForm is what every client takes: the first version of the specification.
var specForm = regexp.MustCompile(`^1\.[0-9]{1,4}(\.[0-9]{1,4})?$`)

// ParseRoot reads a root, signed or not, as this package writes it. What is
// signed is made again of what was read, so a root with anything else in it
// has no good signature.
func ParseRoot(text []byte) (*Root, error) {
	if len(text) > MaxRoot {
		return nil, fmt.Errorf("the root is longer than %d bytes", MaxRoot)
	}
	var f rootFile
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("this is no root: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something stands behind the root")
	}
	s := &f.Signed
	expires, err := time.Parse(timeForm, s.Expires)
	switch {
	case s.Type != "root":
		return nil, fmt.Errorf("this is a file of type %q: want a root", s.Type)
	case !specForm.MatchString(s.Spec):
		return nil, fmt.Errorf("the root follows version %q of the specification: want 1", s.Spec)
	case err != nil:
		return nil, fmt.Errorf("the root expires at %q: want a time as 2031-12-31T00:00:00Z", s.Expires)
	case !s.Consistent:
		return nil, errors.New("the root is of a repository without consistent snapshots")
	}
	roles, err := f.roles()
	if err != nil {
		return nil, err
	}
	r, err := BeginRoot(s.Version, expires, roles)
	if err != nil {
		return nil, err
	}
	r.draft.signed["spec_version"] = s.Spec
	if r.draft.canonical, err = appendCanonical(nil, r.draft.signed); err != nil {
		return nil, err
	}
	return r, r.take(&f)
}

func (f *rootFile) roles() (r Roles, err error) {
	if len(f.Signed.Roles) != 4 {
		return r, fmt.Errorf("the root has %d roles: want root, targets, snapshot and timestamp", len(f.Signed.Roles))
	}
	used := map[string]bool{}
	for name, to := range map[string]*Role{"root": &r.Root, "targets": &r.Targets, "snapshot": &r.Snapshot, "timestamp": &r.Timestamp} {
		role, ok := f.Signed.Roles[name]
		if !ok || len(role.KeyIDs) > maxRoleKeys {
			return r, fmt.Errorf("the root has %d keys for %s: want 1 to %d", len(role.KeyIDs), name, maxRoleKeys)
		}
		to.Threshold = role.Threshold
		for _, id := range role.KeyIDs {
			key, ok := f.Signed.Keys[id]
			if !ok {
				return r, fmt.Errorf("the root does not have the key %q of %s", id, name)
			}
			pub, err := key.public()
			if err != nil {
				return r, fmt.Errorf("the key %q of %s: %w", id, name, err)
			}
			if have, _, err := describe(pub); err != nil || have != id {
				return r, fmt.Errorf("the key %q of %s has the ID %s: the SHA-256 of its canonical JSON is wanted", id, name, have)
			}
			to.Keys, used[id] = append(to.Keys, pub), true
		}
	}
	if len(used) != len(f.Signed.Keys) {
		return r, errors.New("the root has keys that are of no role")
	}
	return r, nil
}

func (k *rootKey) public() (crypto.PublicKey, error) {
	switch {
	case k.KeyType == "ed25519" && k.Scheme == "ed25519":
		raw, err := hex.DecodeString(k.KeyVal.Public)
		if err != nil || len(raw) != ed25519.PublicKeySize {
			return nil, errors.New("it is no Ed25519 key in hexadecimal")
		}
		return ed25519.PublicKey(raw), nil
	case k.KeyType == "ecdsa" && k.Scheme == "ecdsa-sha2-nistp256":
		block, rest := pem.Decode([]byte(k.KeyVal.Public))
		if block == nil || len(bytes.TrimSpace(rest)) > 0 {
			return nil, errors.New("it is no public key in PEM")
		}
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		if ec, ok := pub.(*ecdsa.PublicKey); err == nil && ok && ec.Curve == elliptic.P256() {
			return ec, nil
		}
		return nil, errors.New("it is no ECDSA key on P-256")
	}
	return nil, fmt.Errorf("its type is %q with the scheme %q: want ed25519, or ecdsa with ecdsa-sha2-nistp256", k.KeyType, k.Scheme)
}

// take reads the signatures, which may also be by keys of the root before.
func (r *Root) take(f *rootFile) error {
	if len(f.Signatures) > maxSignatures {
		return fmt.Errorf("the root has %d signatures: at most %d are read", len(f.Signatures), maxSignatures)
	}
	for _, s := range f.Signatures {
		sig, err := hex.DecodeString(s.Sig)
		id, err2 := hex.DecodeString(s.KeyID)
		if _, twice := r.signatures[s.KeyID]; err != nil || err2 != nil || len(id) != 32 || hex.EncodeToString(id) != s.KeyID || twice || len(sig) > 1024 {
			return fmt.Errorf("the signature by %q cannot be read, or is there twice", s.KeyID)
		}
		r.signatures[s.KeyID] = sig
	}
	return nil
}

// KeyID is how files name a key (§4.2).
func KeyID(pub crypto.PublicKey) (string, error) {
	id, _, err := describe(pub)
	return id, err
}

// Has reports whether a key is one of the role's.
func (r Role) Has(pub crypto.PublicKey) bool {
	return slices.ContainsFunc(r.Keys, func(have crypto.PublicKey) bool {
		return have.(interface{ Equal(crypto.PublicKey) bool }).Equal(pub)
	})
}

// ToSign is the signature that is wanted from a key.
func (r *Root) ToSign(pub crypto.PublicKey) (firmwaresign.ToSign, error) { return r.draft.ToSign(pub) }

// Add takes a signature, which it verifies.
func (r *Root) Add(s Signature) error {
	want, err := r.ToSign(s.Key)
	if err == nil {
		err = want.Verify(s.Bytes)
	}
	if err != nil {
		return err
	}
	id, _, err := describe(s.Key)
	r.signatures[id] = s.Bytes
	return err
}

// SignedBy are the keys of a role whose signature the root has.
func (r *Root) SignedBy(role Role) (keys []crypto.PublicKey) {
	for _, pub := range role.Keys {
		id, _, err := describe(pub)
		sig, ok := r.signatures[id]
		if err != nil || !ok {
			continue
		}
		if want, err := r.ToSign(pub); err == nil && want.Verify(sig) == nil {
			keys = append(keys, pub)
		}
	}
	return keys
}

// Same reports whether both say the same, whoever signed them.
func (r *Root) Same(o *Root) bool { return bytes.Equal(r.draft.canonical, o.draft.canonical) }

// Merge takes the signatures of the same root as somebody else signed it.
func (r *Root) Merge(o *Root) error {
	if !r.Same(o) {
		return errors.New("these are different roots: sign the same file")
	}
	for id, sig := range o.signatures {
		r.signatures[id] = sig
	}
	return nil
}

// JSON is the root with the signatures that there are.
func (r *Root) JSON() ([]byte, error) {
	f, err := r.draft.file(r.listed(func(string) bool { return true }))
	if err != nil {
		return nil, err
	}
	return f.JSON, nil
}

// listed are signatures in the form of files.
func (r *Root) listed(wanted func(id string) bool) []map[string]string {
	list := []map[string]string{}
	for id, sig := range r.signatures {
		if wanted(id) {
			list = append(list, map[string]string{"keyid": id, "sig": hex.EncodeToString(sig)})
		}
	}
	slices.SortFunc(list, func(a, b map[string]string) int { return bytes.Compare([]byte(a["keyid"]), []byte(b["keyid"])) })
	return list
}

// Publish gives the file of a root that clients follow from the one before
// (§5.3): its version is the next, and as many keys of both roots have signed
// it as each demands. The first root, for which before is nil, has version 1.
// Signatures that are of neither root are left out.
func (r *Root) Publish(before *Root) (*File, error) {
	version, former := 1, Role{}
	if before != nil {
		version, former = before.Version+1, before.Roles.Root
	}
	if r.Version != version {
		return nil, fmt.Errorf("the root has version %d: the next one is %d, and clients leave none out", r.Version, version)
	}
	good := map[string]bool{}
	for _, pub := range append(r.SignedBy(r.Roles.Root), r.SignedBy(former)...) {
		id, _, err := describe(pub)
		if err != nil {
			return nil, err
		}
		good[id] = true
	}
	if err := r.Roles.Root.enough(good); err != nil {
		return nil, fmt.Errorf("root %d %w", r.Version, err)
	}
	if before != nil {
		if err := former.enough(good); err != nil {
			return nil, fmt.Errorf("root %d, by the keys of root %d, %w", r.Version, before.Version, err)
		}
	}
	return r.draft.file(r.listed(func(id string) bool { return good[id] }))
}
