package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// jobRow is a row of jobs. Who works on it is no part of its digest.
type jobRow struct {
	ID              int64
	State, Operator string
	Upto, LastID    int64
	Worked          string
	Created         int64
	Started         int64
	Updated         int64
	Plan            string // the SHA-256 of body and ids

	owner string
	lease int64
	body  string
	ids   []byte
}

// jobBody is what was planned, as JSON. Identifiers that were listed one by
// one are not in it: ids are the devices that they named.
type jobBody struct {
	vetting.Task
	Listed       int      `json:",omitempty"`
	Unknown      []string `json:",omitempty"`
	UnknownCount int      `json:",omitempty"`
	Found        vetting.JobCount
	Digest       string
}

const (
	jobColumns   = `j.id, j.state, j.operator, j.upto, j.last_id, j.worked, j.created, j.started, j.updated, j.plan, j.owner, j.lease`
	jobPlan      = `, j.body, j.ids`
	queryJobs    = `SELECT ` + jobColumns + jobPlan + ` FROM jobs j WHERE `
	queryJobHead = `SELECT ` + jobColumns + ` FROM jobs j WHERE j.id = $1`
)

func (j *jobRow) dest() []any {
	return []any{&j.ID, &j.State, &j.Operator, &j.Upto, &j.LastID, &j.Worked, &j.Created, &j.Started, &j.Updated, &j.Plan, &j.owner, &j.lease}
}

func (j *jobRow) object() audit.Object {
	return audit.Object{Kind: audit.KindJob, ID: j.ID, Digest: audit.DigestOf(j)}
}

// seal computes what stands for body and ids.
func (j *jobRow) seal() {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d:%s", len(j.body), j.body)
	sum.Write(j.ids)
	j.Plan = hex.EncodeToString(sum.Sum(nil))
}

func (j *jobRow) parse() (b jobBody, err error) {
	if err := json.Unmarshal([]byte(j.body), &b); err != nil {
		return b, fmt.Errorf("the plan of job %d in the database: %w", j.ID, err)
	}
	return b, nil
}

func (j *jobRow) worked() (c vetting.JobCount, err error) {
	if err := json.Unmarshal([]byte(j.Worked), &c); err != nil {
		return c, fmt.Errorf("the counters of job %d in the database: %w", j.ID, err)
	}
	return c, nil
}

func (j *jobRow) job() (*vetting.Job, error) {
	b, err := j.parse()
	if err != nil {
		return nil, err
	}
	worked, err := j.worked()
	if err != nil {
		return nil, err
	}
	return &vetting.Job{ID: j.ID, State: vetting.JobState(j.State), Task: b.Task, Listed: b.Listed, Unknown: b.Unknown, UnknownCount: b.UnknownCount,
		By: j.Operator, Found: b.Found, Digest: b.Digest, Worked: worked,
		Created: fromMicros(j.Created), Started: fromMicros(j.Started), Updated: fromMicros(j.Updated)}, nil
}

// selection is what the job's plan selects, up to an ID.
func (j *jobRow) selection(b jobBody, upto int64) (*selection, error) {
	ids, err := unpackIDs(j.ids)
	if err != nil {
		return nil, fmt.Errorf("job %d in the database: %w", j.ID, err)
	}
	return newSelection(b.Selected, ids, upto)
}

func (s *Store) jobRows(ctx context.Context, where string, args ...any) (list []*jobRow, err error) {
	err = s.db.query(ctx, queryJobs+where, args, func(r row) error {
		j := new(jobRow)
		list = append(list, j)
		return r.Scan(append(j.dest(), &j.body, &j.ids)...)
	})
	return list, err
}

func (s *Store) jobRow(ctx context.Context, id int64) (*jobRow, error) {
	list, err := s.jobRows(ctx, `j.id = $1`, id)
	return theOne(list, err, "job", id)
}

// Job returns a job by ID, or a NotFound error.
func (s *Store) Job(ctx context.Context, id int64) (*vetting.Job, error) {
	row, err := s.jobRow(ctx, id)
	if err != nil {
		return nil, err
	}
	return row.job()
}

// Jobs lists jobs, the newest first. Plans that nobody confirmed are among
// them until the next day.
func (s *Store) Jobs(ctx context.Context, p vetting.Page) (list []*vetting.Job, err error) {
	rows, err := s.jobRows(ctx, `($1 = 0 OR j.id < $1) ORDER BY j.id DESC LIMIT $2`, p.After, limit(p))
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		j, err := row.job()
		if err != nil {
			return nil, err
		}
		list = append(list, j)
	}
	return list, nil
}

// JobDevices lists the devices that a job selects, by ID, with what it would
// make of each now.
func (s *Store) JobDevices(ctx context.Context, id int64, p vetting.Page) ([]*vetting.JobDevice, error) {
	row, err := s.jobRow(ctx, id)
	if err != nil {
		return nil, err
	}
	b, err := row.parse()
	if err != nil {
		return nil, err
	}
	sel, err := row.selection(b, row.Upto)
	if err != nil {
		return nil, err
	}
	page, _, err := s.selectPage(ctx, sel, p.After, limit(p))
	list := make([]*vetting.JobDevice, len(page))
	for i, d := range page {
		d.Becomes, d.Kept = b.Action.Effect(d.prospect)
		list[i] = &d.JobDevice
	}
	return list, err
}

