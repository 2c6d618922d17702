package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/touchmark/touchmark/firmware-sign/catalogue"
	"github.com/touchmark/touchmark/firmware-sign/content"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// contentKeyName is the name under keys: of the key that secrets of encrypted
// firmware are sealed for.
const contentKeyName = "content"

// contentKey is that key. It is made when it is first asked for.
type contentKey struct {
	ring keys.Ring
	uri  string

	mu     sync.Mutex
	public content.WrappingKey
	opened crypto.Decrypter // nil before it was first asked for
}

func newContentKey(c *Config) *contentKey {
	uri := c.Keys[contentKeyName]
	if uri == "" {
		uri = "file:keys/" + contentKeyName + ".key"
	}
	return &contentKey{ring: keys.Ring{Dir: c.Dir}, uri: uri}
}

func (k *contentKey) open(ctx context.Context) (content.WrappingKey, crypto.Decrypter, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.opened != nil {
		return k.public, k.opened, nil
	}
	d, err := k.ring.OpenDecrypter(ctx, k.uri)
	if err != nil {
		if d, err = k.create(ctx, err); err != nil {
			return content.WrappingKey{}, nil, err
		}
	}
	pub, ok := d.Public().(*rsa.PublicKey)
	if !ok {
		return content.WrappingKey{}, nil, fmt.Errorf("the key %s is a %T: secrets of firmware are sealed for RSA", keys.Redact(k.uri), d.Public())
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return content.WrappingKey{}, nil, err
	}
	public, err := tried(spki, d)
	if err == nil {
		k.public, k.opened = public, d
	}
	return public, d, err
}

// create makes the key if there is none. One that is there and cannot be opened
// stays as it is.
func (k *contentKey) create(ctx context.Context, why error) (crypto.Decrypter, error) {
	_, err := k.ring.Create(ctx, k.uri, keys.RSA3072)
	if errors.Is(err, fs.ErrExist) {
		return nil, why
	}
	if err != nil {
		return nil, fmt.Errorf("make the key that secrets of firmware are sealed for: %w", err)
	}
	return k.ring.OpenDecrypter(ctx, k.uri)
}

// tried finds out with which hash a key store decrypts: SoftHSM 2.6, and some
// HSMs, know SHA-1 alone.
func tried(spki []byte, d crypto.Decrypter) (content.WrappingKey, error) {
	var failed error
	for _, hash := range content.Hashes {
		k := content.WrappingKey{PublicKey: spki, Hash: hash}
		sealed, err := k.Seal([]byte("a trial"), content.Of{})
		if err != nil {
			return k, err
		}
		got, err := k.Open(sealed, d, content.Of{})
		if err == nil && bytes.Equal(got, []byte("a trial")) {
			return k, nil
		}
		failed = errors.Join(failed, err)
	}
	return content.WrappingKey{}, fmt.Errorf("the key that secrets of firmware are sealed for does not decrypt: %w", failed)
}

// ContentKey is the public half of the key that secrets are sealed for.
func (f firmware) ContentKey(ctx context.Context) (*content.WrappingKey, error) {
	k, _, err := f.content.open(ctx)
	return &k, err
}

// KeepContent keeps the secret of an encrypted file after it was opened: what
// could not be wrapped for a device is refused before anything is published.
func (f firmware) KeepContent(ctx context.Context, act access.Act, id int64, signed release.File, checks []release.Check, sealed *content.Sealed) (*release.Artefact, error) {
	part, err := f.Artefact(ctx, id)
	if err != nil {
		return nil, err
	}
	if _, _, err := f.content.open(ctx); err != nil {
		return nil, err
	}
	secret, err := f.unseal(ctx, sealed, content.Of{Artefact: id, SHA256: signed.SHA256})
	if err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "the sealed secret: %v", err)
	}
	format, err := catalogue.ByName(part.Format)
	if err == nil {
		err = format.CheckSecret(part.Parameters, secret)
	}
	if err != nil {
		return nil, vetting.Errorf(vetting.Conflict, "what is secret of %s: %v", part.Name, err)
	}
	return f.Store.KeepContent(ctx, act, id, signed, checks, sealed)
}

func (f firmware) unseal(ctx context.Context, sealed *content.Sealed, of content.Of) ([]byte, error) {
	k, private, err := f.content.open(ctx)
	if err != nil {
		return nil, err
	}
	return k.Open(sealed, private, of)
}

// WrapArtefact makes what follows an encrypted file for each target. Nobody
// gets it before it is in the log for whom it is.
func (f firmware) WrapArtefact(ctx context.Context, act access.Act, id int64, wanted release.Wanted) (*api.Wraps, error) {
	part, err := f.Artefact(ctx, id)
	if err != nil {
		return nil, err
	}
	format, err := catalogue.ByName(part.Format)
	if err != nil {
		return nil, err
	}
	e := format.Encrypting(part.Parameters)
	if e == nil || part.Signed == nil {
		_, _, err := f.Targets(ctx, act, id, wanted, store.WrapRules{}) // says why not
		return nil, err
	}
	sealed, err := f.SealedContent(ctx, id)
	if err != nil {
		return nil, err
	}
	secret, err := f.unseal(ctx, sealed, content.Of{Artefact: id, SHA256: part.Signed.SHA256})
	if err != nil {
		return nil, fmt.Errorf("the secret of the artefact %d: %w", id, err)
	}
	now, targets, err := f.Targets(ctx, act, id, wanted, store.WrapRules{ByCertificate: e.ByCertificate, Fits: fits(e)})
	if err != nil {
		return nil, err
	}
	if *now.Signed != *part.Signed {
		return nil, vetting.Errorf(vetting.Conflict, "%s was encrypted anew just now: ask again", part.Name)
	}
	out := &api.Wraps{Shared: *part.Signed, Ends: []api.WrapEnd{}}
	for _, t := range targets {
		end, err := wrapFor(format, part, secret, t)
		if err != nil {
			return nil, err
		}
		out.Ends = append(out.Ends, *end)
	}
	return out, nil
}

func fits(e *catalogue.Encryption) func([]release.TargetKey) error {
	return func(list []release.TargetKey) error {
		to, err := recipients(list)
		if err != nil {
			return err
		}
		return e.Fits(to)
	}
}

func wrapFor(format *catalogue.Format, part *release.Artefact, secret []byte, t release.Target) (*api.WrapEnd, error) {
	to, err := recipients(t.Keys)
	if err != nil {
		return nil, err
	}
	end, err := format.Wrap(part.Parameters, secret, to)
	return &api.WrapEnd{Device: t.Device, Serial: t.Serial, End: end}, err
}

func recipients(list []release.TargetKey) (to []catalogue.Recipient, err error) {
	for _, k := range list {
		pub, err := x509.ParsePKIXPublicKey(k.PublicKey)
		if err != nil {
			return nil, err
		}
		to = append(to, catalogue.Recipient{Key: pub, ID: k.ID})
	}
	return to, nil
}
