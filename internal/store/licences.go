package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// grantRow is a row of licence_grants.
type grantRow struct {
	ID, OrderID, ProductID, SiteID int64
	Chips                          int64
	By                             string
	At                             int64
	KeyID, Signed                  int64
	Header, Signatures             []byte // nil until it is signed
}

const grantColumns = `g.id, g.order_id, g.product_id, g.site_id, g.chips, g.made_by, g.at, g.key_id, g.signed, g.header, g.signatures`

func (g *grantRow) dest() []any {
	return []any{&g.ID, &g.OrderID, &g.ProductID, &g.SiteID, &g.Chips, &g.By, &g.At, &g.KeyID, &g.Signed, &g.Header, &g.Signatures}
}

func (g *grantRow) object() audit.Object {
	return audit.Object{Kind: audit.KindLicenceGrant, ID: g.ID, Digest: audit.DigestOf(g)}
}

// chipRun digests the chips of one grant: the SHA-256 of their rows' JSON, one
// a line. The rows never change.
type chipRun struct {
	grant int64
	sum   hash.Hash
}

func newChipRun(grant int64) *chipRun { return &chipRun{grant, sha256.New()} }

func (c *chipRun) add(id int64, uid []byte) {
	_ = json.NewEncoder(c.sum).Encode(struct { // neither can fail
		ID  int64
		UID []byte
	}{id, uid})
}

func (c *chipRun) object() audit.Object {
	return audit.Object{Kind: audit.KindLicences, ID: c.grant, Digest: audit.Digest(c.sum.Sum(nil))}
}

// licensed digests the chips grant by grant.
func (s source) licensed(ctx context.Context, fn func(audit.Object) error) error {
	var run *chipRun
	err := s.r.query(ctx, `SELECT l.id, l.uid, l.grant_id FROM licences l ORDER BY l.id`, nil, func(r row) error {
		var id, grant int64
		var uid []byte
		if err := r.Scan(&id, &uid, &grant); err != nil {
			return err
		}
		if run != nil && run.grant != grant {
			if err := fn(run.object()); err != nil {
				return err
			}
			run = nil
		}
		if run == nil {
			run = newChipRun(grant)
		}
		run.add(id, uid)
		return nil
	})
	if err != nil || run == nil {
		return err
	}
	return fn(run.object())
}

// programmedRow is a row of programmed.
type programmedRow struct {
	LicenceID, At int64
	By            string
}

func (p *programmedRow) object() audit.Object {
	return audit.Object{Kind: audit.KindProgrammed, ID: p.LicenceID, Digest: audit.DigestOf(p)}
}

// A signature is found by its place among those of its grant.
const licenceQuery = `SELECT l.id, l.uid, g.made_by, g.at, g.signed, g.header, substr(g.signatures, CAST((l.id - g.id - 1) * 64 + 1 AS INTEGER), 64),
	o.name, o.lot, p.name, s.name, COALESCE(pr.at, 0)
	FROM licences l JOIN licence_grants g ON g.id = l.grant_id JOIN orders o ON o.id = g.order_id JOIN products p ON p.id = g.product_id
	JOIN sites s ON s.id = g.site_id LEFT JOIN programmed pr ON pr.licence_id = l.id WHERE `

// licenceRow is a row of licenceQuery.
type licenceRow struct {
	out                    vetting.Licence
	uid, header, signature []byte
	at, signed, programmed int64
	lot                    int64
}

func (l *licenceRow) dest() []any {
	return []any{&l.out.ID, &l.uid, &l.out.By, &l.at, &l.signed, &l.header, &l.signature, &l.out.Order, &l.lot, &l.out.Product, &l.out.Site, &l.programmed}
}

