package store

import (
	"context"
	"fmt"

	"github.com/touchmark/touchmark/vetting"
)

// NoteAKCertificate writes into the log that an attestation key of the TPM with
// an endorsement key got a certificate of that serial number.
func (s *Store) NoteAKCertificate(ctx context.Context, ek vetting.Fingerprint, serial []byte) error {
	return s.update(ctx, func(w *writing) error {
		w.leaf("attestation-key.certify", "tpm:"+ek.String(), fmt.Sprintf("%x", serial))
		return nil
	})
}

// DeviceOfEK implements attest.EKs.
func (s *Store) DeviceOfEK(ctx context.Context, ek vetting.Fingerprint) (serial string, err error) {
	u, err := s.unitOfEK(ctx, ek)
	if u == nil {
		return "", err
	}
	return u.record.Serial, nil
}

// ProductOfEK implements attest.Products.
func (s *Store) ProductOfEK(ctx context.Context, ek vetting.Fingerprint) (*vetting.Product, error) {
	u, err := s.unitOfEK(ctx, ek)
	if u == nil {
		return nil, err
	}
	return s.productAt(ctx, u.record.ProductID, u.productRevision)
}

// unitOfEK is the one unit whose record lists the key, or that enrolled by it;
// nil if there is none, or more.
func (s *Store) unitOfEK(ctx context.Context, ek vetting.Fingerprint) (*unit, error) {
	units, err := s.units(ctx, ekListed+`$1 LIMIT 2`, ek.String())
	if err == nil && len(units) == 0 {
		units, err = s.units(ctx, `d.ek = $1`, ek[:])
	}
	if err != nil || len(units) != 1 {
		return nil, err
	}
	return units[0], nil
}
