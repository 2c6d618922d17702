package store

import (
	"context"
	"fmt"
	"math"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

func (s *Store) registrations(ctx context.Context, where string, args ...any) ([]*vetting.Registration, error) {
	return readAll(ctx, s.db, `SELECT `+registrationColumns+` FROM registrations r WHERE `+where, args, (*registrationRow).dest, (*registrationRow).registration)
}

// newestFirst turns a page into the upper bound of the IDs on it.
func newestFirst(p vetting.Page) int64 {
	if p.After == 0 {
		return math.MaxInt64
	}
	return p.After
}

// Registrations lists registrations, newest first.
func (s *Store) Registrations(ctx context.Context, f vetting.RegistrationFilter, p vetting.Page) ([]*vetting.Registration, error) {
	where, args := `r.id < $1`, []any{newestFirst(p)}
	and := func(condition string, value any, given bool) {
		if given {
			args = append(args, value)
			where += fmt.Sprintf(" AND "+condition, len(args))
		}
	}
	and(`r.site_id = (SELECT id FROM sites WHERE name = $%d)`, f.Site, f.Site != "")
	and(`r.order_id = (SELECT id FROM orders WHERE name = $%d)`, f.Order, f.Order != "")
	and(`r.device_id = $%d`, f.DeviceID, f.DeviceID != 0)
	outcome := f.Outcome
	if f.Undecided {
		outcome = vetting.Held
		where += ` AND r.decision = ''`
	}
	and(`r.outcome = $%d`, string(outcome), outcome != "")
	if outcome != "" && outcome != vetting.Admitted {
		where += ` AND r.outcome <> 'admitted'` // lets the partial index serve
	}
	args = append(args, limit(p))
	return s.registrations(ctx, where+fmt.Sprintf(` ORDER BY r.id DESC LIMIT $%d`, len(args)), args...)
}

// Registration returns a registration by ID, or a NotFound error.
func (s *Store) Registration(ctx context.Context, id int64) (*vetting.Registration, error) {
	list, err := s.registrations(ctx, `r.id = $1`, id)
	return theOne(list, err, "registration", id)
}

// DecideRegistration keeps a person's word on a held registration; on any
// other, or one decided already, it is a Conflict. It takes effect when the
// device asks again.
func (s *Store) DecideRegistration(ctx context.Context, a access.Act, id int64, d vetting.Decision) (*vetting.Registration, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		var reg registrationRow
		w.fetch(`SELECT `+registrationColumns+` FROM registrations r WHERE r.id = $1`, []any{id}, func(r row) error { return r.Scan(reg.dest()...) })
		if err := w.flush(); err != nil {
			return 0, err
		}
		switch {
		case reg.ID == 0:
			return 0, notFound("registration", id)
		case reg.Outcome != string(vetting.Held):
			return 0, vetting.Errorf(vetting.Conflict, "registration %d is %s: only held ones wait for a decision", id, reg.Outcome)
		case reg.Decision != "":
			return 0, vetting.Errorf(vetting.Conflict, "registration %d was decided already", id)
		}
		d.At = w.now
		reg.Decision = mustJSON(d)
		act := "registration.let-in"
		if !d.Admit {
			act = "registration.turn-away"
		}
		leaf := w.leaf(act, operatorOf(a), d.Note, reg.object())
		w.exec(`UPDATE registrations SET decision = $2, leaf = $3 WHERE id = $1`, id, reg.Decision, leaf)
		return id, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Registration(ctx, id)
}
