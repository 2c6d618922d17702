package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/ocsp/crl"
)

// crlRow is a row of crls, which the log accounts for.
type crlRow struct {
	ID, Issuer, Partitions, Part, Delta int64
	Number, Base, Seq                   int64
	ThisUpdate, NextUpdate, Since       int64
	Entries, Size                       int64
	Digest                              []byte
	Body, Version                       int64
}

const crlColumns = `cr.id, cr.issuer, cr.partitions, cr.part, cr.delta, cr.number, cr.base, cr.seq, cr.this_update, cr.next_update, cr.since, cr.entries, cr.size, cr.digest, cr.body, cr.version`

func (c *crlRow) dest() []any {
	return []any{&c.ID, &c.Issuer, &c.Partitions, &c.Part, &c.Delta, &c.Number, &c.Base, &c.Seq, &c.ThisUpdate, &c.NextUpdate, &c.Since, &c.Entries, &c.Size, &c.Digest, &c.Body, &c.Version}
}

func (c *crlRow) object() audit.Object {
	return audit.Object{Kind: audit.KindCRL, ID: c.ID, Digest: audit.DigestOf(c)}
}

func (c *crlRow) kept() *crl.Kept {
	k := &crl.Kept{
		Issuer: c.Issuer, Scope: crl.Scope{Partitions: int(c.Partitions), Partition: int(c.Part), Delta: c.Delta != 0},
		Number: c.Number, Base: c.Base, Seq: c.Seq, ThisUpdate: fromMicros(c.ThisUpdate), NextUpdate: fromMicros(c.NextUpdate), Since: fromMicros(c.Since),
		Entries: int(c.Entries), Size: c.Size, Body: c.Body, Version: c.Version,
	}
	copy(k.Digest[:], c.Digest)
	return k
}

// set takes in a list that was made.
func (c *crlRow) set(k *crl.Kept) {
	c.Issuer, c.Partitions, c.Part = k.Issuer, int64(k.Scope.Partitions), int64(k.Scope.Partition)
	if k.Scope.Delta {
		c.Delta = 1
	}
	c.Number, c.Base, c.Seq = k.Number, k.Base, k.Seq
	c.ThisUpdate, c.NextUpdate, c.Since = micros(k.ThisUpdate), micros(k.NextUpdate), micros(k.Since)
	c.Entries, c.Size, c.Digest = int64(k.Entries), k.Size, k.Digest[:]
}

var _ crl.Store = (*Store)(nil)

// CRLs implements crl.Store.
func (s *Store) CRLs(ctx context.Context, after int64) (list []*crl.Kept, err error) {
	err = s.db.query(ctx, `SELECT `+crlColumns+` FROM crls cr WHERE cr.version > $1 ORDER BY cr.version`, []any{after}, func(r row) error {
		var c crlRow
		if err := r.Scan(c.dest()...); err != nil {
			return err
		}
		list = append(list, c.kept())
		return nil
	})
	return list, err
}

// CRLChunk implements crl.Store.
func (s *Store) CRLChunk(ctx context.Context, body int64, chunk int) ([]byte, error) {
	var b []byte
	found, err := one(ctx, s.db, `SELECT bytes FROM crl_chunks WHERE body = $1 AND chunk = $2`, []any{body, chunk}, &b)
	if err == nil && !found {
		err = crl.ErrGone
	}
	return b, err
}

// crls digests the lists as they are logged if their bytes are those that they
// are said to have, and otherwise in no way that a leaf could have.
func (s source) crls(ctx context.Context, fn func(audit.Object) error) error {
	var list []crlRow
	err := s.r.query(ctx, `SELECT `+crlColumns+` FROM crls cr`, nil, func(r row) error {
		var c crlRow
		err := r.Scan(c.dest()...)
		list = append(list, c)
		return err
	})
	if err != nil {
		return err
	}
	for _, c := range list {
		sum := sha256.New()
		err := s.r.query(ctx, `SELECT bytes FROM crl_chunks WHERE body = $1 ORDER BY chunk`, []any{c.Body}, func(r row) error {
			var chunk []byte
			err := r.Scan(&chunk)
			sum.Write(chunk)
			return err
		})
		if err != nil {
			return err
		}
		if !bytes.Equal(c.Digest, sum.Sum(nil)) {
			c.Digest = nil
		}
		if err := fn(c.object()); err != nil {
			return err
		}
	}
	return nil
}