func (l *licenceRow) licence() (*vetting.Licence, error) {
	out := l.out
	out.UID, out.Lot, out.State = hex.EncodeToString(l.uid), uint32(l.lot), vetting.LicenceReserved
	out.Reserved, out.Signed, out.Programmed = fromMicros(l.at), fromMicros(l.signed), fromMicros(l.programmed)
	if l.signed == 0 {
		return &out, nil
	}
	if len(l.header) != 16 || len(l.signature) != 64 {
		return nil, fmt.Errorf("the licence %d in the database has %d and %d bytes", out.ID, len(l.header), len(l.signature))
	}
	out.State = vetting.LicenceSigned
	if l.programmed != 0 {
		out.State = vetting.LicenceProgrammed
	}
	out.Bytes = vetting.LicenceBytes(l.header, l.uid, l.signature)
	return &out, nil
}

func (s *Store) licences(ctx context.Context, where string, args ...any) ([]*vetting.Licence, error) {
	list, err := readAll(ctx, s.db, licenceQuery+where, args, (*licenceRow).dest, (*licenceRow).licence)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	of, uids := make(map[string]*vetting.Licence, len(list)), make([]any, len(list))
	for i, l := range list {
		of[l.UID], uids[i] = l, l.UID
	}
	portions(len(uids), func(from, to int) {
		if err == nil {
			err = s.db.query(ctx, oneOf(`SELECT rec.uid, rec.id FROM records rec WHERE rec.uid IN`, 0, to-from), uids[from:to], func(r row) error {
				var uid string
				var id int64
				err := r.Scan(&uid, &id)
				of[uid].DeviceID = id
				return err
			})
		}
	})
	return list, err
}

// Licences lists licences, newest first.
func (s *Store) Licences(ctx context.Context, f vetting.LicenceFilter, p vetting.Page) ([]*vetting.Licence, error) {
	where, args := `l.id < $1`, []any{newestFirst(p)}
	for _, by := range [...]struct{ column, value string }{{`s.name`, f.Site}, {`o.name`, f.Order}, {`p.name`, f.Product}} {
		if by.value != "" {
			args = append(args, by.value)
			where += fmt.Sprintf(` AND %s = $%d`, by.column, len(args))
		}
	}
	where += map[vetting.LicenceState]string{"": "", vetting.LicenceReserved: ` AND g.signed = 0`,
		vetting.LicenceSigned: ` AND g.signed <> 0 AND pr.at IS NULL`, vetting.LicenceProgrammed: ` AND pr.at IS NOT NULL`}[f.State]
	args = append(args, limit(p))
	return s.licences(ctx, where+fmt.Sprintf(` ORDER BY l.id DESC LIMIT $%d`, len(args)), args...)
}

// LicencesOf finds the licences of chips, without order. A chip that has none
// is left out.
func (s *Store) LicencesOf(ctx context.Context, uids [][]byte) (list []*vetting.Licence, err error) {
	args := make([]any, len(uids))
	for i, uid := range uids {
		args[i] = uid
	}
	portions(len(args), func(from, to int) {
		if err != nil {
			return
		}
		var part []*vetting.Licence
		part, err = s.licences(ctx, oneOf(`l.uid IN`, 0, to-from), args[from:to]...)
		list = append(list, part...)
	})
	return list, err
}

// UnsignedGrant is a grant whose licences may have to be signed yet.
func (s *Store) UnsignedGrant(ctx context.Context, id int64) (*vetting.LicenceGrant, error) {
	g := &vetting.LicenceGrant{ID: id}
	err := s.db.query(ctx, `SELECT l.uid, o.lot FROM licences l JOIN licence_grants g ON g.id = l.grant_id JOIN orders o ON o.id = g.order_id
		WHERE g.id = $1 AND l.id > g.id AND l.id <= g.id + g.chips ORDER BY l.id`, []any{id}, func(r row) error {
		var uid []byte
		var lot int64
		err := r.Scan(&uid, &lot)
		g.UIDs, g.Lot = append(g.UIDs, uid), uint32(lot)
		return err
	})
	if err == nil && len(g.UIDs) == 0 {
		err = notFound("grant of licences", id)
	}
	return g, err
}
