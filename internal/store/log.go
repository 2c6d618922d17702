package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/touchmark/touchmark/internal/audit"
)

// source is the log as one reader sees it.
type source struct {
	r      reader
	atOnce int // see toldAtOnce
}

// Snapshot runs fn on one unchanging state of the log and its objects.
func (s *Store) Snapshot(ctx context.Context, fn func(audit.Source) error) error {
	return s.db.snapshot(ctx, func(r reader) error { return fn(source{r, toldAtOnce}) })
}

// Head returns the log's tree.
func (s *Store) Head(ctx context.Context) (*audit.Tree, error) { return source{r: s.db}.Head(ctx) }

// Leaves reads leaves; see audit.Source.
func (s *Store) Leaves(ctx context.Context, from, to int64, fn func(int64, []byte) error) error {
	return source{r: s.db}.Leaves(ctx, from, to, fn)
}

// LastCheckpoint returns the largest checkpoint that was signed, nil if none.
func (s *Store) LastCheckpoint(ctx context.Context) (note []byte, err error) {
	_, err = one(ctx, s.db, `SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1`, nil, &note)
	return note, err
}

// SaveCheckpoint keeps a signed checkpoint unless a larger one is kept. Only
// the largest matters, so earlier ones go.
func (s *Store) SaveCheckpoint(ctx context.Context, size int64, note []byte) error {
	return s.update(ctx, func(w *writing) error {
		larger, err := w.taken(`SELECT 1 FROM checkpoints WHERE size >= $1`, size)
		if err != nil || larger {
			return err
		}
		w.exec(`DELETE FROM checkpoints WHERE size < $1`, size)
		w.exec(`INSERT INTO checkpoints (size, note) VALUES ($1, $2)`, size, note)
		return nil
	})
}

// AcceptLoss writes into the log that it was signed with more leaves than
// there are, and goes on without them. It returns the leaf's index.
func (s *Store) AcceptLoss(ctx context.Context, note string) (leaf int64, err error) {
	err = s.update(ctx, func(w *writing) error {
		leaf = w.leaf("log.accept-loss", "server", note)
		return nil
	})
	return leaf, err
}

// NoteAuthorities writes into the log which CA certificates a server started
// with, as lines of a name and a SHA-256, if they are others than those that
// a server started with before. The leaf's note has what is new.
func (s *Store) NoteAuthorities(ctx context.Context, lines []string) error {
	return s.update(ctx, func(w *writing) error {
		have, found, now := "", false, strings.Join(lines, "\n")
		w.fetch(`SELECT value FROM meta WHERE name = 'authorities'`, nil, func(r row) error { found = true; return r.Scan(&have) })
		if err := w.flush(); err != nil || have == now {
			return err
		}
		if !found {
			w.exec(`INSERT INTO meta (name, value) VALUES ('authorities', $1)`, now)
			return nil
		}
		w.exec(`UPDATE meta SET value = $1 WHERE name = 'authorities'`, now)
		before := strings.Split(have, "\n")
		fresh := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return slices.Contains(before, l) })
		w.leaf("ca.change", "server", cmp.Or(strings.Join(fresh, ", "), "a root is no longer there"))
		return nil
	})
}

// NoteResponder writes into the log that an issuing CA let a key answer OCSP
// requests for it, by a certificate of that serial number.
func (s *Store) NoteResponder(ctx context.Context, by, issuer string, serial []byte) error {
	return s.update(ctx, func(w *writing) error {
		w.leaf("responder.certify", by, fmt.Sprintf("%x of %s", serial, issuer))
		return nil
	})
}

func (s source) Head(ctx context.Context) (*audit.Tree, error) {
	var h headRow
	if _, err := one(ctx, s.r, `SELECT size, frontier FROM log_head WHERE id = 1`, nil, &h.size, &h.frontier); err != nil {
		return nil, err
	}
	return audit.OpenTree(h.size, h.frontier)
}

func (s source) Leaves(ctx context.Context, from, to int64, fn func(int64, []byte) error) error {
	return s.r.query(ctx, `SELECT idx, body FROM leaves WHERE idx >= $1 AND idx < $2 ORDER BY idx`, []any{from, to}, func(r row) error {
		var index int64
		var body []byte
		if err := r.Scan(&index, &body); err != nil {
			return err
		}
		if plain, err := unpackLeaf(body); err == nil {
			body = plain // else it shows that it was changed
		}
		return fn(index, body)
	})
}