// KeepCRLs implements crl.Store. What is too long for one chunk is written
// ahead, in transactions of its own, so that nobody waits for all of it; the
// last transaction makes it a list.
func (s *Store) KeepCRLs(ctx context.Context, by, note string, made []*crl.Made) ([]*crl.Kept, error) {
	bodies := make([]*crlBody, len(made))
	for i, m := range made {
		b := &crlBody{store: s, ctx: ctx}
		if _, err := m.Content.WriteTo(b); err != nil {
			return nil, fmt.Errorf("write revocation list %s: %w", m.Scope, err)
		}
		bodies[i] = b
	}
	var kept []*crl.Kept
	err := s.update(ctx, func(w *writing) error {
		var err error
		kept, err = w.keepCRLs(by, note, made, bodies)
		return err
	})
	if err != nil {
		return nil, err
	}
	return kept, nil
}

func (w *writing) keepCRLs(by, note string, made []*crl.Made, bodies []*crlBody) (kept []*crl.Kept, err error) {
	before := make([]formerCRL, len(made))
	for i, m := range made {
		w.loadFormerCRL(m, bodies[i], &before[i])
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	var objects []audit.Object
	for i, m := range made {
		if before[i].number != m.Follows {
			continue
		}
		if before[i].chunks != bodies[i].chunks {
			return nil, fmt.Errorf("revocation list %s: what was written ahead is gone: it took too long", m.Scope)
		}
		row := before[i].row
		row.set(&m.Kept)
		w.saveCRL(&row, bodies[i])
		objects, kept = append(objects, row.object()), append(kept, row.kept())
	}
	if len(objects) > 0 {
		w.leaf("crl.make", by, note, objects...)
	}
	return kept, nil
}

// endedAtOnce is how many lists one transaction ends.
const endedAtOnce = 128

// EndCRLs implements crl.Store.
func (s *Store) EndCRLs(ctx context.Context, by, note string, issuer int64, partitions int) (ended int, err error) {
	for {
		n := 0
		err := s.update(ctx, func(w *writing) error {
			n, err = w.endCRLs(by, note, issuer, partitions)
			return err
		})
		if err != nil || n == 0 {
			return ended, err
		}
		ended += n
	}
}

func (w *writing) endCRLs(by, note string, issuer int64, partitions int) (int, error) {
	var list []crlRow
	w.fetch(`SELECT `+crlColumns+` FROM crls cr WHERE cr.issuer = $1 AND cr.partitions = $2 AND cr.size > 0 ORDER BY cr.part LIMIT $3`,
		[]any{issuer, partitions, endedAtOnce}, func(r row) error {
			var c crlRow
			err := r.Scan(c.dest()...)
			list = append(list, c)
			return err
		})
	if err := w.flush(); err != nil || len(list) == 0 {
		return 0, err
	}
	var objects []audit.Object
	for _, c := range list {
		w.exec(`UPDATE crl_bodies SET idle = $2 WHERE id = $1`, c.Body, micros(w.now))
		none := sha256.Sum256(nil)
		c.Entries, c.Size, c.Digest, c.Body, c.Version = 0, 0, none[:], 0, w.ids(1)
		w.updateCRL(&c)
		objects = append(objects, c.object())
	}
	w.leaf("crl.end", by, note, objects...)
	return len(list), nil
}

// formerCRL is what a list follows: the row, or none with ID 0, and the
// newest number of the series. chunks are those that were written ahead.
type formerCRL struct {
	row            crlRow
	number, chunks int64
}

func (w *writing) loadFormerCRL(m *crl.Made, b *crlBody, into *formerCRL) {
	w.fetch(`SELECT `+crlColumns+` FROM crls cr WHERE cr.issuer = $1 AND cr.partitions = $2 AND cr.part = $3`, []any{m.Issuer, m.Scope.Partitions, m.Scope.Partition}, func(r row) error {
		var c crlRow
		err := r.Scan(c.dest()...)
		if into.number = max(into.number, c.Number); (c.Delta != 0) == m.Scope.Delta {
			into.row = c
		}
		return err
	})
	if b.chunks > 0 {
		w.fetch(`SELECT COUNT(*) FROM crl_chunks WHERE body = $1`, []any{b.id}, func(r row) error { return r.Scan(&into.chunks) })
	}
}

func (w *writing) saveCRL(c *crlRow, b *crlBody) {
	replaced, body := c.Body, b.id
	c.Version = w.ids(1)
	if body == 0 {
		body = c.Version
		w.exec(`INSERT INTO crl_bodies (id, idle) VALUES ($1, 0)`, body)
	} else {
		w.exec(`UPDATE crl_bodies SET idle = 0 WHERE id = $1`, body)
	}
	w.exec(`INSERT INTO crl_chunks (body, chunk, bytes) VALUES ($1, $2, $3)`, body, b.chunks, b.rest)
	c.Body = body
	if c.ID != 0 {
		w.exec(`UPDATE crl_bodies SET idle = $2 WHERE id = $1`, replaced, micros(w.now))
		w.updateCRL(c)
		return
	}
	c.ID = w.ids(1)
	w.exec(`INSERT INTO crls (id, issuer, partitions, part, delta, number, base, seq, this_update, next_update, since, entries, size, digest, body, version)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
		c.ID, c.Issuer, c.Partitions, c.Part, c.Delta, c.Number, c.Base, c.Seq, c.ThisUpdate, c.NextUpdate, c.Since, c.Entries, c.Size, c.Digest, c.Body, c.Version)
}

func (w *writing) updateCRL(c *crlRow) {
	w.exec(`UPDATE crls SET number = $2, base = $3, seq = $4, this_update = $5, next_update = $6, since = $7, entries = $8, size = $9, digest = $10, body = $11, version = $12 WHERE id = $1`,
		c.ID, c.Number, c.Base, c.Seq, c.ThisUpdate, c.NextUpdate, c.Since, c.Entries, c.Size, c.Digest, c.Body, c.Version)
}

// crlBody takes a list's bytes and writes all chunks but the last.
type crlBody struct {
	store  *Store
	ctx    context.Context
	id     int64 // 0 while nothing was written
	chunks int64 // that were
	rest   []byte
}

func (b *crlBody) Write(p []byte) (int, error) {
	b.rest = append(b.rest, p...)
	for len(b.rest) > crl.ChunkSize {
		if err := b.store.update(b.ctx, b.writeChunk); err != nil {
			return 0, err
		}
		b.chunks++
		b.rest = append(b.rest[:0], b.rest[crl.ChunkSize:]...)
	}
	return len(p), nil
}

func (b *crlBody) writeChunk(w *writing) error {
	if b.id == 0 {
		b.id = w.ids(1)
		w.exec(`INSERT INTO crl_bodies (id, idle) VALUES ($1, $2)`, b.id, micros(w.now))
	}
	w.exec(`INSERT INTO crl_chunks (body, chunk, bytes) VALUES ($1, $2, $3)`, b.id, b.chunks, b.rest[:crl.ChunkSize])
	return nil
}

// crlGrace is how long a list's bytes stay after it was replaced, and how
// long writing a list may take.
const crlGrace = 15 * time.Minute

// tidied is how many chunks one transaction deletes.
const tidied = 16

// TidyCRLs implements crl.Store.
func (s *Store) TidyCRLs(ctx context.Context) (more bool, err error) {
	const idle = `SELECT id FROM crl_bodies WHERE idle > 0 AND idle < $1 ORDER BY idle LIMIT 1`
	before := micros(s.now().Add(-crlGrace))
	var body int64
	if more, err = one(ctx, s.db, idle, []any{before}, &body); err != nil || !more {
		return false, err
	}
	err = s.update(ctx, func(w *writing) error {
		body = 0
		w.fetch(idle, []any{before}, func(r row) error { return r.Scan(&body) }) // another server may have been faster
		if err := w.flush(); err != nil || body == 0 {
			return err
		}
		left := int64(0)
		w.exec(`DELETE FROM crl_chunks WHERE body = $1 AND chunk IN (SELECT chunk FROM crl_chunks WHERE body = $1 ORDER BY chunk DESC LIMIT $2)`, body, tidied)
		w.fetch(`SELECT COUNT(*) FROM crl_chunks WHERE body = $1`, []any{body}, func(r row) error { return r.Scan(&left) })
		if err := w.flush(); err != nil || left > 0 {
			return err
		}
		w.exec(`DELETE FROM crl_bodies WHERE id = $1`, body)
		return nil
	})
	return err == nil, err
}
