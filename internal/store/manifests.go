package store

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/manifest"
)

// manifestRow is a row of manifests. It enters the log when it is accepted
// and again when it is loaded.
type manifestRow struct {
	ID, OrderID               int64
	State, SHA256, Format     string
	Size, Records, Loaded     int64
	Fresh, Repeated, Disputed int64
	Received, Updated         int64
}

const manifestQuery = `SELECT m.id, m.order_id, m.state, m.sha256, m.format, m.size, m.records, m.loaded, m.fresh, m.repeated, m.disputed, m.received, m.updated FROM manifests m `

func (m *manifestRow) dest() []any {
	return []any{&m.ID, &m.OrderID, &m.State, &m.SHA256, &m.Format, &m.Size, &m.Records, &m.Loaded, &m.Fresh, &m.Repeated, &m.Disputed, &m.Received, &m.Updated}
}

func (m *manifestRow) object() audit.Object {
	return audit.Object{Kind: audit.KindManifest, ID: m.ID, Digest: audit.DigestOf(m)}
}

func (s *Store) manifests(ctx context.Context, where string, args ...any) (list []*vetting.Manifest, err error) {
	var rows []*manifestRow
	err = s.db.query(ctx, manifestQuery+where, args, func(r row) error {
		m := new(manifestRow)
		rows = append(rows, m)
		return r.Scan(m.dest()...)
	})
	for _, m := range rows {
		out, err := s.manifestFrom(ctx, m)
		if err != nil {
			return nil, err
		}
		list = append(list, out)
	}
	return list, err
}

func (s *Store) manifestFrom(ctx context.Context, m *manifestRow) (*vetting.Manifest, error) {
	orders, err := s.orders(ctx, `o.id = $1`, m.OrderID)
	if err != nil || len(orders) == 0 {
		return nil, orNotFound(err, "order", m.OrderID)
	}
	o := orders[0]
	out := &vetting.Manifest{
		ID: m.ID, Order: o.Name, Site: o.Site, Format: vetting.ManifestFormat(m.Format), State: vetting.ManifestState(m.State),
		SHA256: m.SHA256, Size: m.Size, Records: m.Records, Loaded: m.Loaded, Fresh: m.Fresh, Repeated: m.Repeated,
		Disputed: m.Disputed, Signers: []string{}, Wanted: o.ManifestSignatures,
		Received: fromMicros(m.Received), Updated: fromMicros(m.Updated),
		OrderID: o.ID, ProductID: o.ProductID, SiteID: o.SiteID,
	}
	err = s.db.query(ctx, `SELECT operator FROM manifest_signatures WHERE manifest_id = $1 ORDER BY id`, []any{m.ID}, func(r row) error {
		var name string
		defer func() { out.Signers = append(out.Signers, name) }()
		return r.Scan(&name)
	})
	if err == nil && out.State == vetting.ManifestUnapproved {
		err = s.awaited(ctx, out, o)
	}
	return out, err
}

func orNotFound(err error, what string, name any) error {
	if err != nil {
		return err
	}
	return notFound(what, name)
}

// Manifests lists the manifests that are complete, by ID.
func (s *Store) Manifests(ctx context.Context, f vetting.ManifestFilter, p vetting.Page) ([]*vetting.Manifest, error) {
	return s.manifests(ctx, `JOIN orders o ON o.id = m.order_id JOIN sites s ON s.id = o.site_id
		WHERE m.id > $1 AND m.state <> 'receiving' AND ($2 = '' OR s.name = $2) AND ($3 = '' OR o.name = $3) ORDER BY m.id LIMIT $4`,
		p.After, f.Site, f.Order, limit(p))
}

// Manifest returns a manifest that is complete, or a NotFound error.
func (s *Store) Manifest(ctx context.Context, id int64) (*vetting.Manifest, error) {
	list, err := s.manifests(ctx, `WHERE m.id = $1 AND m.state <> 'receiving'`, id)
	return theOne(list, err, "manifest", id)
}

