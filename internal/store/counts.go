package store

import (
	"context"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

const paceQuery = `SELECT scope, slot, issued FROM order_counts WHERE order_id = $1 AND slot >= $2`

func scanPace(p vetting.Pace) func(row) error {
	return func(r row) error {
		var scope string
		var slot, issued int64
		err := r.Scan(&scope, &slot, &issued)
		p.Add(scope, slot, issued)
		return err
	}
}

// Count implements enroll.Ledger.
func (s *Store) Count(ctx context.Context, f *vetting.Facts, looks vetting.Looks) (c vetting.Counters, err error) {
	if looks.Pace {
		p, err := s.paceOf(ctx, f.Order.ID, f.Now, looks.Now)
		if err != nil {
			return c, err
		}
		c = p.Counters(f, f.Now)
	}
	if looks.Attempts {
		_, err = one(ctx, s.db, `SELECT CAST(COALESCE(SUM(1 + repeats), 0) AS BIGINT),
			CAST(COALESCE(SUM(CASE WHEN outcome = 'refused' THEN 1 + repeats ELSE 0 END), 0) AS BIGINT)
			FROM registrations WHERE device_id = $1`, []any{f.Record.ID}, &c.Attempts, &c.Refusals)
	}
	return c, err
}

// paceOf reads an order's pace, or remembers it: until this server issues the
// next unit, and for a second at most, because others may issue some, too.
func (s *Store) paceOf(ctx context.Context, order int64, now time.Time, fresh bool) (vetting.Pace, error) {
	if p := s.cache.pace(order); p != nil && !fresh {
		return p, ctx.Err()
	}
	began := time.Now()
	p := vetting.Pace{}
	err := s.db.query(ctx, paceQuery, []any{order, vetting.OldestSlot(now)}, scanPace(p))
	if err == nil {
		s.cache.keepPace(order, p, began)
	}
	return p, err
}

// loadPace reads an order's pace once for the batch.
func (w *writing) loadPace(orderID int64, now time.Time) {
	if w.paces[orderID] == nil {
		p := vetting.Pace{}
		w.paces[orderID] = p
		w.fetch(paceQuery, []any{orderID, vetting.OldestSlot(now)}, scanPace(p))
	}
}

// tooFast reports whether one more unit would break the order's limits.
func (e *enrolment) tooFast(w *writing) bool {
	limits := e.facts.Order.Limits
	if !limits.Any() || !e.admission.TakesUnit() || e.letIn() {
		return false
	}
	c := w.paces[e.facts.Order.ID].Counters(&e.facts, w.now)
	return limits.Exceeded(c) != ""
}

// letIn reports whether a person let the device in, which lifts the limits.
func (e *enrolment) letIn() bool {
	p := e.facts.Pending
	return p != nil && p.Decision != nil && p.Decision.Admit
}

// countUnit notes a unit that was issued.
func (e *enrolment) countUnit(w *writing) {
	slot := vetting.Slot(w.now)
	for _, scope := range vetting.Scopes(&e.facts) {
		w.counts[countKey{e.facts.Order.ID, scope, slot}]++
		if p := w.paces[e.facts.Order.ID]; p != nil {
			p.Add(scope, slot, 1)
		}
	}
}

type countKey struct {
	order int64
	scope string
	slot  int64
}

func (w *writing) writeCounts() {
	for k, n := range w.counts {
		w.exec(`INSERT INTO order_counts (order_id, scope, slot, issued) VALUES ($1, $2, $3, $4)
			ON CONFLICT (order_id, scope, slot) DO UPDATE SET issued = order_counts.issued + excluded.issued`, k.order, k.scope, k.slot, n)
	}
	for k, n := range w.certified {
		w.exec(`INSERT INTO certificate_counts (issuer, ends, issued) VALUES ($1, $2, $3)
			ON CONFLICT (issuer, ends) DO UPDATE SET issued = certificate_counts.issued + excluded.issued`, k.issuer, k.ends, n)
	}
}

// certifiedKey is an issuing CA and the day on which its certificates run out.
type certifiedKey struct{ issuer, ends int64 }

// endsOn is the day, counted from 1970, in the course of which a time lies.
func endsOn(micros int64) int64 { return micros / (24 * time.Hour).Microseconds() }

// CertificateCounts tells how many certificates of each issuing CA have not
// run out before today, by the IDs of the CAs; 0 is the device CA. Revoked
// ones are among them.
func (s *Store) CertificateCounts(ctx context.Context) (map[int64]int64, error) {
	counts := map[int64]int64{}
	err := s.db.query(ctx, `SELECT issuer, CAST(SUM(issued) AS BIGINT) FROM certificate_counts WHERE ends >= $1 GROUP BY issuer`, []any{endsOn(micros(s.now()))}, func(r row) error {
		var issuer, n int64
		err := r.Scan(&issuer, &n)
		counts[issuer] = n
		return err
	})
	return counts, err
}
