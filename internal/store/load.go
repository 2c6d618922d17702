package store

import (
	"context"
	"fmt"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// LoadRecords puts the next records of an accepted manifest in place: those
// after the first `after`. It is one transaction, and a Conflict if another
// server got there first. When the last record is in place, the manifest is
// loaded.
func (s *Store) LoadRecords(ctx context.Context, id, after int64, records []vetting.Record) (*vetting.Manifest, error) {
	m, err := s.Manifest(ctx, id)
	if err != nil {
		return nil, err
	}
	l := &loading{product: m.ProductID, rows: make([]*candidate, len(records))}
	for i := range records {
		r := &records[i]
		r.ManifestID, r.OrderID, r.ProductID, r.SiteID = id, m.OrderID, m.ProductID, m.SiteID
		row, err := newRecordRow(r)
		if err != nil {
			return nil, err
		}
		l.rows[i] = &candidate{row: row, claimed: r}
	}
	err = s.update(ctx, func(w *writing) error { return l.apply(w, id, after) })
	if err != nil {
		return nil, err
	}
	return s.Manifest(ctx, id)
}

// loading is one chunk of a manifest on its way into records.
type loading struct {
	product   int64
	rows      []*candidate
	manifest  manifestRow
	fresh     []*recordRow
	contested []any // IDs of records
	objects   []audit.Object
}

// candidate is a record to be, and the records that hold what it claims.
type candidate struct {
	row     *recordRow
	claimed *vetting.Record
	held    []*recordRow
	keyUsed int64 // a device whose official key is this bootstrap key
}

func (l *loading) apply(w *writing, id, after int64) error {
	l.fresh, l.objects, l.manifest, l.contested = nil, nil, manifestRow{}, nil
	w.fetch(manifestQuery+`WHERE m.id = $1`, []any{id}, func(r row) error { return r.Scan(l.manifest.dest()...) })
	l.look(w)
	if err := w.flush(); err != nil {
		return err
	}
	m := &l.manifest
	if m.State != string(vetting.ManifestAccepted) || m.Loaded != after {
		return vetting.Errorf(vetting.Conflict, "manifest %d is %s with %d records loaded, not %d: somebody else is loading it", id, m.State, m.Loaded, after)
	}
	for _, c := range l.rows {
		l.settle(w, c)
	}
	w.execOneOf(`UPDATE records SET contested = 1 WHERE id IN`, nil, l.contested)
	l.insert(w)
	m.Loaded += int64(len(l.rows))
	act := "manifest.load"
	if m.Loaded >= m.Records {
		m.State = string(vetting.ManifestLoaded)
		act = "manifest.loaded"
	}
	w.saveManifest(m)
	w.leaf(act, "server", fmt.Sprintf("%d of %d", m.Loaded, m.Records), append(l.objects, m.object())...)
	return nil
}

// look finds who holds the identifiers and keys already: one list for each
// kind, over all candidates.
func (l *loading) look(w *writing) {
	for _, c := range l.rows {
		c.held, c.keyUsed = nil, 0
	}
	q := `SELECT ` + recordColumns + ` FROM records rec WHERE `
	for _, by := range []struct {
		query string
		first []any
		of    func(*recordRow) any // nil if it has none
	}{
		{q + `rec.product_id = $1 AND rec.serial IN`, []any{l.product}, func(r *recordRow) any { return r.Serial }},
		{q + `rec.mac IN`, nil, func(r *recordRow) any { return textOrNull(r.MAC) }},
		{q + `rec.uid IN`, nil, func(r *recordRow) any { return textOrNull(r.UID) }},
		{q + `rec.key IN`, nil, keyOf},
	} {
		claims, list := l.claims(by.of)
		w.fetchOneOf(by.query, by.first, list, func(r row) error {
			h := new(recordRow)
			if err := r.Scan(h.dest()...); err != nil {
				return err
			}
			for _, c := range claims[mapKey(by.of(h))] {
				c.held = append(c.held, h)
			}
			return nil
		})
	}
	claims, list := l.claims(keyOf)
	w.fetchOneOf(`SELECT d.key, d.id FROM devices d WHERE d.key IN`, nil, list, func(r row) error {
		var key []byte
		var id int64
		if err := r.Scan(&key, &id); err != nil {
			return err
		}
		for _, c := range claims[mapKey(key)] {
			c.keyUsed = id
		}
		return nil
	})
}

func keyOf(r *recordRow) any { return bytesOrNull(r.Key, r.Key == nil) }

// claims are the candidates by one of their identifiers, and the list of
// those.
func (l *loading) claims(of func(*recordRow) any) (by map[any][]*candidate, list []any) {
	by = make(map[any][]*candidate, len(l.rows))
	for _, c := range l.rows {
		v := of(c.row)
		if v == nil {
			continue
		}
		k := mapKey(v)
		if by[k] == nil {
			list = append(list, v)
		}
		by[k] = append(by[k], c)
	}
	return by, list
}

// mapKey makes a key of a map out of a value of the database.
func mapKey(v any) any {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	return v
}

// settle makes a candidate a record, a repetition or a dispute.
func (l *loading) settle(w *writing, c *candidate) {
	switch {
	case len(c.held) == 0 && c.keyUsed == 0:
		l.fresh = append(l.fresh, c.row)
	case c.repeats():
		l.manifest.Repeated++
	default:
		l.manifest.Disputed++
		l.dispute(w, c)
	}
}

// repeats reports whether the candidate says what one record says already.
func (c *candidate) repeats() bool {
	if len(c.held) == 0 {
		return false
	}
	for _, h := range c.held {
		if h.ID != c.held[0].ID {
			return false
		}
	}
	h := c.held[0]
	return h.OrderID == c.row.OrderID && h.Serial == c.row.Serial && h.MAC == c.row.MAC && h.UID == c.row.UID &&
		string(h.Key) == string(c.row.Key) && h.Made == c.row.Made
}

// duplicates names what a candidate shares with a record.
func (c *candidate) duplicates(h *recordRow) (kinds []vetting.EvidenceKind) {
	if h.ProductID == c.row.ProductID && h.Serial == c.row.Serial {
		kinds = append(kinds, vetting.EvidenceDuplicateSerial)
	}
	if c.row.MAC != "" && h.MAC == c.row.MAC {
		kinds = append(kinds, vetting.EvidenceDuplicateMAC)
	}
	if c.row.UID != "" && h.UID == c.row.UID {
		kinds = append(kinds, vetting.EvidenceDuplicateUID)
	}
	if c.row.Key != nil && string(h.Key) == string(c.row.Key) {
		kinds = append(kinds, vetting.EvidenceDuplicateKey)
	}
	return kinds
}

// dispute keeps a candidate that cannot become a record, once for each
// record it clashes with, and evidence against that record.
func (l *loading) dispute(w *writing, c *candidate) {
	seen := map[int64]bool{}
	for _, h := range c.held {
		if !seen[h.ID] {
			seen[h.ID] = true
			l.clash(w, c, h.ID, h.SiteID, c.duplicates(h))
		}
	}
	if c.keyUsed != 0 && !seen[c.keyUsed] {
		l.clash(w, c, c.keyUsed, 0, []vetting.EvidenceKind{vetting.EvidenceDuplicateKey})
	}
}

// disputeRow is what the log holds of a dispute.
type disputeRow struct {
	ID, RecordID, ProductID, SiteID int64
	Serial                          string
	Key                             []byte
	Body                            string
}

func (d *disputeRow) object() audit.Object {
	return audit.Object{Kind: audit.KindDispute, ID: d.ID, Digest: audit.DigestOf(d)}
}

func (l *loading) clash(w *writing, c *candidate, recordID, siteID int64, kinds []vetting.EvidenceKind) {
	d := &disputeRow{ID: w.ids(1), RecordID: recordID, ProductID: c.row.ProductID, SiteID: c.row.SiteID, Serial: c.row.Serial, Key: c.row.Key}
	d.Body = mustJSON(vetting.Dispute{ID: d.ID, RecordID: recordID, Record: *c.claimed, Kinds: kinds})
	w.insert(`disputes (id, record_id, product_id, site_id, serial, key, body)`,
		d.ID, d.RecordID, d.ProductID, d.SiteID, d.Serial, bytesOrNull(d.Key, d.Key == nil), d.Body)
	l.contested = append(l.contested, recordID)
	l.objects = append(l.objects, d.object())
	for _, kind := range kinds {
		e := &evidenceRow{ID: w.ids(1), At: micros(w.now), Kind: string(kind), DeviceID: recordID, ManifestID: l.manifest.ID, SiteID: siteID,
			Text: fmt.Sprintf("Row %d of manifest %d claims %s, which this device holds.", c.row.Row, l.manifest.ID, c.claimed.Identity), leaf: w.tree.Size()}
		w.insertEvidence(e)
		l.objects = append(l.objects, e.object())
	}
}

// insert writes the fresh records.
func (l *loading) insert(w *writing) {
	if len(l.fresh) == 0 {
		return
	}
	l.manifest.Fresh += int64(len(l.fresh))
	l.objects = append(l.objects, w.insertRecords(l.fresh))
}

// insertRecords writes records, at least one, numbered in a run, which one
// object of the leaf accounts for.
func (w *writing) insertRecords(fresh []*recordRow) audit.Object {
	first := w.ids(int64(len(fresh)))
	run := newRun()
	for i, r := range fresh {
		r.ID = first + int64(i)
		w.insert(`records (id, manifest_id, row_no, order_id, product_id, site_id, serial, mac, uid, key, made, contested)`,
			r.ID, r.ManifestID, r.Row, r.OrderID, r.ProductID, r.SiteID, r.Serial, textOrNull(r.MAC), textOrNull(r.UID), keyOf(r), r.Made, int64(0))
		run.add(r)
	}
	w.insert(`record_runs (first_id, last_id)`, first, first+int64(len(fresh))-1)
	return run.object()
}
