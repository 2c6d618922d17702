package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/vetting"
)

// licenceKeys are the keys that sign licences: in the key store by their name,
// licence-PRODUCT-NUMBER, or where the configuration says.
type licenceKeys struct {
	ring keys.Ring
	uris map[string]string // by name

	mu   sync.Mutex
	open map[int64]crypto.Signer // by the ID of the key
}

// licenceKeyPrefix is what the names of such keys begin with.
const licenceKeyPrefix = "licence-"

func isLicenceKeyName(name string) bool { return strings.HasPrefix(name, licenceKeyPrefix) }

func newLicenceKeys(c *Config) *licenceKeys {
	return &licenceKeys{ring: keys.Ring{Dir: c.Dir}, uris: c.Keys, open: map[int64]crypto.Signer{}}
}

func (k *licenceKeys) uri(name string) string {
	if uri := k.uris[name]; uri != "" {
		return uri
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
	s, err := k.ring.Open(ctx, k.uri(want.Name()))
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
	kind := keys.Kind(algorithm)
	s, err := k.ring.Create(ctx, k.uri(name), kind)
	if errors.Is(err, fs.ErrExist) {
		s, err = k.ring.Open(ctx, k.uri(name))
	}
	if err != nil {
		return nil, fmt.Errorf("make the key %s: %w", name, err)
	}
	return x509.MarshalPKIXPublicKey(s.Public())
}