// Objects reads every object that the log accounts for.
func (s source) Objects(ctx context.Context, fn func(audit.Object) error) error {
	for _, table := range tables {
		err := s.r.query(ctx, table.query, nil, func(r row) error {
			o, err := table.object(r)
			if err != nil {
				return err
			}
			return fn(o)
		})
		if err != nil {
			return err
		}
	}
	for _, objects := range []func(context.Context, func(audit.Object) error) error{s.crls, s.offlineFiles, s.tufFiles, s.certificates, s.runs, s.licensed} {
		if err := objects(ctx, fn); err != nil {
			return err
		}
	}
	return nil
}

// logged is a row that the log accounts for.
type logged[T any] interface {
	*T
	scan(row) error
	object() audit.Object
}

func objectOf[T any, P logged[T]](r row) (audit.Object, error) {
	p := P(new(T))
	err := p.scan(r)
	return p.object(), err
}

// tables are the audited tables of which a row is an object by itself.
var tables = []struct {
	query  string
	object func(row) (audit.Object, error)
}{
	{`SELECT id, name, revision, body FROM products`, func(r row) (audit.Object, error) {
		var p productRow
		err := r.Scan(&p.ID, &p.Name, &p.Revision, &p.Body)
		return p.object(), err
	}},
	{`SELECT id, name, body FROM sites`, func(r row) (audit.Object, error) {
		var s siteRow
		err := r.Scan(&s.ID, &s.Name, &s.Body)
		return s.object(), err
	}},
	{`SELECT ` + operatorColumns + ` FROM operators op`, func(r row) (audit.Object, error) {
		var o operatorRow
		err := r.Scan(o.dest()...)
		return o.object(), err
	}},
	{`SELECT ` + orderColumns + ` FROM orders o`, func(r row) (audit.Object, error) {
		var o orderRow
		err := r.Scan(o.dest()...)
		return o.object(), err
	}},
	{manifestQuery + `WHERE m.state <> 'receiving'`, func(r row) (audit.Object, error) {
		var m manifestRow
		err := r.Scan(m.dest()...)
		return m.object(), err
	}},
	{`SELECT id, record_id, product_id, site_id, serial, key, body FROM disputes`, func(r row) (audit.Object, error) {
		var d disputeRow
		err := r.Scan(&d.ID, &d.RecordID, &d.ProductID, &d.SiteID, &d.Serial, &d.Key, &d.Body)
		return d.object(), err
	}},
	{`SELECT ` + deviceColumns + ` FROM devices d`, func(r row) (audit.Object, error) {
		var d deviceRow
		err := r.Scan(d.dest()...)
		return d.object(), err
	}},
	{`SELECT ` + registrationColumns + ` FROM registrations r`, func(r row) (audit.Object, error) {
		var reg registrationRow
		err := r.Scan(reg.dest()...)
		return reg.object(), err
	}},
	{`SELECT ` + codeColumns + ` FROM codes c`, func(r row) (audit.Object, error) {
		var c codeRow
		err := r.Scan(c.dest()...)
		return c.object(), err
	}},
	{`SELECT ` + ruleVersionColumns + ` FROM rule_versions rv`, func(r row) (audit.Object, error) {
		var v ruleVersionRow
		err := r.Scan(v.dest()...)
		return v.object(), err
	}},
	{`SELECT ` + raiseColumns + ` FROM raises ra`, func(r row) (audit.Object, error) {
		var ra raiseRow
		err := ra.scan(r)
		return ra.object(), err
	}},
	{`SELECT ` + proposalColumns + ` FROM proposals pr`, func(r row) (audit.Object, error) {
		var p proposalRow
		err := p.scan(r)
		return p.object(), err
	}},
	{`SELECT ` + approvalPolicyColumns + ` FROM approval_policy ap`, objectOf[approvalPolicyRow]},
	{`SELECT ` + firmwareKeyColumns + ` FROM firmware_keys fk`, objectOf[firmwareKeyRow]},
	{`SELECT ` + firmwarePolicyColumns + ` FROM firmware_policies fp`, objectOf[firmwarePolicyRow]},
	{`SELECT ` + releaseColumns + ` FROM releases re`, objectOf[releaseRow]},
	{`SELECT ` + artefactColumns + ` FROM artefacts ar`, objectOf[artefactRow]},
	{`SELECT ` + loginColumns + ` FROM operator_logins ol`, objectOf[loginRow]},
	{`SELECT ` + statementColumns + ` FROM statement_signatures ss`, objectOf[statementRow]},
	{`SELECT ` + tufKeyColumns + ` FROM tuf_keys tk`, objectOf[tufKeyRow]},
	{`SELECT ` + tufRootColumns + ` FROM tuf_roots tr`, objectOf[tufRootRow]},
	{`SELECT ` + contentColumns + ` FROM contents ct`, objectOf[contentRow]},
	{`SELECT ` + recipientColumns + ` FROM recipients rp`, objectOf[recipientRow]},
	{`SELECT ` + wrapColumns + ` FROM wraps wr`, objectOf[wrapRow]},
	{`SELECT ` + testColumns + ` FROM test_results tr`, func(r row) (audit.Object, error) {
		var t testRow
		err := r.Scan(t.dest()...)
		return t.object(), err
	}},
	{`SELECT ` + ownerColumns + ` FROM owners ow`, func(r row) (audit.Object, error) {
		var o ownerRow
		err := r.Scan(o.dest()...)
		return o.object(), err
	}},
	{`SELECT ` + issuingColumns + ` FROM issuing_cas ica`, func(r row) (audit.Object, error) {
		var i issuingRow
		err := r.Scan(i.dest()...)
		return i.object(), err
	}},
	{`SELECT ` + transferColumns + ` FROM transfers t`, func(r row) (audit.Object, error) {
		var t transferRow
		err := r.Scan(t.dest()...)
		return t.object(), err
	}},
	{queryJobs + `j.state <> 'planned'`, func(r row) (audit.Object, error) {
		var j jobRow
		err := r.Scan(append(j.dest(), &j.body, &j.ids)...)
		j.seal()
		return j.object(), err
	}},
	{`SELECT ` + webhookColumns + ` FROM webhooks wh`, func(r row) (audit.Object, error) {
		var w webhookRow
		err := r.Scan(w.dest()...)
		return w.object(), err
	}},
	{`SELECT ` + challengeColumns + ` FROM challenges ch WHERE ch.result <> ''`, func(r row) (audit.Object, error) {
		var c challengeRow
		err := r.Scan(c.dest()...)
		return c.object(), err
	}},
	{`SELECT ` + accountKeyColumns + ` FROM account_keys ak`, func(r row) (audit.Object, error) {
		var k accountKeyRow
		err := r.Scan(k.dest()...)
		return k.object(), err
	}},
	{`SELECT ` + accountColumns + ` FROM acme_accounts acc`, func(r row) (audit.Object, error) {
		var a accountRow
		err := r.Scan(a.dest()...)
		return a.object(), err
	}},
	{`SELECT ` + licenceKeyColumns + ` FROM licence_keys lk`, func(r row) (audit.Object, error) {
		var k licenceKeyRow
		err := r.Scan(k.dest()...)
		return k.object(), err
	}},
	{`SELECT ` + grantColumns + ` FROM licence_grants g`, func(r row) (audit.Object, error) {
		var g grantRow
		err := r.Scan(g.dest()...)
		return g.object(), err
	}},
	{`SELECT licence_id, at, made_by FROM programmed`, func(r row) (audit.Object, error) {
		var p programmedRow
		err := r.Scan(&p.LicenceID, &p.At, &p.By)
		return p.object(), err
	}},
	{`SELECT ` + evidenceColumns + ` FROM evidence e`, func(r row) (audit.Object, error) {
		var e evidenceRow
		err := r.Scan(e.dest()...)
		return e.object(), err
	}},
}

