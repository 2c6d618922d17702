// Package tuf makes the metadata of a TUF repository (The Update Framework,
// specification 1.0) whose targets are the artefacts of releases. As everywhere
// in firmware-sign, what is to be signed is told first, and keys may be far away:
// each file is a [Draft] until as many signatures are there as are wanted.
package tuf

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"regexp"
	"strconv"
	"time"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// specVersion is the version of the specification that the files follow.
const specVersion = "1.0.31"

// Role is who signs one kind of file: so many of the keys must.
type Role struct {
	Keys      []crypto.PublicKey // Ed25519 or ECDSA on P-256
	Threshold int
}

// Roles are those that every repository has (§2.1).
type Roles struct{ Root, Targets, Snapshot, Timestamp Role }

// Target is one file that clients download: an artefact of a published release.
type Target struct {
	Product, Version, Name string
	Counter                uint32 // the release's security counter
	Size                   int64
	SHA256                 [sha256.Size]byte
}

// Path is the target's name in the repository.
func (t Target) Path() string { return t.Product + "/" + t.Version + "/" + t.Name }

// File is one whole file of the repository.
type File struct {
	kind    string
	version int
	JSON    []byte
}

// Known is a file that was finished before, so that others can name it.
func Known(kind string, version int, json []byte) *File { return &File{kind, version, json} }

// Kind is root, targets, snapshot or timestamp.
func (f *File) Kind() string { return f.kind }

// Version counts the files of a kind.
func (f *File) Version() int { return f.version }

// Name is how the file is called in a repository with consistent snapshots
// (§7.2): with its version in front, but for the timestamp.
func (f *File) Name() string {
	if f.kind == "timestamp" {
		return "timestamp.json"
	}
	return strconv.Itoa(f.version) + "." + f.kind + ".json"
}

// Draft is a file that lacks its signatures.
type Draft struct {
	kind      string
	version   int
	signed    map[string]any
	canonical []byte
}

func newDraft(kind string, version int, expires time.Time, more map[string]any) (*Draft, error) {
	if version < 1 {
		return nil, fmt.Errorf("the %s is of version %d: they count from 1", kind, version)
	}
	signed := map[string]any{"_type": kind, "spec_version": specVersion, "version": int64(version), "expires": expires.UTC().Format(timeForm)}
	for name, value := range more {
		signed[name] = value
	}
	canonical, err := appendCanonical(nil, signed)
	return &Draft{kind, version, signed, canonical}, err
}

// timeForm is how files write times (§4.2): in UTC, to the second.
const timeForm = "2006-01-02T15:04:05Z"

// NewRoot names the keys of all roles (§4.3). The first one is signed by its
// own root keys; each further one by those of the root before, too.
func NewRoot(version int, expires time.Time, r Roles) (*Draft, error) {
	keys, roles := map[string]any{}, map[string]any{}
	for name, role := range map[string]Role{"root": r.Root, "targets": r.Targets, "snapshot": r.Snapshot, "timestamp": r.Timestamp} {
		ids := []any{}
		for _, pub := range role.Keys {
			id, key, err := describe(pub)
			if err != nil {
				return nil, fmt.Errorf("a key of %s: %w", name, err)
			}
			if _, twice := keys[id]; twice && contains(ids, id) {
				return nil, fmt.Errorf("the same key stands twice among those of %s", name)
			}
			keys[id], ids = key, append(ids, id)
		}
		if role.Threshold < 1 || role.Threshold > len(ids) {
			return nil, fmt.Errorf("%d of the %d keys of %s are to sign: want 1 to all of them", role.Threshold, len(ids), name)
		}
		roles[name] = map[string]any{"keyids": ids, "threshold": int64(role.Threshold)}
	}
	return newDraft("root", version, expires, map[string]any{"consistent_snapshot": true, "keys": keys, "roles": roles})
}

func contains(ids []any, id string) bool {
	for _, have := range ids {
		if have == id {
			return true
		}
	}
	return false
}

// pathForm keeps names to what is one path on every system.
var pathForm = regexp.MustCompile(`^[A-Za-z0-9_+~-][A-Za-z0-9._+~-]{0,127}$`)

