package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// evidenceRow is a row of evidence. How often it was seen again is no part
// of its digest.
type evidenceRow struct {
	ID, At                               int64
	Kind                                 string
	DeviceID, RegistrationID, ManifestID int64
	SiteID                               int64
	Text                                 string
	Cleared                              string `json:",omitempty"` // later than the others, so absent from their digests

	repeats, last, leaf int64
	mark                []byte
}

const evidenceColumns = `e.id, e.at, e.kind, e.device_id, e.registration_id, e.manifest_id, e.site_id, e.text, e.cleared, e.repeats, e.last, e.leaf`

func (e *evidenceRow) dest() []any {
	return []any{&e.ID, &e.At, &e.Kind, &e.DeviceID, &e.RegistrationID, &e.ManifestID, &e.SiteID, &e.Text, &e.Cleared, &e.repeats, &e.last, &e.leaf}
}

func (e *evidenceRow) object() audit.Object {
	return audit.Object{Kind: audit.KindEvidence, ID: e.ID, Digest: audit.DigestOf(e)}
}

func (e *evidenceRow) evidence() (*vetting.Evidence, error) {
	out := &vetting.Evidence{
		ID: e.ID, At: fromMicros(e.At), Kind: vetting.EvidenceKind(e.Kind), DeviceID: e.DeviceID,
		RegistrationID: e.RegistrationID, ManifestID: e.ManifestID, Text: e.Text,
		Repeats: e.repeats, Last: fromMicros(e.last), Leaf: e.leaf,
	}
	if e.Cleared == "" {
		return out, nil
	}
	out.Cleared = new(vetting.Clearing)
	if err := json.Unmarshal([]byte(e.Cleared), out.Cleared); err != nil {
		return nil, fmt.Errorf("evidence %d in the database: %w", e.ID, err)
	}
	return out, nil
}

func (w *writing) insertEvidence(e *evidenceRow) {
	w.insert(`evidence (id, at, kind, device_id, registration_id, manifest_id, site_id, text, repeats, last, leaf, mark)`,
		e.ID, e.At, e.Kind, e.DeviceID, e.RegistrationID, e.ManifestID, e.SiteID, e.Text, e.repeats, e.last, e.leaf, bytesOrNull(e.mark, len(e.mark) == 0))
}

func (s *Store) evidence(ctx context.Context, where string, args ...any) ([]*vetting.Evidence, error) {
	return readAll(ctx, s.db, `SELECT `+evidenceColumns+` FROM evidence e WHERE `+where, args, (*evidenceRow).dest, (*evidenceRow).evidence)
}

// Evidence lists evidence, newest first.
func (s *Store) Evidence(ctx context.Context, f vetting.EvidenceFilter, p vetting.Page) ([]*vetting.Evidence, error) {
	where, args := `e.id < $1`, []any{newestFirst(p)}
	and := func(condition string, value any, given bool) {
		if given {
			args = append(args, value)
			where += fmt.Sprintf(" AND "+condition, len(args))
		}
	}
	and(`e.site_id = (SELECT id FROM sites WHERE name = $%d)`, f.Site, f.Site != "")
	and(`e.kind = $%d`, string(f.Kind), f.Kind != "")
	and(`e.device_id = $%d`, f.DeviceID, f.DeviceID != 0)
	and(`e.device_id IN (SELECT d.id FROM devices d JOIN owners ow ON ow.id = d.owner_id WHERE ow.name = $%d)`, f.Owner, f.Owner != "")
	if f.Open {
		where += ` AND e.cleared = ''`
	}
	args = append(args, limit(p))
	return s.evidence(ctx, where+fmt.Sprintf(` ORDER BY e.id DESC LIMIT $%d`, len(args)), args...)
}

// RecordEvidence keeps evidence that no registration or manifest brought up.
// What is open under the same mark already is counted as seen again.
func (s *Store) RecordEvidence(ctx context.Context, a access.Act, list []vetting.Evidence) error {
	return s.update(ctx, func(w *writing) error { return w.recordEvidence(operatorOf(a), list) })
}

// WitnessEvidence keeps evidence that the server saw by itself, as
// RecordEvidence does.
func (s *Store) WitnessEvidence(ctx context.Context, list []vetting.Evidence) error {
	return s.update(ctx, func(w *writing) error { return w.recordEvidence("server", list) })
}

func (w *writing) recordEvidence(by string, list []vetting.Evidence) error {
	var rows []*evidenceRow
	var objects []audit.Object
	for _, e := range list {
		row := &evidenceRow{At: micros(w.now), Kind: string(e.Kind), DeviceID: e.DeviceID, SiteID: e.SiteID, Text: e.Text, mark: e.Mark}
		if seen, err := w.seenAgain(row, rows); err != nil {
			return err
		} else if seen {
			continue
		}
		row.ID = w.ids(1)
		rows, objects = append(rows, row), append(objects, row.object())
	}
	if len(rows) == 0 {
		return nil
	}
	leaf := w.leaf("evidence.record", by, "", objects...)
	for _, row := range rows {
		row.leaf = leaf
		w.insertEvidence(row)
	}
	return nil
}

