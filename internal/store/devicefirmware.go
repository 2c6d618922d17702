package store

import (
	"context"
	"slices"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/vetting"
)

// NoteFirmware keeps what a device was seen to run. As other observations it
// is no leaf of the log: nothing is decided by it. An older one than what is
// kept changes nothing.
func (s *Store) NoteFirmware(ctx context.Context, f release.Running) error {
	d, err := s.Device(ctx, f.Device)
	if err != nil {
		return err
	}
	return s.update(ctx, func(w *writing) error {
		product, err := w.idOf("product", "products", d.Product)
		if err != nil {
			return err
		}
		if f.At.After(w.now) {
			return vetting.Errorf(vetting.Invalid, "the device cannot have been seen at %s, which is in the future", f.At)
		}
		w.exec(`INSERT INTO device_firmware (device_id, product_id, version, counter, at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (device_id) DO UPDATE SET version = EXCLUDED.version, counter = EXCLUDED.counter, at = EXCLUDED.at WHERE device_firmware.at <= EXCLUDED.at`,
			f.Device, product, f.Version, int64(f.Counter), micros(f.At))
		return nil
	})
}

// YankImpact is whom it would touch that a release is yanked.
func (s *Store) YankImpact(ctx context.Context, id int64) (*release.Impact, error) {
	r, err := s.Release(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.impact(ctx, r.Product, []string{r.Version}, `version = $2`, r.Version)
}

// FloorImpact is whom a counter floor would touch.
func (s *Store) FloorImpact(ctx context.Context, product string, floor uint32) (*release.Impact, error) {
	p, err := s.Product(ctx, product)
	if err != nil {
		return nil, err
	}
	versions, err := s.texts(ctx, `SELECT version FROM releases WHERE product_id = $1 AND state = $2 AND counter < $3 ORDER BY id`, p.ID, string(release.Published), int64(floor))
	if err != nil {
		return nil, err
	}
	i, err := s.impact(ctx, product, versions, `counter < $2`, int64(floor))
	if err != nil {
		return nil, err
	}
	reachable, err := s.texts(ctx, `SELECT version FROM releases WHERE product_id = $1 AND state = $2 AND counter >= $3 LIMIT 1`, p.ID, string(release.Published), int64(floor))
	i.Stranded = len(reachable) == 0
	return i, err
}

// KeyImpact is whom it would touch that a signing key is revoked.
func (s *Store) KeyImpact(ctx context.Context, name string) (*release.Impact, error) {
	k, err := s.FirmwareKey(ctx, name)
	if err != nil {
		return nil, err
	}
	stated, err := s.signedStatements(ctx, k.ID)
	if err != nil {
		return nil, err
	}
	all := &release.Impact{Releases: []string{}}
	for p := (vetting.Page{Limit: 1000}); ; {
		list, err := s.Releases(ctx, release.Filter{Product: k.Product}, p)
		if err != nil || len(list) == 0 {
			return all, err
		}
		for _, r := range list {
			if !r.SignedBy(name) && !slices.Contains(stated, r.ID) {
				continue
			}
			i, err := s.impact(ctx, r.Product, []string{r.Version}, `version = $2`, r.Version)
			if err != nil {
				return nil, err
			}
			all.Devices, all.Seen, all.Releases = all.Devices+i.Devices, i.Seen, append(all.Releases, i.Releases...)
		}
		p.After = list[len(list)-1].ID
	}
}

// impact counts the devices of a product that a condition holds for.
func (s *Store) impact(ctx context.Context, product string, versions []string, condition string, value any) (*release.Impact, error) {
	p, err := s.Product(ctx, product)
	if err != nil {
		return nil, err
	}
	i := &release.Impact{Releases: []string{}}
	for _, v := range versions {
		i.Releases = append(i.Releases, product+"@"+v)
	}
	if _, err := one(ctx, s.db, `SELECT COUNT(*) FROM device_firmware WHERE product_id = $1 AND `+condition, []any{p.ID, value}, &i.Devices); err != nil {
		return nil, err
	}
	_, err = one(ctx, s.db, `SELECT COUNT(*) FROM device_firmware WHERE product_id = $1`, []any{p.ID}, &i.Seen)
	return i, err
}

func (s *Store) texts(ctx context.Context, query string, args ...any) (list []string, err error) {
	err = s.db.query(ctx, query, args, func(r row) error {
		var text string
		err := r.Scan(&text)
		list = append(list, text)
		return err
	})
	return list, err
}