// PlanJob looks which devices a task is about and what would become of them,
// and keeps that as a plan, which can be confirmed for a day. Nothing is done
// to any device. A task that makes no sense is Invalid; a site, order or
// product that does not exist is NotFound.
func (s *Store) PlanJob(ctx context.Context, a access.Act, t vetting.Task) (*vetting.Job, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	if err := s.knows(ctx, &t.Selected); err != nil {
		return nil, err
	}
	l, err := s.resolve(ctx, &t.Selected)
	if err != nil {
		return nil, err
	}
	b := jobBody{Task: t, Listed: l.listed, UnknownCount: len(l.unknown), Unknown: l.unknown[:min(len(l.unknown), vetting.MaxUnknown)]}
	row := &jobRow{State: string(vetting.JobPlanned), Operator: a.Operator, Worked: "{}", ids: packIDs(l.ids)}
	sample, err := s.dryRun(ctx, row, &b)
	if err != nil {
		return nil, err
	}
	row.body = mustJSON(b)
	row.seal()
	id, err := s.act(ctx, a, func(w *writing) (int64, error) {
		w.exec(`DELETE FROM jobs WHERE state = 'planned' AND created < $1`, micros(w.now.Add(-vetting.PlanLife)))
		row.ID, row.Created, row.Updated = w.ids(1), micros(w.now), micros(w.now)
		w.exec(`INSERT INTO jobs (id, state, operator, upto, last_id, worked, created, started, updated, plan, owner, lease, body, ids)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`, row.ID, row.State, row.Operator, row.Upto, row.LastID, row.Worked,
			row.Created, row.Started, row.Updated, row.Plan, row.owner, row.lease, row.body, bytesOrNull(row.ids, row.ids == nil))
		return row.ID, nil
	})
	if err != nil {
		return nil, err
	}
	j, err := s.Job(ctx, id)
	if err == nil {
		j.Sample = sample
	}
	return j, err
}

// knows checks that what the selection names is there.
func (s *Store) knows(ctx context.Context, sel *vetting.Selection) error {
	for _, named := range [...]struct{ what, table, name string }{{"site", "sites", sel.Site}, {"order", "orders", sel.Order}, {"product", "products", sel.Product}, {"owner", "owners", sel.Owner}, {"issuing CA", "issuing_cas", sel.Issuer}} {
		if named.name == "" || named.name == vetting.Manufacturer && named.what == "owner" || named.name == vetting.DeviceCA && named.what == "issuing CA" {
			continue
		}
		var id int64
		if found, err := one(ctx, s.db, `SELECT id FROM `+named.table+` WHERE name = $1`, []any{named.name}, &id); err != nil || !found {
			return orNotFound(err, named.what, named.name)
		}
	}
	return nil
}

// dryRun counts what a job would do to the devices that there are now, and
// names that by a digest.
func (s *Store) dryRun(ctx context.Context, row *jobRow, b *jobBody) (sample []*vetting.JobDevice, err error) {
	if _, err := one(ctx, s.db, `SELECT next_id - 1 FROM log_head WHERE id = 1`, nil, &row.Upto); err != nil {
		return nil, err
	}
	sel, err := row.selection(*b, row.Upto)
	if err != nil {
		return nil, err
	}
	b.Found = vetting.JobCount{}
	sum := sha256.New()
	for after := int64(0); after < sel.upto; {
		page, looked, err := s.selectPage(ctx, sel, after, scanned)
		if err != nil {
			return nil, err
		}
		for _, d := range page {
			d.Becomes, d.Kept = b.Action.Effect(d.prospect)
			b.Found.Add(d.State, d.Kept)
			d.sign(sum)
			if d.Kept == "" && len(sample) < vetting.MaxSample {
				sample = append(sample, &d.JobDevice)
			}
		}
		after = looked
	}
	b.Digest = hex.EncodeToString(sum.Sum(nil)[:16])
	return sample, nil
}

// sign adds what becomes of a device to a digest.
func (d *selected) sign(sum hash.Hash) { fmt.Fprintf(sum, "%d %s %s\n", d.ID, d.Becomes, d.Kept) }

