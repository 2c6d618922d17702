package manifest

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/vetting"
)

// AddSignature adds a detached CMS signature, DER or PEM, to a manifest that
// awaits signatures or approvals, and accepts the manifest if that was the last
// one wanted and nobody has to approve it. An operator who signed before changes nothing. A signature that is
// not good is Invalid.
func (im *Importer) AddSignature(ctx context.Context, act access.Act, id int64, sig []byte) (*vetting.Manifest, error) {
	m, err := im.Store.Manifest(ctx, id)
	if err != nil {
		return nil, err
	}
	signed, err := im.verify(ctx, m, [][]byte{sig})
	if err != nil {
		return nil, err
	}
	if m, err = im.addSignatures(ctx, act, m, signed); err != nil {
		return nil, err
	}
	im.loadIfAccepted(m)
	return m, nil
}

// addSignatures stores those of operators who have not signed yet, as long
// as the manifest wants any.
func (im *Importer) addSignatures(ctx context.Context, act access.Act, m *vetting.Manifest, signed []Signature) (*vetting.Manifest, error) {
	for _, s := range signed {
		if m.State != vetting.ManifestUnsigned && m.State != vetting.ManifestUnapproved {
			break
		}
		if slices.Contains(m.Signers, s.Operator) {
			continue
		}
		one := act
		if len(signed) > 1 && act.Key != "" {
			one.Key += "/" + s.Operator // each is an act of its own
		}
		var err error
		if m, err = im.Store.AddManifestSignature(ctx, one, m.ID, s); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// verify checks all messages over a stored file and returns one signature
// for each operator who made one. At least one is needed, and none may be
// wrong.
func (im *Importer) verify(ctx context.Context, m *vetting.Manifest, messages [][]byte) ([]Signature, error) {
	if len(messages) == 0 {
		return nil, vetting.Errorf(vetting.Invalid, "the manifest came without a signature: hand in at least one, made by \"touchmark manifest sign\" or \"openssl cms -sign -binary -outform DER\" with a site operator's key")
	}
	if len(messages) > vetting.MaxSignatures {
		return nil, vetting.Errorf(vetting.Invalid, "%d signatures came with the manifest: at most %d are accepted", len(messages), vetting.MaxSignatures)
	}
	digest := im.digests(ctx, m)
	var out []Signature
	for i, message := range messages {
		found, err := im.signers(ctx, m, message, digest)
		if wrong := (*signatureError)(nil); errors.As(err, &wrong) {
			return nil, vetting.Errorf(vetting.Invalid, "signature %d of %d is not accepted: %v", i+1, len(messages), wrong.err)
		}
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			if !slices.ContainsFunc(out, func(o Signature) bool { return o.Operator == s.Operator }) {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// signatureError is the fault of a signature or of who made it.
type signatureError struct{ err error }

func (e *signatureError) Error() string { return e.err.Error() }

func (im *Importer) signers(ctx context.Context, m *vetting.Manifest, message []byte, digest cms.Digest) ([]Signature, error) {
	found, err := cms.VerifyDetached(message, digest, im.FactoryCAs(), im.Now())
	if ours := (*cms.DigestError)(nil); errors.As(err, &ours) {
		return nil, err
	}
	if err != nil {
		return nil, &signatureError{err}
	}
	der, err := cms.Decode(message)
	if err != nil {
		return nil, &signatureError{err}
	}
	var out []Signature
	for _, s := range found {
		op, err := im.Store.OperatorByKey(ctx, vetting.KeyFingerprint(s.Certificate.RawSubjectPublicKeyInfo))
		if vetting.ProblemOf(err) == vetting.NotFound {
			return nil, &signatureError{fmt.Errorf("the key of %q belongs to no operator known here", s.Certificate.Subject)}
		}
		if err != nil {
			return nil, fmt.Errorf("look up who signed: %w", err)
		}
		if err := maySign(op, m.Site); err != nil {
			return nil, &signatureError{err}
		}
		out = append(out, Signature{Operator: op.Name, DER: der, At: im.Now()})
	}
	return out, nil
}

func maySign(op *access.Operator, site string) error {
	switch {
	case !op.Revoked.IsZero():
		return fmt.Errorf("operator %s was revoked", op.Name)
	case op.Role != access.RoleSiteOperator:
		return fmt.Errorf("%s has the role %s: only a %s signs manifests", op.Name, op.Role, access.RoleSiteOperator)
	case op.Site != site:
		return fmt.Errorf("operator %s belongs to another site than the order's (%s)", op.Name, site)
	}
	return nil
}

// digests gives the digests of a manifest's file: SHA-256 is known, others
// are computed from the stored parts when they are first asked for.
func (im *Importer) digests(ctx context.Context, m *vetting.Manifest) cms.Digest {
	known := map[crypto.Hash][]byte{}
	return func(h crypto.Hash) ([]byte, error) {
		if h == crypto.SHA256 {
			return hex.DecodeString(m.SHA256)
		}
		if sum, ok := known[h]; ok {
			return sum, nil
		}
		r := readParts(ctx, im.Store, m.ID)
		defer r.Close()
		sum := h.New()
		if _, err := io.Copy(sum, r); err != nil {
			return nil, err
		}
		known[h] = sum.Sum(nil)
		return known[h], nil
	}
}