// ManifestByDigest returns the manifest of an order by the SHA-256 of its
// file, or a NotFound error.
func (s *Store) ManifestByDigest(ctx context.Context, order, sha256 string) (*vetting.Manifest, error) {
	list, err := s.manifests(ctx, `JOIN orders o ON o.id = m.order_id WHERE o.name = $1 AND m.sha256 = $2 AND m.state <> 'receiving' LIMIT 1`, order, sha256)
	return theOne(list, err, "manifest with the SHA-256", sha256)
}

// ManifestsToLoad lists the accepted manifests whose records are not all in
// place.
func (s *Store) ManifestsToLoad(ctx context.Context) ([]*vetting.Manifest, error) {
	return s.manifests(ctx, `WHERE m.state = 'accepted' ORDER BY m.id`)
}

// BeginManifest makes room for a manifest whose bytes are about to arrive.
// Nothing sees it before AcceptManifest. What an interrupted upload left
// behind for a day is swept here.
func (s *Store) BeginManifest(ctx context.Context, m *vetting.Manifest) (id int64, err error) {
	err = s.update(ctx, func(w *writing) error {
		old := micros(w.now) - 24*3600*1e6
		w.exec(`DELETE FROM manifest_parts WHERE manifest_id IN (SELECT id FROM manifests WHERE state = 'receiving' AND received < $1)`, old)
		w.exec(`DELETE FROM manifests WHERE state = 'receiving' AND received < $1`, old)
		id = w.ids(1)
		w.exec(`INSERT INTO manifests (id, order_id, state, sha256, format, size, records, loaded, fresh, repeated, disputed, received, updated) VALUES ($1, $2, 'receiving', '', $3, 0, 0, 0, 0, 0, 0, $4, $4)`,
			id, m.OrderID, string(m.Format), micros(w.now))
		return nil
	})
	return id, err
}

// AddManifestPart keeps one part of a manifest's file, which the store does
// not look into.
func (s *Store) AddManifestPart(ctx context.Context, id int64, seq int, data []byte) error {
	return s.update(ctx, func(w *writing) error {
		w.exec(`INSERT INTO manifest_parts (manifest_id, seq, data) VALUES ($1, $2, $3)`, id, int64(seq), data)
		return nil
	})
}

// DropManifest forgets a manifest that was not accepted.
func (s *Store) DropManifest(ctx context.Context, id int64) error {
	return s.update(ctx, func(w *writing) error {
		w.forget(id)
		return nil
	})
}

func (w *writing) forget(id int64) {
	w.exec(`DELETE FROM manifest_parts WHERE manifest_id IN (SELECT id FROM manifests WHERE id = $1 AND state = 'receiving')`, id)
	w.exec(`DELETE FROM manifests WHERE id = $1 AND state = 'receiving'`, id)
}

// ManifestParts calls fn with the parts of a manifest's file in order. Each
// is read by itself: a query that stays open while records are loaded would
// keep SQLite from shortening its WAL.
func (s *Store) ManifestParts(ctx context.Context, id int64, fn func(data []byte) error) error {
	seq := int64(-1)
	for {
		var data []byte
		found, err := one(ctx, s.db, `SELECT seq, data FROM manifest_parts WHERE manifest_id = $1 AND seq > $2 ORDER BY seq LIMIT 1`, []any{id, seq}, &seq, &data)
		if err != nil || !found {
			return err
		}
		if err := fn(data); err != nil {
			return err
		}
	}
}

