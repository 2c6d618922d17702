package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/firmware-sign/tuf"
	"github.com/touchmark/touchmark/firmware-sign/tuf/repository"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// tufKeyRow is a row of tuf_keys.
type tufKeyRow struct {
	ID      int64
	Role    string
	Number  int64
	SPKI    []byte
	By      string
	Created int64
}

const tufKeyColumns = `tk.id, tk.role, tk.number, tk.spki, tk.made_by, tk.created`

func (k *tufKeyRow) dest() []any {
	return []any{&k.ID, &k.Role, &k.Number, &k.SPKI, &k.By, &k.Created}
}

func (k *tufKeyRow) scan(from row) error { return from.Scan(k.dest()...) }

func (k *tufKeyRow) object() audit.Object {
	return audit.Object{Kind: audit.KindTUFKey, ID: k.ID, Digest: audit.DigestOf(k)}
}

func (k *tufKeyRow) key() (*repository.Key, error) {
	role, number := repository.Role(k.Role), int(k.Number)
	out := &repository.Key{ID: k.ID, Role: role, Number: number, Name: repository.KeyName(role, number), PublicKey: k.SPKI, By: k.By, Created: fromMicros(k.Created)}
	pub, err := x509.ParsePKIXPublicKey(k.SPKI)
	if err == nil {
		out.KeyID, err = tuf.KeyID(pub)
	}
	if err != nil {
		return nil, fmt.Errorf("the TUF key %s in the database: %w", out.Name, err)
	}
	return out, nil
}

// tufRootRow is a row of tuf_roots.
type tufRootRow struct {
	ID, Version, Expires int64
	File                 string
}

const tufRootColumns = `tr.id, tr.version, tr.expires, tr.file`

func (r *tufRootRow) dest() []any { return []any{&r.ID, &r.Version, &r.Expires, &r.File} }

func (r *tufRootRow) scan(from row) error { return from.Scan(r.dest()...) }

func (r *tufRootRow) object() audit.Object {
	return audit.Object{Kind: audit.KindTUFRoot, ID: r.ID, Digest: audit.DigestOf(r)}
}

// tufFileRow is a row of tuf_files: the newest file of a role but for its
// bytes, of which it has the digest.
type tufFileRow struct {
	ID                        int64
	Role                      string
	Version, Expires, Listing int64
	Digest                    []byte
}

const tufFileColumns = `tf.id, tf.role, tf.version, tf.expires, tf.listing, tf.digest`

func (f *tufFileRow) dest() []any {
	return []any{&f.ID, &f.Role, &f.Version, &f.Expires, &f.Listing, &f.Digest}
}

func (f *tufFileRow) object() audit.Object {
	return audit.Object{Kind: audit.KindTUFFile, ID: f.ID, Digest: audit.DigestOf(f)}
}

// tufFilesWithBytes are the newest files with what is served of them.
const tufFilesWithBytes = `SELECT ` + tufFileColumns + `, tb.file FROM tuf_files tf LEFT JOIN tuf_bodies tb ON tb.role = tf.role AND tb.version = tf.version`

var _ repository.Store = (*Store)(nil)

// tufMark reads what is newest; versions count from 1.
const tufMark = `SELECT (SELECT COALESCE(MAX(version), 0) FROM tuf_roots), (SELECT COALESCE(MAX(version), 0) FROM tuf_files WHERE role = 'timestamp')`

// TUFMark implements repository.Store.
func (s *Store) TUFMark(ctx context.Context) (m repository.Mark, err error) {
	var root, timestamp int64
	_, err = one(ctx, s.db, tufMark, nil, &root, &timestamp)
	return repository.Mark{Root: int(root), Timestamp: int(timestamp)}, err
}

