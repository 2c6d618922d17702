// Package repository keeps the metadata of a TUF repository up to date and
// serves it: its targets are the artefacts of the releases that are published
// at the moment. Root keys are elsewhere; a root comes in signed. What is made
// is kept in a [Store] for all servers: a [Maker] signs where the keys are, a
// [Directory] and its [Handler] serve.
package repository

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/tuf"
)

// Role is a kind of metadata (§2.1 of the specification).
type Role string

const (
	Root      Role = "root"
	Targets   Role = "targets"
	Snapshot  Role = "snapshot"
	Timestamp Role = "timestamp"
)

// Online are the roles whose keys the installation holds, in the order in
// which their files name each other.
var Online = []Role{Targets, Snapshot, Timestamp}

// KeyKinds are the kinds of keys that sign metadata.
var KeyKinds = []string{"P-256", "Ed25519"}

// Key is a key of an online role. It signs as soon as a root names it.
type Key struct {
	ID     int64  `json:"id" doc:"The key's number"`
	Role   Role   `json:"role" enum:"targets,snapshot,timestamp" doc:"What it signs"`
	Number int    `json:"number" doc:"Which of the role's keys it is, counted from 1"`
	Name   string `json:"name" doc:"The key's name in the configuration"`
	KeyID  string `json:"keyId" doc:"The key ID that metadata has"`
	// PublicKey is a SubjectPublicKeyInfo, DER.
	PublicKey []byte    `json:"publicKey" doc:"The public key: a SubjectPublicKeyInfo, DER in base64"`
	By        string    `json:"by" doc:"Who had it made"`
	Created   time.Time `json:"created" doc:"When it was made"`
}

// KeyName is what a key is called in the configuration.
func KeyName(r Role, number int) string { return fmt.Sprintf("tuf-%s-%d", r, number) }

// Public is the public key.
func (k *Key) Public() (crypto.PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(k.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("the public key of %s: %w", k.Name, err)
	}
	return pub, nil
}

// RootFile is a root that was taken. All of them are kept.
type RootFile struct {
	Version int
	Expires time.Time
	JSON    []byte
}

// File is a file of an online role.
type File struct {
	Role    Role
	Version int
	Expires time.Time
	// Listing is, for targets, the state of the releases that it lists; see
	// [Store.TUFListing].
	Listing int64
	JSON    []byte
}

// State is a repository as it is served: nothing, or at least one root with
// the newest file of each online role.
type State struct {
	Roots []RootFile // by version, from 1
	Files map[Role]*File
}

// Mark tells two states apart.
type Mark struct{ Root, Timestamp int }

// Mark is zero for nothing.
func (s *State) Mark() (m Mark) {
	if n := len(s.Roots); n > 0 {
		m.Root = s.Roots[n-1].Version
	}
	if f := s.Files[Timestamp]; f != nil {
		m.Timestamp = f.Version
	}
	return m
}

// Root is the newest root; nil if there is none.
func (s *State) Root() (*tuf.Root, error) {
	if len(s.Roots) == 0 {
		return nil, nil
	}
	newest := s.Roots[len(s.Roots)-1]
	root, err := tuf.ParseRoot(newest.JSON)
	if err != nil {
		return nil, fmt.Errorf("root %d in the database: %w", newest.Version, err)
	}
	return root, nil
}

// Made is what comes into a repository at once.
type Made struct {
	Follows Mark
	Root    *RootFile // nil if the root stays
	// Files replace the ones of their roles. There is always a timestamp.
	Files []*File
	// Listing is what TUFListing must still say.
	Listing int64
}

// Store keeps a repository.
type Store interface {
	// TUFMark is that of what is kept.
	TUFMark(context.Context) (Mark, error)
	TUFState(context.Context) (*State, error)
	// TUFFile gives the bytes of a file that may have been replaced, nil if
	// it is not kept. What was replaced is kept for at least an hour.
	TUFFile(ctx context.Context, r Role, version int) ([]byte, error)
	// TUFKeys lists the keys of online roles, oldest first.
	TUFKeys(context.Context) ([]*Key, error)
	// TUFListing grows with each release that is published or taken back.
	TUFListing(context.Context) (int64, error)
	// TUFTargets are the signed files of the releases that are published.
	TUFTargets(context.Context) ([]tuf.Target, error)
	// KeepTUF keeps all of what was made with its leaf in the audit log, or
	// nothing: if the state is no longer the one that it follows, or other
	// releases are published than it lists, kept is false. Then another server
	// was faster, or a release.
	KeepTUF(ctx context.Context, by, note string, m *Made) (kept bool, err error)
}

// KeyError says that a key cannot sign at the moment. Nothing is lost: what was
// made is served on, and it is tried again.
type KeyError struct {
	Role Role
	Err  error
}

func (e *KeyError) Error() string {
	return fmt.Sprintf("the TUF key of %s cannot sign: %v", e.Role, e.Err)
}

func (e *KeyError) Unwrap() error { return e.Err }

// RefusedError says what is wrong with a root that was handed in.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

func refused(format string, args ...any) error {
	return &RefusedError{fmt.Sprintf(format, args...)}
}
