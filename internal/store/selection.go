package store

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/touchmark/touchmark/vetting"
)

// selection reads the devices that a job is about, by ID, a page at a time.
type selection struct {
	vetting.Selection
	set    *vetting.IdentifierSet
	listed bool    // ids are all there can be
	ids    []int64 // sorted
	upto   int64   // the last ID
	// idsOnly leaves out what would become of the devices, for whoever looks
	// again before changing them.
	idsOnly bool
}

// selected is one of them.
type selected struct {
	vetting.JobDevice
	prospect vetting.Prospect
}

// scanned is how many records are read at a time.
const scanned = 1000

func newSelection(s vetting.Selection, ids []int64, upto int64) (*selection, error) {
	set, err := s.Identifiers.Compile()
	if err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "%v", err)
	}
	return &selection{Selection: s, set: set, listed: ids != nil, ids: ids, upto: upto}, nil
}

// page reads up to limit devices after an ID, and tells up to where it looked:
// beyond upto if there are no more.
func (s *Store) selectPage(ctx context.Context, sel *selection, after int64, limit int) (list []*selected, looked int64, err error) {
	for looked = after; len(list) < limit && looked < sel.upto; {
		start, n := looked, 0
		query, args := sel.query(start, micros(s.now()))
		err = s.db.query(ctx, query, args, func(r row) error {
			n++
			d, made, err := sel.scan(r)
			if err != nil {
				return err
			}
			looked = d.ID
			if keep, err := sel.keeps(d, made); err != nil || !keep {
				return err
			}
			if list = append(list, d); len(list) == limit {
				return errFull
			}
			return nil
		})
		switch {
		case errors.Is(err, errFull):
			return list, looked, nil
		case err != nil:
			return nil, 0, err
		case sel.listed:
			looked = sel.beyond(start)
		case n < scanned:
			looked = sel.upto
		}
	}
	return list, looked, nil
}

// errFull ends a query.
var errFull = errors.New("the page is full")

const (
	selectedColumns = `rec.id, rec.serial, COALESCE(rec.mac, ''), COALESCE(rec.uid, ''), rec.made`
	// prospectColumns name the present time's place among the arguments.
	prospectColumns = `, COALESCE(d.state, 'manufactured'), COALESCE(d.before, ''), COALESCE(d.certificate_id, 0),
  (SELECT COUNT(*) FROM certificates c WHERE c.device_id = rec.id AND c.state <> 'revoked' AND (c.not_after > $%[1]d OR c.id = d.certificate_id OR c.state = 'on-hold')),
  (SELECT COUNT(*) FROM certificates c WHERE c.id = d.certificate_id AND c.state = 'valid' AND c.not_after > $%[1]d)`
	selectedFrom = ` FROM records rec LEFT JOIN devices d ON d.id = rec.id WHERE `
)

func (sel *selection) query(after, now int64) (string, []any) {
	where, args := sel.where(after)
	if sel.idsOnly {
		return `SELECT ` + selectedColumns + selectedFrom + where, args
	}
	args = append(args, now)
	return `SELECT ` + selectedColumns + fmt.Sprintf(prospectColumns, len(args)) + selectedFrom + where, args
}

// presently begins a condition on a device's present certificate, which ends
// with a parenthesis.
const presently = `EXISTS (SELECT 1 FROM certificates c WHERE c.id = d.certificate_id AND `

// where narrows as far as the database can.
func (sel *selection) where(after int64) (string, []any) {
	where, args := `rec.id > $1 AND rec.id <= $2`, []any{after, sel.upto}
	and := func(condition string, value any) {
		args = append(args, value)
		where += fmt.Sprintf(" AND "+condition, len(args))
	}
	for _, c := range [...]struct{ condition, name string }{
		{`rec.site_id = (SELECT id FROM sites WHERE name = $%d)`, sel.Site},
		{`rec.order_id = (SELECT id FROM orders WHERE name = $%d)`, sel.Order},
		{`rec.product_id = (SELECT id FROM products WHERE name = $%d)`, sel.Product},
		{heldBy(sel.Owner), sel.Owner},
		{`COALESCE(d.state, 'manufactured') = $%d`, string(sel.State)},
		{presently + `c.issuer = CASE WHEN $%[1]d = '` + vetting.DeviceCA + `' THEN 0 ELSE (SELECT id FROM issuing_cas WHERE name = $%[1]d) END)`, sel.Issuer},
	} {
		if c.name != "" {
			and(c.condition, c.name)
		}
	}
	if !sel.IssuedFrom.IsZero() {
		and(`d.issued >= $%d`, micros(sel.IssuedFrom))
	}
	if !sel.IssuedBefore.IsZero() {
		and(`d.issued > 0 AND d.issued < $%d`, micros(sel.IssuedBefore))
	}
	if !sel.CertifiedFrom.IsZero() {
		and(presently+`c.issued >= $%d)`, micros(sel.CertifiedFrom))
	}
	if !sel.CertifiedBefore.IsZero() {
		and(presently+`c.issued < $%d)`, micros(sel.CertifiedBefore))
	}
	if sel.listed {
		ids := sel.next(after)
		where += " AND rec.id IN (" + placeholders(len(args), len(ids)) + ")"
		args = append(args, ids...)
	}
	args = append(args, scanned)
	return where + fmt.Sprintf(` ORDER BY rec.id LIMIT $%d`, len(args)), args
}

