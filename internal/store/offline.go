package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/ocsp/offline"
	"github.com/touchmark/touchmark/ocsp/offline/publish"
)

// offlineRow is a row of offline_files but for the bytes, of which it has the
// digest.
type offlineRow struct {
	ID, Issuer, Kind, Number int64
	Digest                   []byte
}

const offlineColumns = `o.id, o.issuer, o.kind, o.number, o.digest`

func (o *offlineRow) dest() []any { return []any{&o.ID, &o.Issuer, &o.Kind, &o.Number, &o.Digest} }

func (o *offlineRow) object() audit.Object {
	return audit.Object{Kind: audit.KindOfflineFile, ID: o.ID, Digest: audit.DigestOf(o)}
}

var _ publish.Store = (*Store)(nil)

// OfflineFiles implements publish.Store.
func (s *Store) OfflineFiles(ctx context.Context) (list []publish.Kept, err error) {
	err = s.db.query(ctx, `SELECT `+offlineColumns+` FROM offline_files o`, nil, func(r row) error {
		var o offlineRow
		err := r.Scan(o.dest()...)
		k := publish.Kept{Issuer: o.Issuer, Kind: offline.Kind(o.Kind), Number: o.Number}
		copy(k.Digest[:], o.Digest)
		list = append(list, k)
		return err
	})
	return list, err
}

// OfflineFile implements publish.Store.
func (s *Store) OfflineFile(ctx context.Context, issuer int64, kind offline.Kind) (file []byte, err error) {
	_, err = one(ctx, s.db, `SELECT bytes FROM offline_files WHERE issuer = $1 AND kind = $2`, []any{issuer, int64(kind)}, &file)
	return file, err
}

// offlineFiles digests the files as crls does the lists.
func (s source) offlineFiles(ctx context.Context, fn func(audit.Object) error) error {
	return s.r.query(ctx, `SELECT `+offlineColumns+`, o.bytes FROM offline_files o`, nil, func(r row) error {
		var o offlineRow
		var file []byte
		if err := r.Scan(append(o.dest(), &file)...); err != nil {
			return err
		}
		if sum := sha256.Sum256(file); !bytes.Equal(o.Digest, sum[:]) {
			o.Digest = nil
		}
		return fn(o.object())
	})
}

// KeepOfflineFile implements publish.Store.
func (s *Store) KeepOfflineFile(ctx context.Context, by, note string, follows int64, f publish.Kept, file []byte) (kept bool, err error) {
	err = s.update(ctx, func(w *writing) error {
		kept, err = w.keepOfflineFile(by, note, follows, f, file)
		return err
	})
	return kept && err == nil, err
}

func (w *writing) keepOfflineFile(by, note string, follows int64, f publish.Kept, file []byte) (kept bool, err error) {
	o, newest := offlineRow{Issuer: f.Issuer, Kind: int64(f.Kind)}, int64(0)
	w.fetch(`SELECT `+offlineColumns+` FROM offline_files o WHERE o.issuer = $1`, []any{f.Issuer}, func(r row) error {
		var have offlineRow
		err := r.Scan(have.dest()...)
		if newest = max(newest, have.Number); have.Kind == o.Kind {
			o = have
		}
		return err
	})
	if err := w.flush(); err != nil || newest != follows {
		return false, err
	}
	o.Number, o.Digest = f.Number, f.Digest[:]
	if o.ID == 0 {
		o.ID = w.ids(1)
		w.exec(`INSERT INTO offline_files (id, issuer, kind, number, digest, bytes) VALUES ($1, $2, $3, $4, $5, $6)`, o.ID, o.Issuer, o.Kind, o.Number, o.Digest, file)
	} else {
		w.exec(`UPDATE offline_files SET number = $2, digest = $3, bytes = $4 WHERE id = $1`, o.ID, o.Number, o.Digest, file)
	}
	w.leaf("offline.make", by, note, o.object())
	return true, nil
}

// issuedAtOnce is how many certificates are read by one query.
const issuedAtOnce = 4096

// IssuedCertificates implements publish.Store. IDs grow in the order of the
// commits, so the portions miss nothing that was there at the beginning.
func (s *Store) IssuedCertificates(ctx context.Context, issuer int64, at time.Time, each func(serial []byte, good bool) error) error {
	return s.issued(ctx, issuer, at, standingColumns, (*certificateRow).standing, func(c *certificateRow) error {
		return each(bytes.TrimLeft(c.Serial, "\x00"), c.status() == good)
	})
}

// CertificatesInForce calls each with the certificates of a CA, 0 for the
// device CA, that have not run out at a time, whatever became of them.
func (s *Store) CertificatesInForce(ctx context.Context, issuer int64, at time.Time, each func(der []byte, notAfter time.Time)) error {
	dest := func(c *certificateRow) []any { return []any{&c.ID, &c.DER, &c.NotAfter} }
	return s.issued(ctx, issuer, at, `c.id, c.der, c.not_after`, dest, func(c *certificateRow) error {
		each(c.DER, fromMicros(c.NotAfter))
		return nil
	})
}

// issued reads columns of a CA's certificates that have not run out at a time.
func (s *Store) issued(ctx context.Context, issuer int64, at time.Time, columns string, dest func(*certificateRow) []any, each func(*certificateRow) error) error {
	portion := make([]certificateRow, 0, issuedAtOnce)
	for last := int64(0); ; {
		portion = portion[:0]
		err := s.db.query(ctx, `SELECT `+columns+` FROM certificates c WHERE c.id > $1 AND c.issuer = $2 AND c.not_after >= $3 ORDER BY c.id LIMIT $4`,
			[]any{last, issuer, micros(at), issuedAtOnce}, func(r row) error {
				var c certificateRow
				err := r.Scan(dest(&c)...)
				portion = append(portion, c)
				return err
			})
		if err != nil {
			return err
		}
		for i := range portion {
			if err := each(&portion[i]); err != nil {
				return err
			}
		}
		if len(portion) < issuedAtOnce {
			return nil
		}
		last = portion[len(portion)-1].ID
	}
}
