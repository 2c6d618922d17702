package store

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// pastPage is how many registrations are read at a time: a query that stays
// open while rules run would keep SQLite from shortening its WAL.
const pastPage = 1000

// PastRegistrations calls fn with the registrations of a product's devices
// since a time, oldest first, at most limit of them.
func (s *Store) PastRegistrations(ctx context.Context, product string, since time.Time, limit int, fn func(vetting.Past) error) error {
	p, err := s.Product(ctx, product)
	if err != nil {
		return err
	}
	orders, networks := map[int64]*vetting.Order{}, map[int64][]netip.Prefix{}
	for after := int64(0); limit > 0; {
		page, err := s.pastPage(ctx, p.ID, after, since, min(limit, pastPage))
		if err != nil || len(page) == 0 {
			return err
		}
		for _, past := range page {
			if past.Order, err = s.orderByID(ctx, orders, past.Record.OrderID); err != nil {
				return err
			}
			site := past.Record.SiteID
			if _, known := networks[site]; !known {
				if networks[site], err = s.networksOf(ctx, site); err != nil {
					return err
				}
			}
			past.OnSite = from(past.Registration.Claim.Remote, networks[site])
			if err := fn(past); err != nil {
				return err
			}
			after = past.Registration.ID
		}
		limit -= len(page)
	}
	return nil
}

func (s *Store) pastPage(ctx context.Context, product, after int64, since time.Time, limit int) (list []vetting.Past, err error) {
	err = s.db.query(ctx, `SELECT `+registrationColumns+`, `+recordColumns+`, `+testOrNone+` FROM registrations r JOIN records rec ON rec.id = r.device_id
		LEFT JOIN test_results tr ON tr.id = (SELECT MAX(x.id) FROM test_results x WHERE x.device_id = rec.id AND x.at <= r.last)
		WHERE rec.product_id = $1 AND r.id > $2 AND r.at >= $3 ORDER BY r.id LIMIT $4`, []any{product, after, micros(since), limit}, func(r row) error {
		var reg registrationRow
		var rec recordRow
		var test testRow
		if err := r.Scan(slices.Concat(reg.dest(), rec.dest(), test.dest())...); err != nil {
			return err
		}
		result, err := test.result()
		if err != nil {
			return err
		}
		registration, err := reg.registration()
		if err != nil {
			return err
		}
		record, err := rec.record()
		list = append(list, vetting.Past{Registration: registration, Record: record, Test: result})
		return err
	})
	return list, err
}

func (s *Store) orderByID(ctx context.Context, known map[int64]*vetting.Order, id int64) (*vetting.Order, error) {
	if o := known[id]; o != nil {
		return o, nil
	}
	list, err := s.orders(ctx, `o.id = $1`, id)
	if err != nil || len(list) == 0 {
		return nil, orNotFound(err, "order", id)
	}
	known[id] = list[0]
	return list[0], nil
}
