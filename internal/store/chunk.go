package store

import (
	"context"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

const (
	// jobChunk is how many devices one transaction of a job changes, unless
	// Options say otherwise: enough to share its costs, few enough to let a
	// waiting enrolment in soon.
	jobChunk = 1000
	// jobLease is how long a server may be silent before another takes its
	// job over. Nothing but speed depends on it: where a job stands is
	// checked in each transaction.
	jobLease = 3 * time.Second
	// restShare is for how many times as long as a chunk held the writer a job
	// rests, when others wrote meanwhile.
	restShare = 3
	// maxLeafObjects keeps a leaf below audit.MaxLeaf.
	maxLeafObjects = 550
)

// WorkOnJob lets the next devices of a running job have their turn, in one
// transaction with how far the job is then; so it goes on exactly there,
// whatever happens to whoever works on it. The owner is who does: for as long
// as another was heard of lately, that is a Conflict. The job rests before
// the next call for as long as it should, to leave others their share.
func (s *Store) WorkOnJob(ctx context.Context, id int64, owner string) (j *vetting.Job, rest time.Duration, err error) {
	others := s.written.Load()
	row, err := s.jobRow(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	c := &chunk{id: id, owner: owner, from: row.LastID}
	if c.body, err = row.parse(); err != nil {
		return nil, 0, err
	}
	sel, err := row.selection(c.body, row.Upto)
	if err != nil {
		return nil, 0, err
	}
	sel.idsOnly = true
	page, looked, err := s.selectPage(ctx, sel, row.LastID, s.chunk)
	if err != nil {
		return nil, 0, err
	}
	c.state, c.looked, c.ends = sel.State, looked, looked >= row.Upto
	for _, d := range page {
		c.ids = append(c.ids, d.ID)
	}
	if err := s.update(ctx, c.apply); err != nil {
		return nil, 0, err
	}
	if s.written.Load() != others {
		rest = time.Duration(restShare * float64(time.Since(c.began)))
	}
	j, err = s.Job(ctx, id)
	return j, rest, err
}

// NextJob is a running job that nobody works on, or this owner; 0 if there
// is none.
func (s *Store) NextJob(ctx context.Context, owner string) (id int64, err error) {
	_, err = one(ctx, s.db, `SELECT j.id FROM jobs j WHERE j.state = 'running' AND (j.owner = $1 OR j.lease < $2) ORDER BY j.id LIMIT 1`,
		[]any{owner, micros(s.now())}, &id)
	return id, err
}

// chunk is the turn of some devices of a job.
type chunk struct {
	id     int64
	owner  string
	from   int64 // where the job was
	looked int64 // where it is afterwards
	ends   bool
	ids    []any
	began  time.Time // when it was the writer's turn
	body   jobBody
	state  vetting.DeviceState // that was selected

	job    *jobRow
	worked vetting.JobCount
}

func (c *chunk) apply(w *writing) (err error) {
	c.began = time.Now()
	if c.job, err = w.job(c.id); err != nil {
		return err
	}
	j := c.job
	switch {
	case j.State != string(vetting.JobRunning):
		return vetting.Errorf(vetting.Conflict, "job %d is %s", c.id, j.State)
	case j.LastID != c.from, j.owner != c.owner && j.lease >= micros(w.now):
		return vetting.Errorf(vetting.Conflict, "another server works on job %d", c.id)
	}
	if c.worked, err = j.worked(); err != nil {
		return err
	}
	objects, err := c.devices(w)
	if err != nil {
		return err
	}
	j.LastID, j.Worked, j.owner, j.lease = c.looked, mustJSON(c.worked), c.owner, micros(w.now.Add(jobLease))
	act := "job." + string(c.body.Action)
	if c.ends {
		j.State, j.owner, j.lease = string(vetting.JobDone), "", 0
	}
	w.saveJob(j)
	w.leaves(act, "operator:"+j.Operator, fmt.Sprintf("job %d: %s", c.id, c.body.Note), append(objects, j.object())...)
	return nil
}

// devices judges each device as it is now, and changes those that it finds
// as they should be.
func (c *chunk) devices(w *writing) ([]audit.Object, error) {
	list, err := w.holdings(c.ids)
	if err != nil {
		return nil, err
	}
	if c.body.Action == vetting.JobScrap {
		if err := w.ordersOf(list); err != nil {
			return nil, err
		}
	}
	x := newChanges(w)
	for _, h := range list {
		p := h.prospect(w.now)
		if c.state != "" && p.State != c.state {
			continue // it was selected by the state that it no longer has
		}
		to, why := c.body.Action.Effect(p)
		c.worked.Add(p.State, why)
		if why != "" {
			continue
		}
		if err := c.change(x, h, to); err != nil {
			return nil, err
		}
	}
	return x.write(), nil
}

func (c *chunk) change(x *changes, h *held, to vetting.DeviceState) error {
	switch c.body.Action {
	case vetting.JobRevoke:
		code, err := c.body.Reason.Code()
		if err != nil {
			return err
		}
		x.revoke(h, int64(code))
	case vetting.JobRenew:
		x.hint(h.current, &c.body, fromMicros(c.job.Started), c.worked.Changes-1)
	default:
		return x.move(h, to)
	}
	return nil
}

// hint gives a certificate the k-th slot of a job that spreads renewals.
func (x *changes) hint(cert *certificateRow, b *jobBody, start time.Time, k int64) {
	if !b.Start.IsZero() {
		start = b.Start
	}
	from, until := b.RenewalSlot(start, fromMicros(cert.NotAfter), k, b.Found.Changes)
	x.w.exec(`INSERT INTO renewal_hints (certificate_id, starts, ends) VALUES ($1, $2, $3)
		ON CONFLICT (certificate_id) DO UPDATE SET starts = excluded.starts, ends = excluded.ends`, cert.ID, micros(from), micros(until))
	x.objects = append(x.objects, cert.object())
}

// prospect is what actions look at.
func (h *held) prospect(now time.Time) vetting.Prospect {
	d := h.stands()
	return vetting.Prospect{State: d.State, Before: d.Before, Revocable: len(h.certificates), Certified: h.current != nil,
		Renewable: h.current != nil && h.current.State == string(vetting.CertificateValid) && h.current.NotAfter > micros(now)}
}

// leaves is leaf for more objects than one leaf can carry.
func (w *writing) leaves(act, by, note string, objects ...audit.Object) {
	for len(objects) > maxLeafObjects {
		w.leaf(act, by, note, objects[:maxLeafObjects]...)
		objects = objects[maxLeafObjects:]
	}
	w.leaf(act, by, note, objects...)
}
