package store

import (
	"context"

	"github.com/touchmark/touchmark/vetting"
)

// ekListed finds records by the endorsement key that they list, which follows
// in hex: it is the first field of made (vetting.Manufacturing), and indexed so.
const ekListed = `substr(rec.made, 1, 11) = '{"ekHash":"' AND substr(rec.made, 12, 64) = `

// byTPM finds the record that a TPM speaks of: the one that lists its
// endorsement key, or that of the device which enrolled by it, or else one
// that lists none and bears the name that the device asserts.
func (s *Store) byTPM(ctx context.Context, f *vetting.Facts) error {
	key := f.Claim.Auth.Key
	units, err := s.unitsFor(ctx, f.Claim.Key, ekListed+`$2 LIMIT 8`, key.String())
	if err == nil && len(units) == 0 {
		units, err = s.unitsFor(ctx, f.Claim.Key, `d.ek = $2`, key[:])
	}
	switch {
	case err != nil:
		return err
	case len(units) == 1:
		return s.endorsed(ctx, f, units[0])
	case len(units) > 1:
		return bear(f, units)
	}
	return s.byTPMsName(ctx, f)
}

func (s *Store) byTPMsName(ctx context.Context, f *vetting.Facts) error {
	units, err := s.byAsserted(ctx, f.Claim)
	if err != nil {
		return err
	}
	var unlisted []*unit
	for _, u := range units {
		r, err := u.record.record()
		if err != nil {
			return err
		}
		if r.Made.EKHash == "" {
			unlisted = append(unlisted, u)
		}
	}
	if len(unlisted) == 1 {
		return s.endorsed(ctx, f, unlisted[0])
	}
	if serial := f.Claim.Asserted.Serial; len(units) == 0 && serial != "" {
		f.Dispute, err = s.dispute(ctx, `di.serial = $1`, serial)
		return err
	}
	return bear(f, units)
}

// endorsed takes a record with what its product makes of the TPM.
func (s *Store) endorsed(ctx context.Context, f *vetting.Facts, u *unit) error {
	if err := s.fill(ctx, f, u); err != nil {
		return err
	}
	f.Claim.Vouch(f.Product.Name)
	copy(f.DeviceEK[:], u.device.EK)
	key := f.Claim.Auth.Key
	if _, err := one(ctx, s.db, `SELECT d.id FROM devices d WHERE d.ek = $1`, []any{key[:]}, &f.EKHolder); err != nil {
		return err
	}
	if f.Record.Made.EKHash != "" || !f.DeviceEK.IsZero() {
		return nil
	}
	var err error
	f.OnSite, err = s.OnSite(ctx, f)
	return err
}
