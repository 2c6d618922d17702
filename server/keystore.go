package server

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/vetting"
)

// keyStore makes and opens the keys that sign firmware and licences, and
// remembers which of them could not be used when they were last wanted.
type keyStore struct {
	ring keys.Ring

	mu   sync.Mutex
	lost map[string]string // URIs, by the keys' names
}

// placed is where a key of a kind and name is. Its {id}, which PKCS#11 wants,
// follows from them.
func placed(place, kind, name string) string {
	sum := sha256.Sum256([]byte(kind + " " + name))
	return strings.NewReplacer("{name}", name, "{id}", hex.EncodeToString(sum[:8])).Replace(place)
}

func newKeyStore(dir string) *keyStore {
	return &keyStore{ring: keys.Ring{Dir: dir}, lost: map[string]string{}}
}

// make makes a key. One of that name that is there is taken up if it is of
// the same kind: an attempt broke off before it was known.
func (s *keyStore) make(ctx context.Context, name, uri string, kind keys.Kind) (crypto.Signer, error) {
	signer, err := s.ring.Create(ctx, uri, kind)
	if errors.Is(err, fs.ErrExist) {
		signer, err = s.ring.Open(ctx, uri)
	}
	var never *keys.KindError
	switch {
	case errors.As(err, &never):
		return nil, vetting.Errorf(vetting.Conflict, "%v", never)
	case err != nil:
		return nil, &vetting.KeyError{Key: name, Err: err}
	}
	if have := release.KindOf(signer.Public()); have != string(kind) {
		return nil, vetting.Errorf(vetting.Conflict, "the key store has a key for %s already, of kind %s: choose another name, or that kind", name, have)
	}
	return signer, nil
}

func (s *keyStore) open(ctx context.Context, name, uri string) (crypto.Signer, error) {
	signer, err := s.ring.Open(ctx, uri)
	s.note(name, uri, err)
	if err != nil {
		return nil, err
	}
	return &storedKey{signer, s, name, uri}, nil
}

// note remembers what became of a key's last use.
func (s *keyStore) note(name, uri string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.lost, name)
	} else {
		s.lost[name] = uri
	}
}

// check reports the keys whose last use failed, and that cannot be opened
// since: nothing else asks whether an HSM is back.
func (s *keyStore) check(ctx context.Context) error {
	s.mu.Lock()
	lost := maps.Clone(s.lost)
	s.mu.Unlock()
	var names []string
	var last error
	for _, name := range slices.Sorted(maps.Keys(lost)) {
		if _, err := s.open(ctx, name, lost[name]); err != nil {
			names, last = append(names, name), err
		}
	}
	if last == nil {
		return nil
	}
	return fmt.Errorf("%s cannot sign, who asks is told to try later: %s", strings.Join(names, ", "), keys.Redact(last.Error()))
}

// storedKey is a key of the store, which learns what becomes of its use.
type storedKey struct {
	crypto.Signer
	store     *keyStore
	name, uri string
}

func (k *storedKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := k.Signer.Sign(rand, digest, opts)
	k.store.note(k.name, k.uri, err)
	return sig, err
}
