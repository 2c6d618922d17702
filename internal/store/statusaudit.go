package store

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/maphash"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/ocsp"
)

// toldAtOnce is of how many serial numbers an audit has the last row in
// memory: some 60 MB.
const toldAtOnce = 1 << 20

// lastTold is the last row of a serial number: a hash of what it says that
// nobody can foresee, because there are many, and its key.
type lastTold struct {
	said uint64
	seq  int64
}

// serials is a range of serial numbers by their first two bytes, from from up
// to, not including, to.
type serials struct{ from, to int }

var allSerials = serials{0, 1 << 16}

// where limits a query to the range. One without an end on a side takes in
// what is no serial number, too.
func (r serials) where(column string) (sql string, args []any) {
	bound := func(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
	switch from, to := r.from > allSerials.from, r.to < allSerials.to; {
	case from && to:
		return ` WHERE ` + column + ` >= $1 AND ` + column + ` < $2`, []any{bound(r.from), bound(r.to)}
	case from:
		return ` WHERE ` + column + ` >= $1`, []any{bound(r.from)}
	case to:
		return ` WHERE ` + column + ` < $1`, []any{bound(r.to)}
	}
	return "", nil
}

var errTooMany = errors.New("too many at once")

// told calls each with the last rows of one range of serial numbers after the
// other, until all had their turn. There are no more than s.atOnce in a range:
// one that has more is halved.
func (s source) told(ctx context.Context, r serials, seed maphash.Seed, each func(serials, map[ocsp.Serial]lastTold) error) error {
	last := map[ocsp.Serial]lastTold{}
	where, args := r.where("serial")
	err := s.r.query(ctx, `SELECT seq, serial, issuer, reason, revoked, not_after FROM statuses`+where+` ORDER BY seq`, args, func(row row) error {
		var serial []byte
		var seq int64
		var t told
		err := row.Scan(&seq, &serial, &t.issuer, &t.reason, &t.since, &t.notAfter)
		if t.reason == good.reason {
			t.since = 0
		}
		last[serialOf(serial)] = lastTold{maphash.Comparable(seed, t), seq}
		if err == nil && len(last) > s.atOnce && r.to-r.from > 1 {
			err = errTooMany
		}
		return err
	})
	if errors.Is(err, errTooMany) {
		clear(last)
		middle := (r.from + r.to) / 2
		if err := s.told(ctx, serials{r.from, middle}, seed, each); err != nil {
			return err
		}
		return s.told(ctx, serials{middle, r.to}, seed, each)
	}
	if err != nil {
		return err
	}
	return each(r, last)
}

// certificates are digested as they are logged if responders are told of them
// what they should be, and otherwise in no way that a leaf could have. What
// responders are told of others is a certificate that no leaf knows.
func (s source) certificates(ctx context.Context, fn func(audit.Object) error) error {
	seed := maphash.MakeSeed()
	return s.told(ctx, allSerials, seed, func(r serials, last map[ocsp.Serial]lastTold) error {
		where, args := r.where("c.serial")
		err := s.r.query(ctx, `SELECT c.der, `+standingColumns+` FROM certificates c`+where, args, func(r row) error {
			var c certificateRow
			if err := r.Scan(append([]any{&c.DER}, c.standing()...)...); err != nil {
				return err
			}
			now, key := c.status(), serialOf(c.Serial)
			have, found := last[key]
			delete(last, key)
			o := c.object()
			if found && have.said != maphash.Comparable(seed, told{now, c.Issuer, c.NotAfter}) || !found && now != good {
				o.Digest = audit.CertificateDigest(c.DER, "told otherwise")
			}
			return fn(o)
		})
		for _, left := range last {
			if err == nil {
				err = fn(audit.Object{Kind: audit.KindCertificate, ID: left.seq})
			}
		}
		return err
	})
}
