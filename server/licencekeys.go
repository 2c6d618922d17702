package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"strings"
	"sync"

	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/vetting"
)

// licenceKeys are the keys that sign licences: in the key store by their name,
// licence-PRODUCT-NUMBER, or where the configuration says of each or of all.
type licenceKeys struct {
	keys *keyStore
	uris map[string]string // by name

	mu   sync.Mutex
	open map[int64]crypto.Signer // by the ID of the key
}

// licenceKeysPlace is the name under keys: in the configuration of where keys
// for licences are made.
const licenceKeysPlace = "licences"

// licenceKeyPrefix is what the names of such keys begin with.
const licenceKeyPrefix = "licence-"

func isLicenceKeyName(name string) bool { return strings.HasPrefix(name, licenceKeyPrefix) }

func newLicenceKeys(c *Config, store *keyStore) *licenceKeys {
	return &licenceKeys{keys: store, uris: c.Keys, open: map[int64]crypto.Signer{}}
}

func (k *licenceKeys) uri(name string) string {
	if uri := k.uris[name]; uri != "" {
		return uri
	}
	if place := k.uris[licenceKeysPlace]; place != "" {
		return placed(place, "licence key", name)
	}
	return "file:keys/" + name + ".key"
}

// LicenceKey implements licensing.Keys. It refuses a key that is not the one
// that the database knows.
func (k *licenceKeys) LicenceKey(ctx context.Context, want *vetting.LicenceKey) (crypto.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.open[want.ID]; s != nil {
		return s, nil
	}
	s, err := k.keys.open(ctx, want.Name(), k.uri(want.Name()))
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(s.Public())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(public, want.Public) {
		return nil, errors.New("it is another one than when it was made: another file, or another token")
	}
	k.open[want.ID] = s
	return s, nil
}

// MakeLicenceKey implements api.LicenceKeyMaker. A key of that name that
// is there already, and was never made known, is taken.
func (k *licenceKeys) MakeLicenceKey(ctx context.Context, name, algorithm string) (public []byte, err error) {
	s, err := k.keys.make(ctx, name, k.uri(name), keys.Kind(algorithm))
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(s.Public())
}
