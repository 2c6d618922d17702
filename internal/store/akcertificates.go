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
	units, err := s.units(ctx, ekListed+`$1 LIMIT 2`, ek.String())
	if err == nil && len(units) == 0 {
		units, err = s.units(ctx, `d.ek = $1`, ek[:])
	}
	if err != nil || len(units) != 1 {
		return "", err
	}
	return units[0].record.Serial, nil
}
