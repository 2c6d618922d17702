package server

import (
	"context"
	"crypto"

	pkix "filippo.io/mldsa/x509"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/firmware-sign/timestamp"
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
	keys      *keyStore
	place     string // a key URI with {name} and {id}
	certifier ca.FirmwareCertifier
	stamps    *timestamp.Authority // nil if there is none
	content   *contentKey
}

func (s *Server) firmware() firmware {
	place := s.config.Keys[firmwareKeys]
	if place == "" {
		place = "file:keys/firmware-{name}.key"
	}
	return firmware{s.store, s.keys, place, ca.FirmwareCertifier{Authorities: s.authorities, Now: s.env.Now}, s.stamps, newContentKey(s.config)}
}

// uri is where a key is.
func (f firmware) uri(name string) string {
	return placed(f.place, "firmware key", name)
}

// CreateFirmwareKey makes a key in the key store, has it certified, and keeps
// that. A key that an attempt left there which broke off is taken up again. The
// error is a *vetting.KeyError if the key store is out of reach.
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
	made, err := f.made(ctx, *k)
	if err != nil {
		return nil, err
	}
	return f.Store.CreateFirmwareKey(ctx, act, made)
}

// made is a key with its public half and, unless it is one for statements, its
// certificate.
func (f firmware) made(ctx context.Context, k release.Key) (*release.Key, error) {
	if err := f.keeps(&k); err != nil {
		return nil, err
	}
	signer, err := f.keys.make(ctx, k.Name, f.uri(k.Name), keys.Kind(k.Kind))
	if err != nil {
		return nil, err
	}
	k.Chain = [][]byte{}
	if k.PublicKey, err = pkix.MarshalPKIXPublicKey(signer.Public()); err != nil || k.SignsStatements() {
		return &k, err
	}
	k.Certificate, k.Chain, err = f.certifier.CertifyFirmwareKey(k.Name, k.Product, signer.Public())
	return &k, err
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

// SignArtefact signs what an artefact wants, if it may be signed. Signatures
// leave the process when it is kept that they were made. The error is a
// *vetting.KeyError if a key is out of reach; nothing is kept then.
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
	var last string
	signatures, err := permit.Sign(func(k *release.Key) (crypto.Signer, error) {
		last = k.Name
		return f.keys.open(ctx, last, f.uri(last))
	})
	if err != nil {
		return nil, &vetting.KeyError{Key: last, Err: err}
	}
	return f.KeepSignatures(ctx, act, id, signatures)
}
