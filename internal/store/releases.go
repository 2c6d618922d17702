package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// releaseRow is a row of releases.
type releaseRow struct {
	ID, ProductID  int64
	Version, State string
	Counter        int64
	Revision       int64
	Body           string // the release.Release as JSON, without its artefacts
}

const releaseColumns = `re.id, re.product_id, re.version, re.state, re.counter, re.revision, re.body`

func (r *releaseRow) dest() []any {
	return []any{&r.ID, &r.ProductID, &r.Version, &r.State, &r.Counter, &r.Revision, &r.Body}
}

func (r *releaseRow) scan(from row) error { return from.Scan(r.dest()...) }

func (r *releaseRow) object() audit.Object {
	return audit.Object{Kind: audit.KindRelease, ID: r.ID, Digest: audit.DigestOf(r)}
}

func (r *releaseRow) release() (*release.Release, error) {
	out := new(release.Release)
	if err := json.Unmarshal([]byte(r.Body), out); err != nil {
		return nil, fmt.Errorf("release %d in the database: %w", r.ID, err)
	}
	out.ID, out.State, out.Revision = r.ID, release.State(r.State), r.Revision
	out.Artefacts = []release.Artefact{}
	return out, nil
}

// put has the row hold the release.
func (r *releaseRow) put(to *release.Release) {
	bare := *to
	bare.Artefacts = nil
	r.State, r.Body = string(to.State), mustJSON(&bare)
}

// artefactRow is a row of artefacts.
type artefactRow struct {
	ID, ReleaseID int64
	Stage         string
	Body          string // the release.Artefact as JSON
}

const artefactColumns = `ar.id, ar.release_id, ar.stage, ar.body`

func (a *artefactRow) dest() []any { return []any{&a.ID, &a.ReleaseID, &a.Stage, &a.Body} }

func (a *artefactRow) scan(from row) error { return from.Scan(a.dest()...) }

func (a *artefactRow) object() audit.Object {
	return audit.Object{Kind: audit.KindArtefact, ID: a.ID, Digest: audit.DigestOf(a)}
}

func (a *artefactRow) artefact() (*release.Artefact, error) {
	out := new(release.Artefact)
	if err := json.Unmarshal([]byte(a.Body), out); err != nil {
		return nil, fmt.Errorf("artefact %d in the database: %w", a.ID, err)
	}
	out.ID, out.Release = a.ID, a.ReleaseID
	return out, nil
}

// Releases lists the releases that a filter lets through, newest first.
func (s *Store) Releases(ctx context.Context, f release.Filter, p vetting.Page) ([]*release.Release, error) {
	where, args := `re.id < $1`, []any{newestFirst(p)}
	and := func(condition string, value any) {
		args = append(args, value)
		where += fmt.Sprintf(" AND "+condition, len(args))
	}
	if f.Product != "" {
		of, err := s.Product(ctx, f.Product)
		if err != nil {
			return nil, err
		}
		and(`re.product_id = $%d`, of.ID)
	}
	if f.Version != "" {
		and(`re.version = $%d`, f.Version)
	}
	if f.State != "" {
		and(`re.state = $%d`, string(f.State))
	}
	args = append(args, limit(p))
	return s.releases(ctx, fmt.Sprintf("%s ORDER BY re.id DESC LIMIT $%d", where, len(args)), args...)
}

// releases reads releases with what their production keys sign.
func (s *Store) releases(ctx context.Context, where string, args ...any) ([]*release.Release, error) {
	list, err := readAll(ctx, s.db, `SELECT `+releaseColumns+` FROM releases re WHERE `+where, args, (*releaseRow).dest, (*releaseRow).release)
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		parts, err := s.artefacts(ctx, `ar.release_id = $1 AND ar.stage = $2 ORDER BY ar.id`, r.ID, string(release.Production))
		if err != nil {
			return nil, err
		}
		for _, a := range parts {
			r.Artefacts = append(r.Artefacts, *a)
		}
	}
	return list, nil
}

func (s *Store) artefacts(ctx context.Context, where string, args ...any) ([]*release.Artefact, error) {
	return readAll(ctx, s.db, `SELECT `+artefactColumns+` FROM artefacts ar WHERE `+where, args, (*artefactRow).dest, (*artefactRow).artefact)
}

// Release returns a release, or a NotFound error.
func (s *Store) Release(ctx context.Context, id int64) (*release.Release, error) {
	list, err := s.releases(ctx, `re.id = $1`, id)
	return theOne(list, err, "release", id)
}

// Artefact returns an artefact, or a NotFound error.
func (s *Store) Artefact(ctx context.Context, id int64) (*release.Artefact, error) {
	list, err := s.artefacts(ctx, `ar.id = $1`, id)
	return theOne(list, err, "artefact", id)
}