// seenAgain counts evidence under the row's mark, if some is open or among
// the new rows, and tells the row the site of its device,
// if that is known.
func (w *writing) seenAgain(e *evidenceRow, fresh []*evidenceRow) (bool, error) {
	for _, f := range fresh {
		if len(e.mark) > 0 && bytes.Equal(e.mark, f.mark) {
			f.repeats, f.last = f.repeats+1, micros(w.now)
			return true, nil
		}
	}
	id := int64(0)
	if len(e.mark) > 0 {
		w.fetch(`SELECT id FROM evidence WHERE mark = $1`, []any{e.mark}, func(r row) error { return r.Scan(&id) })
	}
	w.fetch(`SELECT site_id FROM records WHERE id = $1`, []any{e.DeviceID}, func(r row) error { return r.Scan(&e.SiteID) })
	if err := w.flush(); err != nil || id == 0 {
		return false, err
	}
	w.exec(`UPDATE evidence SET repeats = repeats + 1, last = $2 WHERE id = $1`, id, micros(w.now))
	return true, nil
}

// ClearEvidence keeps a person's word that evidence was a false alarm; on
// what is cleared already it is a Conflict.
func (s *Store) ClearEvidence(ctx context.Context, a access.Act, id int64, note string) (*vetting.Evidence, error) {
	return s.judgeEvidence(ctx, a, id, &vetting.Clearing{By: a.Operator, Note: note}, note)
}

// ReopenEvidence takes a clearing back; on what is open it is a Conflict.
func (s *Store) ReopenEvidence(ctx context.Context, a access.Act, id int64, note string) (*vetting.Evidence, error) {
	return s.judgeEvidence(ctx, a, id, nil, note)
}

func (s *Store) judgeEvidence(ctx context.Context, a access.Act, id int64, c *vetting.Clearing, note string) (*vetting.Evidence, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		rows, err := w.evidenceWhere(`e.id = $1`, id)
		switch {
		case err != nil:
			return 0, err
		case len(rows) == 0:
			return 0, notFound("evidence", id)
		case c != nil && rows[0].Cleared != "":
			return 0, vetting.Errorf(vetting.Conflict, "evidence %d was cleared already", id)
		case c == nil && rows[0].Cleared == "":
			return 0, vetting.Errorf(vetting.Conflict, "evidence %d is open: there is no clearing to take back", id)
		}
		w.clear(a, rows, c, note)
		return id, nil
	})
	if err != nil {
		return nil, err
	}
	list, err := s.evidence(ctx, `e.id = $1`, id)
	return theOne(list, err, "evidence", id)
}

// ClearDeviceEvidence clears everything that is open against a device, in
// one act; if nothing is, that is a Conflict. It returns the device's
// evidence, the newest first, at most 1,000.
func (s *Store) ClearDeviceEvidence(ctx context.Context, a access.Act, device int64, note string) ([]*vetting.Evidence, error) {
	if _, err := s.Device(ctx, device); err != nil {
		return nil, err
	}
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		rows, err := w.evidenceWhere(`e.device_id = $1 AND e.cleared = '' ORDER BY e.id LIMIT 1000`, device)
		if err != nil {
			return 0, err
		}
		if len(rows) == 0 {
			return 0, vetting.Errorf(vetting.Conflict, "no evidence is open against device %d", device)
		}
		w.clear(a, rows, &vetting.Clearing{By: a.Operator, Note: note}, note)
		return device, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Evidence(ctx, vetting.EvidenceFilter{DeviceID: device}, vetting.Page{Limit: 1000})
}

func (w *writing) evidenceWhere(where string, arg any) (rows []*evidenceRow, err error) {
	w.fetch(`SELECT `+evidenceColumns+` FROM evidence e WHERE `+where, []any{arg}, func(r row) error {
		e := new(evidenceRow)
		rows = append(rows, e)
		return r.Scan(e.dest()...)
	})
	return rows, w.flush()
}

// clear writes a clearing, or takes one back if c is nil. What is cleared
// gives its mark away: seen again, it is new.
func (w *writing) clear(a access.Act, rows []*evidenceRow, c *vetting.Clearing, note string) {
	act, text := "evidence.reopen", ""
	if c != nil {
		c.At = w.now
		act, text = "evidence.clear", mustJSON(c)
	}
	var objects []audit.Object
	for _, e := range rows {
		e.Cleared = text
		objects = append(objects, e.object())
	}
	leaf := w.leaf(act, operatorOf(a), note, objects...)
	for _, e := range rows {
		w.exec(`UPDATE evidence SET cleared = $2, mark = NULL, leaf = $3 WHERE id = $1`, e.ID, e.Cleared, leaf)
	}
}
