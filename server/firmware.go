package server

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

// firmwareKeys is the name under keys: in the configuration of where keys for
// firmware are made.
const firmwareKeys = "firmware"

// firmware makes keys that sign firmware, and signs with them.
type firmware struct {
	*store.Store
	ring      keys.Ring
	place     string // a key URI with {name} and {id}
	certifier ca.FirmwareCertifier
}

func (s *Server) firmware() firmware {
	place := s.config.Keys[firmwareKeys]
	if place == "" {
		place = "file:keys/firmware-{name}.key"
	}
	return firmware{s.store, keys.Ring{Dir: s.config.Dir}, place, ca.FirmwareCertifier{Authorities: s.authorities, Now: s.env.Now}}
}

// uri is where a key is. Its {id}, which PKCS#11 wants, follows from the name.
func (f firmware) uri(name string) string {
	sum := sha256.Sum256([]byte("firmware key " + name))
	return strings.NewReplacer("{name}", name, "{id}", hex.EncodeToString(sum[:8])).Replace(f.place)
}

// CreateFirmwareKey makes a key in the key store, has it certified, and keeps
// that. A key that an attempt left there which broke off is taken up again.
func (f firmware) CreateFirmwareKey(ctx context.Context, act access.Act, k *release.Key) (*release.Key, error) {
	switch _, err := f.FirmwareKey(ctx, k.Name); {
	case err == nil: // the same request again; otherwise it is refused
		return f.Store.CreateFirmwareKey(ctx, act, k)
	case vetting.ProblemOf(err) != vetting.NotFound:
		return nil, err
	}
	if _, err := f.Product(ctx, k.Product); err != nil {
		return nil, err
	}
	signer, err := f.make(ctx, k)
	if err != nil {
		return nil, err
	}
	made := *k
	if made.PublicKey, err = x509.MarshalPKIXPublicKey(signer.Public()); err != nil {
		return nil, err
	}
	return f.certify(ctx, act, &made)
}

// certify has the public half of a key certified, and keeps that.
func (f firmware) certify(ctx context.Context, act access.Act, k *release.Key) (*release.Key, error) {
	public, err := k.Public()
	if err != nil {
		return nil, err
	}
	made := *k
	if made.Certificate, made.Chain, err = f.certifier.CertifyFirmwareKey(k.Name, k.Product, public); err != nil {
		return nil, err
	}
	return f.Store.CreateFirmwareKey(ctx, act, &made)
}

func (f firmware) make(ctx context.Context, k *release.Key) (crypto.Signer, error) {
	uri := f.uri(k.Name)
	if signer, err := f.ring.Open(ctx, uri); err == nil {
		return f.sameKind(signer, k)
	}
	signer, err := f.ring.Create(ctx, uri, keys.Kind(k.Kind))
	if errors.Is(err, fs.ErrExist) { // it is there, and cannot be opened
		return nil, fmt.Errorf("make the firmware key %s: %w", k.Name, err)
	}
	return signer, err
}

// sameKind takes a key up again if it is of the kind that is wanted.
func (f firmware) sameKind(signer crypto.Signer, k *release.Key) (crypto.Signer, error) {
	if kind := release.KindOf(signer.Public()); kind != k.Kind {
		return nil, vetting.Errorf(vetting.Conflict, "the key store has a key for %s already, of kind %s: choose another name, or that kind", k.Name, kind)
	}
	return signer, nil
}

// SignArtefact signs what an artefact wants, if it may be signed. Signatures
// leave the process when it is kept that they were made.
func (f firmware) SignArtefact(ctx context.Context, act access.Act, id int64) (*release.Artefact, error) {
	r, a, named, err := f.ReleaseOf(ctx, id)
	if err != nil {
		return nil, err
	}
	permit, err := release.Allow(r, a, named)
	if err != nil {
		return nil, vetting.Errorf(vetting.Conflict, "%v", err)
	}
	if len(a.Signatures) > 0 {
		return a, nil
	}
	if err := permit.Waits(); err != nil {
		return nil, vetting.Errorf(vetting.Conflict, "%v", err)
	}
	signatures, err := permit.Sign(func(k *release.Key) (crypto.Signer, error) { return f.ring.Open(ctx, f.uri(k.Name)) })
	if err != nil {
		return nil, err
	}
	return f.KeepSignatures(ctx, act, id, signatures)
}
