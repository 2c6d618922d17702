package store

import (
	"context"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// tallyTime is for billions of index entries, in which the database has
// nothing to say.
const tallyTime = 15 * time.Minute

// Tally counts registrations, evidence, jobs, offered transfers, and the
// devices that asked to be let in or that somebody moved. It reads whole
// indexes, so it is for a dashboard's pace, not for requests.
func (s *Store) Tally(ctx context.Context) (vetting.Tally, error) {
	ctx, cancel := context.WithTimeout(ctx, tallyTime)
	defer cancel()
	t := vetting.Tally{
		Devices:       map[vetting.DeviceState]int64{},
		Registrations: map[vetting.Outcome]int64{},
		Evidence:      map[vetting.EvidenceKind]int64{},
		Jobs:          map[vetting.JobState]int64{},
	}
	count := func(sql string, add func(name string, n int64)) error {
		return s.db.query(ctx, sql, nil, func(r row) error {
			var name string
			var n int64
			if err := r.Scan(&name, &n); err != nil {
				return err
			}
			add(name, n)
			return nil
		})
	}
	if err := count(`SELECT state, COUNT(*) FROM devices WHERE state <> 'manufactured' GROUP BY state`, func(name string, n int64) { t.Devices[vetting.DeviceState(name)] = n }); err != nil {
		return t, err
	}
	if err := count(`SELECT outcome, COUNT(*) FROM registrations GROUP BY outcome`, func(name string, n int64) { t.Registrations[vetting.Outcome(name)] = n }); err != nil {
		return t, err
	}
	if err := count(`SELECT kind, COUNT(*) FROM evidence GROUP BY kind`, func(name string, n int64) { t.Evidence[vetting.EvidenceKind(name)] = n }); err != nil {
		return t, err
	}
	if err := count(`SELECT state, COUNT(*) FROM jobs GROUP BY state`, func(name string, n int64) { t.Jobs[vetting.JobState(name)] = n }); err != nil {
		return t, err
	}
	if _, err := one(ctx, s.db, `SELECT COUNT(*) FROM transfers WHERE state = 'offered' AND expires > $1`, []any{micros(s.now())}, &t.Offers); err != nil {
		return t, err
	}
	_, err := one(ctx, s.db, `SELECT COUNT(*) FROM orders WHERE state = 'open'`, nil, &t.OpenOrders)
	return t, err
}