// NewTargets lists what may be installed (§4.5).
func NewTargets(version int, expires time.Time, list []Target) (*Draft, error) {
	targets := map[string]any{}
	for _, t := range list {
		for _, part := range []string{t.Product, t.Version, t.Name} {
			if !pathForm.MatchString(part) {
				return nil, fmt.Errorf("the target %q cannot be a path in the repository: %q is no name of letters, digits and ._+~-", t.Path(), part)
			}
		}
		if _, twice := targets[t.Path()]; twice {
			return nil, fmt.Errorf("the target %q is there twice", t.Path())
		}
		targets[t.Path()] = map[string]any{"length": t.Size, "hashes": map[string]any{"sha256": hex.EncodeToString(t.SHA256[:])},
			"custom": map[string]any{"product": t.Product, "version": t.Version, "securityCounter": int64(t.Counter)}}
	}
	return newDraft("targets", version, expires, map[string]any{"targets": targets})
}

// NewSnapshot names the targets file that belongs to it (§4.4).
func NewSnapshot(version int, expires time.Time, targets *File) (*Draft, error) {
	return newDraft("snapshot", version, expires, map[string]any{"meta": map[string]any{"targets.json": targets.meta()}})
}

// NewTimestamp names the newest snapshot (§4.6). It ends soon, so that nobody
// can be kept on an old one.
func NewTimestamp(version int, expires time.Time, snapshot *File) (*Draft, error) {
	return newDraft("timestamp", version, expires, map[string]any{"meta": map[string]any{"snapshot.json": snapshot.meta()}})
}

func (f *File) meta() map[string]any {
	sum := sha256.Sum256(f.JSON)
	return map[string]any{"version": int64(f.version), "length": int64(len(f.JSON)), "hashes": map[string]any{"sha256": hex.EncodeToString(sum[:])}}
}

// describe gives a key as files have it (§4.2), and its ID.
func describe(pub crypto.PublicKey) (id string, key map[string]any, err error) {
	alg, err := firmwaresign.AlgorithmFor(pub, false)
	if err != nil {
		return "", nil, err
	}
	kind, scheme, value := "", "", ""
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		kind, scheme, value = "ed25519", "ed25519", hex.EncodeToString(pub)
	case *ecdsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			return "", nil, err
		}
		kind, scheme, value = "ecdsa", "ecdsa-sha2-nistp256", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	if alg != firmwaresign.Ed25519 && alg != firmwaresign.ECDSAP256SHA256 {
		return "", nil, &firmwaresign.KeyError{Reason: fmt.Sprintf("a key for %s does not sign here: use Ed25519 or ECDSA on P-256", alg)}
	}
	key = map[string]any{"keytype": kind, "scheme": scheme, "keyval": map[string]any{"public": value}}
	text, err := appendCanonical(nil, key)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), key, err
}

// ToSign is the signature that is wanted from a key: over the canonical JSON.
func (d *Draft) ToSign(pub crypto.PublicKey) (firmwaresign.ToSign, error) {
	alg, err := firmwaresign.AlgorithmFor(pub, false)
	if err != nil {
		return firmwaresign.ToSign{}, err
	}
	return firmwaresign.NewToSign(alg, pub, d.canonical)
}

// Signature is one over a draft.
type Signature struct {
	Key   crypto.PublicKey
	Bytes []byte
}

// Finish makes the file of a draft, once every signature has been verified and
// is by another key. Whether they are enough says the role, which only the root
// knows.
func (d *Draft) Finish(role Role, signatures ...Signature) (*File, error) {
	list, counted := []map[string]string{}, map[string]bool{}
	for _, s := range signatures {
		want, err := d.ToSign(s.Key)
		if err == nil {
			err = want.Verify(s.Bytes)
		}
		if err != nil {
			return nil, fmt.Errorf("a signature of the %s: %w", d.kind, err)
		}
		id, _, err := describe(s.Key)
		if err != nil {
			return nil, err
		}
		if counted[id] {
			return nil, fmt.Errorf("the key %s signed the %s twice", id, d.kind)
		}
		counted[id] = true
		list = append(list, map[string]string{"keyid": id, "sig": hex.EncodeToString(s.Bytes)})
	}
	if err := role.enough(counted); err != nil {
		return nil, fmt.Errorf("the %s %w", d.kind, err)
	}
	return d.file(list)
}

func (d *Draft) file(signatures []map[string]string) (*File, error) {
	text, err := json.MarshalIndent(map[string]any{"signed": d.signed, "signatures": signatures}, "", " ")
	return &File{d.kind, d.version, append(text, '\n')}, err
}

// enough counts the role's keys among those that signed.
func (r Role) enough(signed map[string]bool) error {
	n := 0
	for _, pub := range r.Keys {
		if id, _, err := describe(pub); err == nil && signed[id] {
			n++
		}
	}
	if n < r.Threshold || r.Threshold < 1 {
		return fmt.Errorf("has %d signatures of its role's keys: %d are wanted", n, r.Threshold)
	}
	return nil
}