// next are the listed IDs after one, as many as one query takes, filled up to
// that number, so that the query stays the same.
func (sel *selection) next(after int64) []any {
	i, found := slices.BinarySearch(sel.ids, after)
	if found {
		i++
	}
	list := make([]any, sizes[0])
	for n := range list {
		list[n] = int64(0)
		if i < len(sel.ids) {
			list[n] = sel.ids[i]
			i++
		}
	}
	return list
}

// beyond is up to where the query after an ID looked.
func (sel *selection) beyond(after int64) int64 {
	list := sel.next(after)
	if last := list[len(list)-1].(int64); last != 0 {
		return last
	}
	return sel.upto
}

func (sel *selection) scan(r row) (*selected, string, error) {
	d, made := new(selected), ""
	dest := []any{&d.ID, &d.Serial, &d.MAC, &d.UID, &made}
	if sel.idsOnly {
		return d, made, r.Scan(dest...)
	}
	var state, before string
	var certificate, revocable, renewable int64
	err := r.Scan(append(dest, &state, &before, &certificate, &revocable, &renewable)...)
	d.State = vetting.DeviceState(state)
	d.prospect = vetting.Prospect{State: d.State, Before: vetting.DeviceState(before), Revocable: int(revocable), Certified: certificate != 0, Renewable: renewable != 0}
	return d, made, err
}

// keeps checks what the database cannot.
func (sel *selection) keeps(d *selected, made string) (bool, error) {
	if sel.set.Allows(d.Identity) != nil {
		return false, nil
	}
	if sel.HardwareRevision+sel.Firmware+sel.Line == "" && sel.MadeFrom.IsZero() && sel.MadeBefore.IsZero() {
		return true, nil
	}
	var m vetting.Manufacturing
	if err := json.Unmarshal([]byte(made), &m); err != nil {
		return false, fmt.Errorf("record %d in the database: %w", d.ID, err)
	}
	return sel.Made(&m), nil
}

// listing is what became of identifiers that were listed one by one.
type listing struct {
	ids     []int64 // nil if there were none
	listed  int
	unknown []string
}

// resolve finds the records of identifiers that are listed one by one, of the
// first kind that is: indexes lead there, however many records there are. The
// other kinds narrow them. What is resolved leaves the selection.
func (s *Store) resolve(ctx context.Context, sel *vetting.Selection) (l listing, err error) {
	set, err := sel.Identifiers.Compile()
	if err != nil {
		return l, vetting.Errorf(vetting.Invalid, "%v", err)
	}
	for _, kind := range []struct {
		column  string
		entries []string
		one     func(vetting.Identity) string
		of      func(string) vetting.Identity
	}{
		{"serial", sel.Identifiers.Serials, func(i vetting.Identity) string { return i.Serial }, func(s string) vetting.Identity { return vetting.Identity{Serial: s} }},
		{"mac", sel.Identifiers.MACs, func(i vetting.Identity) string { return i.MAC }, func(s string) vetting.Identity { return vetting.Identity{MAC: s} }},
		{"uid", sel.Identifiers.UIDs, func(i vetting.Identity) string { return i.UID }, func(s string) vetting.Identity { return vetting.Identity{UID: s} }},
	} {
		if len(kind.entries) == 0 || slices.ContainsFunc(kind.entries, func(e string) bool { return strings.Contains(e, "..") }) {
			continue
		}
		names := make([]any, 0, len(kind.entries))
		for _, e := range kind.entries {
			id, err := kind.of(e).Normalize()
			if err != nil {
				return l, vetting.Errorf(vetting.Invalid, "%v", err)
			}
			names = append(names, kind.one(id))
		}
		if err := s.lookUp(ctx, kind.column, names, set, &l); err != nil {
			return l, err
		}
		sel.Identifiers = vetting.Identifiers{}
		return l, nil
	}
	return l, nil
}

func (s *Store) lookUp(ctx context.Context, column string, names []any, set *vetting.IdentifierSet, l *listing) (err error) {
	slices.SortFunc(names, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	names = slices.Compact(names)
	l.ids, l.listed = []int64{}, len(names)
	known := make(map[string]bool, len(names))
	query := `SELECT rec.id, rec.serial, COALESCE(rec.mac, ''), COALESCE(rec.uid, ''), rec.` + column + ` FROM records rec WHERE rec.` + column + ` IN`
	portions(len(names), func(from, to int) {
		if err != nil {
			return
		}
		err = s.db.query(ctx, oneOf(query, 0, to-from), names[from:to], func(r row) error {
			var at int64
			var id vetting.Identity
			var name string
			err := r.Scan(&at, &id.Serial, &id.MAC, &id.UID, &name)
			known[name] = true
			if err == nil && set.Allows(id) == nil {
				l.ids = append(l.ids, at)
			}
			return err
		})
	})
	for _, name := range names {
		if !known[name.(string)] {
			l.unknown = append(l.unknown, name.(string))
		}
	}
	slices.Sort(l.ids)
	return err
}

// packIDs gives sorted IDs as their differences.
func packIDs(ids []int64) []byte {
	if ids == nil {
		return nil
	}
	b, last := []byte{packed}, int64(0)
	for _, id := range ids {
		b, last = binary.AppendUvarint(b, uint64(id-last)), id
	}
	return b
}

func unpackIDs(b []byte) ([]int64, error) {
	if len(b) == 0 {
		return nil, nil
	}
	ids, last := []int64{}, int64(0)
	for b = b[1:]; len(b) > 0; {
		d, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errors.New("the list of a job's devices is not in the form that this version writes")
		}
		last += int64(d)
		ids, b = append(ids, last), b[n:]
	}
	return ids, nil
}