// AcceptManifest makes a received manifest visible, with the signatures that
// were verified: accepted if they are as many as its order wants, unsigned
// otherwise; unapproved if others have to approve it. If the same file was accepted for the order meanwhile, that
// manifest is the answer and this one is forgotten. One that was dropped or
// swept is NotFound.
func (s *Store) AcceptManifest(ctx context.Context, a access.Act, m *vetting.Manifest, signatures []manifest.Signature) (*vetting.Manifest, error) {
	id := m.ID
	err := s.update(ctx, func(w *writing) error {
		var twin int64
		w.fetch(`SELECT id FROM manifests WHERE order_id = $1 AND sha256 = $2 AND state <> 'receiving'`, []any{m.OrderID, m.SHA256}, func(r row) error { return r.Scan(&twin) })
		if err := w.flush(); err != nil {
			return err
		}
		if twin != 0 {
			if id = twin; twin != m.ID {
				w.forget(m.ID)
			}
			return nil
		}
		if there, err := w.taken(`SELECT 1 FROM manifests WHERE id = $1 AND state = 'receiving'`, m.ID); err != nil || !there {
			return orNotFound(err, "manifest that is being received", m.ID)
		}
		w.exec(`UPDATE manifests SET state = 'unsigned', sha256 = $2, size = $3, records = $4, updated = $5 WHERE id = $1`,
			m.ID, m.SHA256, m.Size, m.Records, micros(w.now))
		for _, sig := range signatures {
			w.addSignature(m.ID, sig)
		}
		return w.settle(a, m.ID, m.Wanted)
	})
	if err != nil {
		return nil, err
	}
	return s.Manifest(ctx, id)
}

// AddManifestSignature adds a verified signature to a manifest that lacks
// some, or that others have to approve: they are asked again. A second one of the same operator changes nothing.
func (s *Store) AddManifestSignature(ctx context.Context, a access.Act, id int64, sig manifest.Signature) (*vetting.Manifest, error) {
	m, err := s.Manifest(ctx, id)
	if err != nil {
		return nil, err
	}
	err = s.update(ctx, func(w *writing) error {
		signed, err := w.taken(`SELECT 1 FROM manifest_signatures WHERE manifest_id = $1 AND operator = $2`, id, sig.Operator)
		if err != nil || signed {
			return err
		}
		w.addSignature(id, sig)
		return w.settle(a, id, m.Wanted)
	})
	if err != nil {
		return nil, err
	}
	return s.Manifest(ctx, id)
}

func (w *writing) addSignature(id int64, sig manifest.Signature) {
	w.exec(`INSERT INTO manifest_signatures (id, manifest_id, operator, der, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
		w.ids(1), id, sig.Operator, sig.DER, micros(sig.At))
}

// settle accepts an unsigned manifest that has enough signatures, or asks
// those who have to approve it, and logs what it is now.
func (w *writing) settle(a access.Act, id int64, wanted int) error {
	var m manifestRow
	var signatures int64
	w.fetch(manifestQuery+`WHERE m.id = $1`, []any{id}, func(r row) error { return r.Scan(m.dest()...) })
	w.fetch(`SELECT COUNT(*) FROM manifest_signatures WHERE manifest_id = $1`, []any{id}, func(r row) error { return r.Scan(&signatures) })
	if err := w.flush(); err != nil {
		return err
	}
	var approvals int
	if unsettled := m.State == string(vetting.ManifestUnsigned) || m.State == string(vetting.ManifestUnapproved); unsettled && signatures >= int64(wanted) {
		var err error
		if approvals, err = w.manifestApprovals(m.OrderID); err != nil {
			return err
		}
		m.State = string(vetting.ManifestAccepted)
		if approvals > 0 {
			m.State = string(vetting.ManifestUnapproved)
		}
	}
	w.saveManifest(&m)
	w.leaf("manifest."+m.State, operatorOf(a), m.SHA256, m.object())
	if approvals == 0 {
		return nil
	}
	return w.askForManifest(a, &m)
}

func (w *writing) saveManifest(m *manifestRow) {
	m.Updated = micros(w.now)
	w.exec(`UPDATE manifests SET state = $2, loaded = $3, fresh = $4, repeated = $5, disputed = $6, updated = $7 WHERE id = $1`,
		m.ID, m.State, m.Loaded, m.Fresh, m.Repeated, m.Disputed, m.Updated)
}