// TUFState implements repository.Store.
func (s *Store) TUFState(ctx context.Context) (*repository.State, error) {
	st := &repository.State{Files: map[repository.Role]*repository.File{}}
	err := s.db.snapshot(ctx, func(snap reader) (err error) {
		st.Roots, err = readAll(ctx, snap, `SELECT `+tufRootColumns+` FROM tuf_roots tr ORDER BY tr.version`, nil, (*tufRootRow).dest,
			func(r *tufRootRow) (repository.RootFile, error) {
				return repository.RootFile{Version: int(r.Version), Expires: fromMicros(r.Expires), JSON: []byte(r.File)}, nil
			})
		if err != nil {
			return err
		}
		return snap.query(ctx, tufFilesWithBytes, nil, func(r row) error {
			var f tufFileRow
			var b []byte
			if err := r.Scan(append(f.dest(), &b)...); err != nil {
				return err
			}
			role := repository.Role(f.Role)
			st.Files[role] = &repository.File{Role: role, Version: int(f.Version), Expires: fromMicros(f.Expires), Listing: f.Listing, JSON: b}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	for n, r := range st.Roots {
		if r.Version != n+1 {
			return nil, fmt.Errorf("the database has no TUF root %d, but later ones", n+1)
		}
	}
	for _, role := range repository.Online {
		if f := st.Files[role]; len(st.Roots) > 0 && (f == nil || f.JSON == nil) {
			return nil, fmt.Errorf("the database lacks the newest TUF %s", role)
		}
	}
	return st, nil
}

// TUFFile implements repository.Store.
func (s *Store) TUFFile(ctx context.Context, r repository.Role, version int) (file []byte, err error) {
	_, err = one(ctx, s.db, `SELECT file FROM tuf_bodies WHERE role = $1 AND version = $2`, []any{string(r), int64(version)}, &file)
	return file, err
}

// TUFKeys implements repository.Store.
func (s *Store) TUFKeys(ctx context.Context) ([]*repository.Key, error) {
	return readAll(ctx, s.db, `SELECT `+tufKeyColumns+` FROM tuf_keys tk ORDER BY tk.id`, nil, (*tufKeyRow).dest, (*tufKeyRow).key)
}

// tufListing grows with each release that is published or taken back, for a
// release is published before it is yanked, and never comes back.
const tufListing = `SELECT COALESCE(SUM(CASE re.state WHEN 'published' THEN 1 ELSE 2 END), 0) FROM releases re WHERE re.state IN ('published', 'yanked')`

// TUFListing implements repository.Store.
func (s *Store) TUFListing(ctx context.Context) (n int64, err error) {
	_, err = one(ctx, s.db, tufListing, nil, &n)
	return n, err
}

// TUFTargets implements repository.Store.
func (s *Store) TUFTargets(ctx context.Context) (list []tuf.Target, err error) {
	err = s.db.query(ctx, `SELECT `+releaseColumns+`, `+artefactColumns+` FROM releases re JOIN artefacts ar ON ar.release_id = re.id WHERE re.state = $1 AND ar.stage = $2 ORDER BY re.id, ar.id`,
		[]any{string(release.Published), string(release.Production)}, func(from row) error {
			var of releaseRow
			var part artefactRow
			if err := from.Scan(append(of.dest(), part.dest()...)...); err != nil {
				return err
			}
			t, err := tufTarget(&of, &part)
			list = append(list, t)
			return err
		})
	return list, err
}

// tufTarget is the signed file of an artefact as clients get it.
func tufTarget(of *releaseRow, part *artefactRow) (t tuf.Target, err error) {
	r, err := of.release()
	if err != nil {
		return t, err
	}
	a, err := part.artefact()
	if err != nil {
		return t, err
	}
	t = tuf.Target{Product: r.Product, Version: r.Version, Name: a.Name, Counter: r.Counter}
	if a.Signed == nil { // a release is not published without
		return t, fmt.Errorf("the signed file of %s is not known, although it is published", t.Path())
	}
	t.Size = a.Signed.Size
	sum, err := hex.DecodeString(a.Signed.SHA256)
	if err != nil || copy(t.SHA256[:], sum) != len(t.SHA256) {
		return t, fmt.Errorf("the signed file of %s has the SHA-256 %q in the database", t.Path(), a.Signed.SHA256)
	}
	return t, nil
}

// CreateTUFKey keeps a new key of an online role, whose number must be the
// next (Conflict).
func (s *Store) CreateTUFKey(ctx context.Context, a access.Act, k *repository.Key) (*repository.Key, error) {
	id, err := s.act(ctx, a, func(w *writing) (int64, error) {
		newest := int64(0)
		w.fetch(`SELECT COALESCE(MAX(number), 0) FROM tuf_keys WHERE role = $1`, []any{string(k.Role)}, func(r row) error { return r.Scan(&newest) })
		if err := w.flush(); err != nil {
			return 0, err
		}
		if int64(k.Number) != newest+1 {
			return 0, vetting.Errorf(vetting.Conflict, "there are %d TUF keys of %s, so the next is not number %d: somebody else made one at the same time", newest, k.Role, k.Number)
		}
		row := &tufKeyRow{ID: w.ids(1), Role: string(k.Role), Number: int64(k.Number), SPKI: k.PublicKey, By: a.Operator, Created: micros(w.now)}
		w.exec(`INSERT INTO tuf_keys (id, role, number, spki, made_by, created) VALUES ($1, $2, $3, $4, $5, $6)`, row.ID, row.Role, row.Number, row.SPKI, row.By, row.Created)
		w.leaf("tuf.key.create", operatorOf(a), repository.KeyName(k.Role, k.Number), row.object())
		return row.ID, nil
	})
	if err != nil {
		return nil, err
	}
	list, err := readAll(ctx, s.db, `SELECT `+tufKeyColumns+` FROM tuf_keys tk WHERE tk.id = $1`, []any{id}, (*tufKeyRow).dest, (*tufKeyRow).key)
	return theOne(list, err, "TUF key", id)
}

// tufGrace is how long a file's bytes stay after it was replaced: a client
// that read an older timestamp still finds what that names.
const tufGrace = time.Hour

// KeepTUF implements repository.Store.
func (s *Store) KeepTUF(ctx context.Context, by, note string, m *repository.Made) (kept bool, err error) {
	err = s.update(ctx, func(w *writing) error {
		kept, err = w.keepTUF(by, note, m)
		return err
	})
	return kept && err == nil, err
}

func (w *writing) keepTUF(by, note string, m *repository.Made) (kept bool, err error) {
	var root, timestamp, listing int64
	have := map[string]*tufFileRow{}
	w.fetch(tufMark, nil, func(r row) error { return r.Scan(&root, &timestamp) })
	w.fetch(tufListing, nil, func(r row) error { return r.Scan(&listing) })
	w.fetch(`SELECT `+tufFileColumns+` FROM tuf_files tf`, nil, func(r row) error {
		f := new(tufFileRow)
		err := r.Scan(f.dest()...)
		have[f.Role] = f
		return err
	})
	if err := w.flush(); err != nil {
		return false, err
	}
	if (repository.Mark{Root: int(root), Timestamp: int(timestamp)}) != m.Follows || listing != m.Listing {
		return false, nil
	}
	var objects []audit.Object
	act := "tuf.make"
	if r := m.Root; r != nil {
		act = "tuf.root"
		row := &tufRootRow{ID: w.ids(1), Version: int64(r.Version), Expires: micros(r.Expires), File: string(r.JSON)}
		if row.Version != root+1 {
			return false, fmt.Errorf("TUF root %d does not follow root %d", row.Version, root)
		}
		w.exec(`INSERT INTO tuf_roots (id, version, expires, file) VALUES ($1, $2, $3, $4)`, row.ID, row.Version, row.Expires, row.File)
		objects = append(objects, row.object())
	}
	w.exec(`DELETE FROM tuf_bodies WHERE replaced > 0 AND replaced < $1`, micros(w.now.Add(-tufGrace)))
	for _, f := range m.Files {
		row, err := w.saveTUFFile(have[string(f.Role)], f)
		if err != nil {
			return false, err
		}
		objects = append(objects, row.object())
	}
	w.leaf(act, by, note, objects...)
	return true, nil
}

// saveTUFFile puts a file in the place of the one of its role, whose version
// must be lower.
func (w *writing) saveTUFFile(have *tufFileRow, f *repository.File) (*tufFileRow, error) {
	sum := sha256.Sum256(f.JSON)
	row := &tufFileRow{Role: string(f.Role), Version: int64(f.Version), Expires: micros(f.Expires), Listing: f.Listing, Digest: sum[:]}
	if have == nil {
		row.ID = w.ids(1)
		w.exec(`INSERT INTO tuf_files (id, role, version, expires, listing, digest) VALUES ($1, $2, $3, $4, $5, $6)`, row.ID, row.Role, row.Version, row.Expires, row.Listing, row.Digest)
	} else {
		if row.Version <= have.Version {
			return nil, fmt.Errorf("the TUF %s would go back from %d to %d", row.Role, have.Version, row.Version)
		}
		row.ID = have.ID
		w.exec(`UPDATE tuf_files SET version = $2, expires = $3, listing = $4, digest = $5 WHERE id = $1`, row.ID, row.Version, row.Expires, row.Listing, row.Digest)
		w.exec(`UPDATE tuf_bodies SET replaced = $3 WHERE role = $1 AND version = $2`, have.Role, have.Version, micros(w.now))
	}
	w.exec(`INSERT INTO tuf_bodies (role, version, replaced, file) VALUES ($1, $2, 0, $3)`, row.Role, row.Version, f.JSON)
	return row, nil
}

// tufFiles digests the files as they are logged if their bytes are those that
// they are said to have, and otherwise in no way that a leaf could have.
func (s source) tufFiles(ctx context.Context, fn func(audit.Object) error) error {
	return s.r.query(ctx, tufFilesWithBytes, nil, func(r row) error {
		var f tufFileRow
		var b []byte
		if err := r.Scan(append(f.dest(), &b)...); err != nil {
			return err
		}
		if sum := sha256.Sum256(b); !bytes.Equal(f.Digest, sum[:]) {
			f.Digest = nil
		}
		return fn(f.object())
	})
}