// ConfirmJob starts a planned job. The digest names the plan that was looked
// at. If other devices, or others of them, would change by now, that is a
// Conflict that says so, unless accept is set.
func (s *Store) ConfirmJob(ctx context.Context, a access.Act, id int64, digest string, accept bool) (*vetting.Job, error) {
	row, err := s.jobRow(ctx, id)
	if err != nil {
		return nil, err
	}
	b, err := row.parse()
	if err != nil {
		return nil, err
	}
	if planned := row.State == string(vetting.JobPlanned); planned {
		if b, err = s.replan(ctx, row, b, digest, accept); err != nil {
			return nil, err
		}
	}
	return s.changeJob(ctx, a, id, func(w *writing, j *jobRow) (act, note string, err error) {
		if j.State != string(vetting.JobPlanned) {
			return "", "", vetting.Errorf(vetting.Conflict, "job %d is %s: it was confirmed already", id, j.State)
		}
		j.body, j.ids, j.Upto, j.Plan = row.body, row.ids, row.Upto, row.Plan
		j.State, j.Started = string(vetting.JobRunning), micros(w.now)
		w.exec(`UPDATE jobs SET body = $2, upto = $3, started = $4, plan = $5 WHERE id = $1`, id, j.body, j.Upto, j.Started, j.Plan)
		return "job.start", fmt.Sprintf("%s %d devices: %s", b.Action, b.Found.Changes, b.Note), nil
	})
}

// replan looks again before a plan is carried out.
func (s *Store) replan(ctx context.Context, row *jobRow, b jobBody, digest string, accept bool) (jobBody, error) {
	if age := s.now().Sub(fromMicros(row.Created)); age > vetting.PlanLife {
		return b, vetting.Errorf(vetting.Conflict, "the plan %d is from %s, too long ago: make it anew", row.ID, fromMicros(row.Created).Format(time.RFC3339))
	}
	if digest != b.Digest {
		return b, vetting.Errorf(vetting.Conflict, "the digest of plan %d is %s, not %q: confirm what you looked at", row.ID, b.Digest, digest)
	}
	planned := b.Found
	if _, err := s.dryRun(ctx, row, &b); err != nil {
		return b, err
	}
	if b.Digest != digest && !accept {
		return b, vetting.Errorf(vetting.Conflict, "since the plan was made, devices have changed: it found %d, of which %d would change; by now these are %d and %d. Look again, or accept the changes", planned.Devices, planned.Changes, b.Found.Devices, b.Found.Changes)
	}
	if b.Found.Changes == 0 {
		return b, vetting.Errorf(vetting.Conflict, "no device would change: %s", kept(b.Found))
	}
	row.body = mustJSON(b)
	row.seal()
	return b, nil
}

// kept says why devices stay as they are.
func kept(c vetting.JobCount) string {
	if c.Devices == 0 {
		return "none is selected"
	}
	parts := make([]string, len(c.Kept))
	for i, k := range c.Kept {
		parts[i] = fmt.Sprintf("%d are %s (%s)", k.Devices, k.State, k.Why)
	}
	return strings.Join(parts, ", ")
}

// CancelJob stops a running job after the chunk in hand.
func (s *Store) CancelJob(ctx context.Context, a access.Act, id int64, note string) (*vetting.Job, error) {
	return s.changeJob(ctx, a, id, func(w *writing, j *jobRow) (string, string, error) {
		if j.State != string(vetting.JobRunning) {
			return "", "", vetting.Errorf(vetting.Conflict, "job %d is %s, not running: there is nothing to stop", id, j.State)
		}
		j.State = string(vetting.JobCancelled)
		return "job.cancel", note, nil
	})
}

// ResumeJob goes on with a cancelled job where it stopped.
func (s *Store) ResumeJob(ctx context.Context, a access.Act, id int64, note string) (*vetting.Job, error) {
	return s.changeJob(ctx, a, id, func(w *writing, j *jobRow) (string, string, error) {
		if j.State != string(vetting.JobCancelled) {
			return "", "", vetting.Errorf(vetting.Conflict, "job %d is %s, not cancelled: there is nothing to resume", id, j.State)
		}
		j.State = string(vetting.JobRunning)
		return "job.resume", note, nil
	})
}

// changeJob changes a job's state as an operator wants.
func (s *Store) changeJob(ctx context.Context, a access.Act, id int64, change func(*writing, *jobRow) (act, note string, err error)) (*vetting.Job, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		j, err := w.job(id)
		if err != nil {
			return 0, err
		}
		act, note, err := change(w, j)
		if err != nil {
			return 0, err
		}
		j.owner, j.lease = "", 0
		w.saveJob(j)
		w.leaf(act, operatorOf(a), note, j.object())
		return id, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Job(ctx, id)
}

// job reads a job but for its plan.
func (w *writing) job(id int64) (*jobRow, error) {
	j := new(jobRow)
	w.fetch(queryJobHead, []any{id}, func(r row) error { return r.Scan(j.dest()...) })
	if err := w.flush(); err != nil {
		return nil, err
	}
	if j.ID == 0 {
		return nil, notFound("job", id)
	}
	return j, nil
}

// saveJob writes how far a job is.
func (w *writing) saveJob(j *jobRow) {
	j.Updated = micros(w.now)
	w.exec(`UPDATE jobs SET state = $2, last_id = $3, worked = $4, updated = $5, owner = $6, lease = $7 WHERE id = $1`,
		j.ID, j.State, j.LastID, j.Worked, j.Updated, j.owner, j.lease)
}
