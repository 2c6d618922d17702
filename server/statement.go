package server

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/firmware-sign/timestamp"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/vetting"
)

// keeps refuses a key that the key store cannot have.
func (f firmware) keeps(k *release.Key) error {
	if k.SignsStatements() && !strings.HasPrefix(f.place, "file:") {
		return vetting.Errorf(vetting.Conflict, "a key of kind %s can only be kept in a file, and this server makes the keys of firmware at %s: no HSM that it knows signs with ML-DSA", k.Kind, keys.Redact(f.place))
	}
	return nil
}

// PublishRelease publishes a release. Its statement is signed first, so that
// none is ever published without; an attempt that broke off in between is
// taken up where it ended.
func (f firmware) PublishRelease(ctx context.Context, act access.Act, id int64) (*release.Release, error) {
	r, err := f.Release(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.State == release.Signed {
		if err := f.signStatement(ctx, act, id); err != nil {
			return nil, err
		}
	}
	return f.Store.PublishRelease(ctx, act, id)
}

// SignStatement has those keys sign the statement of a release that have not
// yet.
func (f firmware) SignStatement(ctx context.Context, act access.Act, id int64) ([]*release.StatementSignature, error) {
	if err := f.signStatement(ctx, act, id); err != nil {
		return nil, err
	}
	return f.StatementSignatures(ctx, id)
}

func (f firmware) signStatement(ctx context.Context, act access.Act, id int64) error {
	act.Key = "" // it stands for the whole request; to sign twice is to sign once
	r, lack, err := f.StatementWants(ctx, id)
	if err != nil {
		return err
	}
	for _, k := range lack {
		permit, err := release.AllowStatement(r, k)
		if err != nil {
			return vetting.Errorf(vetting.Conflict, "%v", err)
		}
		signer, err := f.keys.open(ctx, k.Name, f.uri(k.Name))
		if err != nil {
			return &vetting.KeyError{Key: k.Name, Err: err}
		}
		sig, err := permit.Sign(signer)
		if err != nil {
			return &vetting.KeyError{Key: k.Name, Err: err}
		}
		if sig.Timestamp, err = f.stamp(ctx, sig.Signature); err != nil {
			return fmt.Errorf("stamp the time on the signature by %s: %w", k.Name, err)
		}
		if _, err := f.KeepStatementSignature(ctx, act, id, sig); err != nil {
			return err
		}
	}
	return nil
}

// stamp is a time stamp over a signature's bytes, nil if this server has no
// authority.
func (f firmware) stamp(ctx context.Context, signature []byte) ([]byte, error) {
	if f.stamps == nil {
		return nil, nil
	}
	sum := sha256.Sum256(signature)
	return f.stamps.Stamp(ctx, &timestamp.Request{Hash: crypto.SHA256, Digest: sum[:], Certificates: true})
}