// runs digests the records run by run. A record outside every run makes a
// run of its own, which no leaf knows.
func (s source) runs(ctx context.Context, fn func(audit.Object) error) error {
	var run *recordRun
	err := s.r.query(ctx, `SELECT `+recordColumns+`, COALESCE(rr.first_id, rec.id) FROM records rec
		LEFT JOIN record_runs rr ON rr.first_id = (SELECT MAX(first_id) FROM record_runs WHERE first_id <= rec.id) AND rr.last_id >= rec.id
		ORDER BY rec.id`, nil, func(r row) error {
		var rec recordRow
		var first int64
		if err := r.Scan(append(rec.dest(), &first)...); err != nil {
			return err
		}
		if run != nil && run.first != first {
			if err := fn(run.object()); err != nil {
				return err
			}
			run = nil
		}
		if run == nil {
			run = newRun()
			run.first = first
		}
		run.add(&rec)
		return nil
	})
	if err != nil || run == nil {
		return err
	}
	return fn(run.object())
}

// recordRun digests records that were loaded together: the SHA-256 of their
// canonical JSON, one a line.
type recordRun struct {
	first int64
	sum   hash.Hash
}

func newRun() *recordRun { return &recordRun{sum: sha256.New()} }

func (r *recordRun) add(rec *recordRow) {
	if r.first == 0 {
		r.first = rec.ID
	}
	_ = json.NewEncoder(r.sum).Encode(rec) // neither can fail
}

func (r *recordRun) object() audit.Object {
	return audit.Object{Kind: audit.KindRecords, ID: r.first, Digest: audit.Digest(r.sum.Sum(nil))}
}
