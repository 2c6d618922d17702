package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/vetting"
)

// Keys of a server's own, which need no ceremony: each is used if the
// configuration says where it is. All are ECDSA.
const (
	// ResponderKeyName signs OCSP answers; without it, keys in memory do.
	ResponderKeyName = "responder"
	// AttestationKeyName certifies the attestation keys of TPMs; without it, one
	// does that is derived from what all servers share.
	AttestationKeyName = "attestation"
	// TLSKeyName is that of the server's own certificate; without it, each
	// server makes one in memory.
	TLSKeyName = "tls"
	// TimestampKeyName signs time stamps; without it there are none.
	TimestampKeyName = "timestamp"
)

// OwnKeys are their names.
var OwnKeys = []string{ResponderKeyName, AttestationKeyName, TLSKeyName, TimestampKeyName}

// ownKey is one of them, which remembers whether it could sign.
type ownKey struct {
	key crypto.Signer
	tried
}

func (k *ownKey) Public() crypto.PublicKey { return k.key.Public() }

func (k *ownKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := k.key.Sign(rand, digest, opts)
	return sig, k.note(err)
}

// Own is the key of that name among OwnKeys, or nil if there is none.
func (a *Authorities) Own(name string) crypto.Signer {
	if k := a.own[name]; k != nil {
		return k
	}
	return nil
}

// CheckOwn tells why a key among OwnKeys cannot sign now, as far as its last
// use or Probe found out.
func (a *Authorities) CheckOwn(name string) error {
	if k := a.own[name]; k != nil {
		return k.last()
	}
	return nil
}

// openOwn opens those of the keys that the configuration has.
func (a *Authorities) openOwn(ctx context.Context, names ...string) error {
	a.own = map[string]*ownKey{}
	for _, name := range names {
		uri := a.places.Keys[name]
		if uri == "" {
			continue
		}
		key, err := keys.Ring{Dir: a.places.Dir}.Open(ctx, uri)
		if err != nil {
			return fmt.Errorf("%w (if it was never made: touchmark ca make-key %s)", err, name)
		}
		if public, ok := key.Public().(*ecdsa.PublicKey); !ok || public.Curve != elliptic.P256() && public.Curve != elliptic.P384() {
			return fmt.Errorf("the key %s cannot be used as %s: want ECDSA on P-256 or P-384", keys.Redact(uri), name)
		}
		a.own[name] = &ownKey{key: key}
	}
	return nil
}

// makeOwn makes those of the keys that the configuration has.
func (p Places) makeOwn(ctx context.Context) error {
	for _, name := range OwnKeys {
		if p.Keys[name] == "" {
			continue
		}
		if _, err := p.MakeKey(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// MakeKey makes a key among OwnKeys for an installation that has none yet,
// where Keys says. It never overwrites one.
func (p Places) MakeKey(ctx context.Context, name string) (crypto.PublicKey, error) {
	switch {
	case name == LogKeyName:
		return nil, fmt.Errorf("the log has its key since init, and keeps it: whoever checks the log knows it by that key")
	case IsIssuingKeyName(name), name == RootName, slices.ContainsFunc(vetting.Purposes, func(p vetting.Purpose) bool { return p.FoundingCA() == name }):
		return nil, fmt.Errorf("%s is the key of a CA: a new key is a new CA, made by touchmark issuer create, or by touchmark ca root-rollover for the root", name)
	case !slices.Contains(OwnKeys, name):
		return nil, fmt.Errorf("there is no key %q: known are %s", name, strings.Join(OwnKeys, ", "))
	case p.Keys[name] == "":
		return nil, fmt.Errorf("the configuration does not say where the key %s is to be: put its URI under keys: first, as in %s: \"pkcs11:…;id=…;object=%[1]s?pin-source=…\"", name, name)
	}
	key, err := keys.Ring{Dir: p.Dir}.Create(ctx, p.Keys[name], keys.P256)
	if err != nil {
		return nil, err
	}
	return key.Public(), nil
}