// ReleaseOf returns the release that an artefact belongs to, and the keys
// that the artefact names.
func (s *Store) ReleaseOf(ctx context.Context, artefact int64) (*release.Release, *release.Artefact, []*release.Key, error) {
	a, err := s.Artefact(ctx, artefact)
	if err != nil {
		return nil, nil, nil, err
	}
	list, err := s.releases(ctx, `re.id = (SELECT ar.release_id FROM artefacts ar WHERE ar.id = $1)`, artefact)
	r, err := theOne(list, err, "artefact", artefact)
	if err != nil {
		return nil, nil, nil, err
	}
	var keys []*release.Key
	for _, name := range a.Keys {
		key, err := s.FirmwareKey(ctx, name)
		if err != nil {
			return nil, nil, nil, err
		}
		keys = append(keys, key)
	}
	return r, a, keys, nil
}

// CreateRelease keeps a new draft. The version must be new (Exists); one that
// went back, or a counter that did, is a Conflict.
func (s *Store) CreateRelease(ctx context.Context, a access.Act, r *release.Release) (*release.Release, error) {
	id, err := s.act(ctx, a, func(w *writing) (int64, error) {
		product, err := w.idOf("product", "products", r.Product)
		if err != nil {
			return 0, err
		}
		if used, err := w.taken(`SELECT 1 FROM releases WHERE product_id = $1 AND version = $2`, product, r.Version); err != nil || used {
			return 0, orExists(err, "release", r.Name())
		}
		made := *r
		made.State, made.By, made.Created, made.Documents = release.Draft, a.Operator, w.now, []release.Document{}
		if err := w.goesForward(product, &made); err != nil {
			return 0, err
		}
		row := &releaseRow{ID: w.ids(1), ProductID: product, Version: r.Version, Counter: int64(r.Counter), Revision: 1}
		row.put(&made)
		w.exec(`INSERT INTO releases (id, product_id, version, state, counter, revision, body) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			row.ID, row.ProductID, row.Version, row.State, row.Counter, row.Revision, row.Body)
		w.leaf("release.create", operatorOf(a), r.Name(), row.object())
		return row.ID, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Release(ctx, id)
}

// goesForward holds a release to the ledger of its product: versions that were
// published, counters of whatever was approved, and the floor.
func (w *writing) goesForward(product int64, r *release.Release) error {
	l := release.Ledger{}
	w.fetch(`SELECT version, state, counter FROM releases WHERE product_id = $1 AND state <> $2`, []any{product, string(release.Draft)}, func(from row) error {
		var version, state string
		var counter int64
		err := from.Scan(&version, &state, &counter)
		l.Add(version, release.State(state), uint32(counter))
		return err
	})
	policy, err := w.firmwarePolicy(product)
	if err != nil {
		return err
	}
	l.Floor = policy.Floor
	return conflict(l.Takes(r))
}

// conflict is a refusal of the rules of releases.
func conflict(err error) error {
	if err == nil {
		return nil
	}
	return vetting.Errorf(vetting.Conflict, "%v", err)
}

// releaseNow reads a release with its artefacts as they are in this
// transaction.
func (w *writing) releaseNow(id int64) (*releaseRow, *release.Release, error) {
	have := new(releaseRow)
	var parts []*artefactRow
	w.fetch(`SELECT `+releaseColumns+` FROM releases re WHERE re.id = $1`, []any{id}, have.scan)
	w.fetch(`SELECT `+artefactColumns+` FROM artefacts ar WHERE ar.release_id = $1 AND ar.stage = $2 ORDER BY ar.id`, []any{id, string(release.Production)}, func(from row) error {
		part := new(artefactRow)
		parts = append(parts, part)
		return part.scan(from)
	})
	if err := w.flush(); err != nil {
		return nil, nil, err
	}
	if have.ID == 0 {
		return nil, nil, notFound("release", id)
	}
	r, err := have.release()
	if err != nil {
		return nil, nil, err
	}
	for _, part := range parts {
		a, err := part.artefact()
		if err != nil {
			return nil, nil, err
		}
		r.Artefacts = append(r.Artefacts, *a)
	}
	return have, r, nil
}

// saveRelease writes a release that changed, but for its artefacts.
func (w *writing) saveRelease(row *releaseRow, r *release.Release) audit.Object {
	row.Revision++
	row.put(r)
	w.exec(`UPDATE releases SET state = $2, revision = $3, body = $4 WHERE id = $1`, row.ID, row.State, row.Revision, row.Body)
	return row.object()
}

// changeRelease carries out an operator's act on a release that leaves its
// artefacts alone.
func (s *Store) changeRelease(ctx context.Context, a access.Act, id int64, act, note string, change func(*writing, *release.Release) error) (*release.Release, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		row, r, err := w.releaseNow(id)
		if err != nil {
			return 0, err
		}
		if err := change(w, r); err != nil {
			return 0, err
		}
		text := r.Name()
		if note != "" {
			text += ": " + note
		}
		w.leaf(act, operatorOf(a), text, w.saveRelease(row, r))
		return id, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Release(ctx, id)
}

// PublishRelease publishes a signed release whose signed files were verified,
// and whose statement was signed by all keys for that.
func (s *Store) PublishRelease(ctx context.Context, a access.Act, id int64) (*release.Release, error) {
	return s.changeRelease(ctx, a, id, "release.publish", "", func(w *writing, r *release.Release) error {
		if err := r.Publish(w.now); err != nil {
			return conflict(err)
		}
		return w.stated(r)
	})
}
