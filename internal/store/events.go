package store

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/vetting"
)

// Events are read behind a cursor while others write. That misses none,
// because the lock of the log's head makes commits one after the other: who
// holds it adds leaves from the size that the one before left, and lets go
// only when its transaction is visible to others. So where a size is visible,
// all leaves below it are, and none is added below it any more.

// One page of events looks at so many leaves at most, and stops early at those
// that tell of many devices.
const (
	leavesLooked = 500
	weightLooked = 8 * leavesLooked
)

// LogSize implements events.Source.
func (s *Store) LogSize(ctx context.Context) (size int64, err error) {
	_, err = one(ctx, s.db, `SELECT size FROM log_head WHERE id = 1`, nil, &size)
	return size, err
}

// Events implements events.Source.
func (s *Store) Events(ctx context.Context, after events.Position, f events.Filter, limit int) (page events.Page, err error) {
	size, err := s.LogSize(ctx) // before the leaves, see above
	if err != nil {
		return page, err
	}
	page.Head = events.Position{Leaf: size}
	if after.Leaf > size || after.Leaf == size && after.Place > 0 {
		return page, vetting.Errorf(vetting.Conflict, "there is no event %s: the log ends before %s; was the database restored from a backup?", after, page.Head)
	}
	leaves, end, err := s.leavesFrom(ctx, after.Leaf, size)
	if err != nil {
		return page, err
	}
	look := newLookup()
	for _, l := range leaves {
		look.want(l.leaf)
	}
	if err := look.read(ctx, s.db); err != nil {
		return page, err
	}
	for _, l := range leaves {
		for _, e := range events.Of(l.index, l.leaf, look) {
			if !after.Before(e.ID) {
				continue
			}
			if f.Wants(&e) {
				page.Events = append(page.Events, e)
			}
			if page.Next = e.ID; len(page.Events) >= limit {
				return page, nil
			}
		}
	}
	page.Next = events.Position{Leaf: end}
	return page, nil
}

type readLeaf struct {
	index int64
	leaf  audit.Leaf
}

// leavesFrom reads the next leaves and tells where they end.
func (s *Store) leavesFrom(ctx context.Context, from, size int64) (list []readLeaf, end int64, err error) {
	end = min(size, from+leavesLooked)
	if from == end {
		return nil, end, nil
	}
	weight := 0
	err = s.Leaves(ctx, from, end, func(index int64, body []byte) error {
		l, err := audit.ParseLeaf(body)
		if err != nil {
			// Somebody changed it. That is for `audit verify` to prove;
			// events go on.
			s.log.LogAttrs(ctx, slog.LevelError, "a leaf of the audit log cannot be read: it gives no events", slog.Int64("leaf", index), slog.Any("error", err))
			return nil
		}
		list = append(list, readLeaf{index, l})
		if weight += weightOf(l); weight >= weightLooked {
			end = index + 1
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return list, end, err
}

// errEnough ends a reading.
var errEnough = errors.New("enough")

// weightOf is about how many devices a leaf tells of. A run of records may be
// thousands, so a page ends with it.
func weightOf(l audit.Leaf) int {
	n := len(l.Objects)
	for _, o := range l.Objects {
		if o.Kind == audit.KindRecords {
			n += weightLooked
		}
	}
	return n
}

// lookup reads for many leaves at once what their objects are about.
type lookup struct {
	registrations map[int64]subject
	certificates  map[int64]int64
	evidence      map[int64]against
	runs          map[int64]int64
	devices       map[int64]*events.DeviceNow
}

type subject struct {
	device int64
	site   string
}

type against struct {
	events.Sign
	device int64
}

func newLookup() *lookup {
	return &lookup{map[int64]subject{}, map[int64]int64{}, map[int64]against{}, map[int64]int64{}, map[int64]*events.DeviceNow{}}
}

func (l *lookup) want(leaf audit.Leaf) {
	for _, o := range leaf.Objects {
		switch o.Kind {
		case audit.KindRegistration:
			l.registrations[o.ID] = subject{}
		case audit.KindCertificate:
			l.certificates[o.ID] = 0
		case audit.KindEvidence:
			l.evidence[o.ID] = against{}
		case audit.KindRecords:
			l.runs[o.ID] = 0
		case audit.KindDevice:
			l.devices[o.ID] = nil
		}
	}
}

// read fills in what is wanted: first what leads to devices, then those.
func (l *lookup) read(ctx context.Context, r reader) error {
	err := errors.Join(
		eachOf(ctx, r, `SELECT r.id, r.device_id, COALESCE(s.name, '') FROM registrations r LEFT JOIN sites s ON s.id = r.site_id WHERE r.id IN`, l.registrations, func(r row) error {
			var id int64
			var s subject
			err := r.Scan(&id, &s.device, &s.site)
			l.registrations[id] = s
			return err
		}),
		eachOf(ctx, r, `SELECT c.id, c.device_id FROM certificates c WHERE c.id IN`, l.certificates, func(r row) error {
			var id, device int64
			err := r.Scan(&id, &device)
			l.certificates[id] = device
			return err
		}),
		eachOf(ctx, r, `SELECT e.id, e.kind, e.text, e.device_id, COALESCE(s.name, '') FROM evidence e LEFT JOIN sites s ON s.id = e.site_id WHERE e.id IN`, l.evidence, func(r row) error {
			var a against
			err := r.Scan(&a.ID, &a.Kind, &a.Text, &a.device, &a.Site)
			l.evidence[a.ID] = a
			return err
		}),
		eachOf(ctx, r, `SELECT rr.first_id, rr.last_id FROM record_runs rr WHERE rr.first_id IN`, l.runs, func(r row) error {
			var first, last int64
			err := r.Scan(&first, &last)
			l.runs[first] = last
			return err
		}),
	)
	if err != nil {
		return err
	}
	return l.readDevices(ctx, r)
}

func (l *lookup) readDevices(ctx context.Context, r reader) error {
	for _, s := range l.registrations {
		l.devices[s.device] = nil
	}
	for _, id := range l.certificates {
		l.devices[id] = nil
	}
	for _, e := range l.evidence {
		l.devices[e.device] = nil
	}
	for first, last := range l.runs {
		for id := first; id <= last; id++ {
			l.devices[id] = nil
		}
	}
	delete(l.devices, 0)
	return eachOf(ctx, r, `SELECT rec.id, rec.serial, p.name, o.name, s.name, COALESCE(ow.name, ''), COALESCE(d.state, 'manufactured'), c.serial
		FROM records rec JOIN products p ON p.id = rec.product_id JOIN orders o ON o.id = rec.order_id JOIN sites s ON s.id = rec.site_id
		LEFT JOIN devices d ON d.id = rec.id LEFT JOIN owners ow ON ow.id = d.owner_id LEFT JOIN certificates c ON c.id = d.certificate_id WHERE rec.id IN`, l.devices, func(r row) error {
		d := new(events.DeviceNow)
		var serial []byte
		err := r.Scan(&d.ID, &d.Serial, &d.Product, &d.Order, &d.Site, &d.Owner, &d.State, &serial)
		d.Certificate = hex.EncodeToString(serial)
		l.devices[d.ID] = d
		return err
	})
}

// eachOf reads the rows that the keys of a map name.
func eachOf[V any](ctx context.Context, r reader, query string, ids map[int64]V, each func(row) error) (err error) {
	list := make([]any, 0, len(ids))
	for id := range ids {
		list = append(list, id)
	}
	portions(len(list), func(from, to int) {
		if err == nil {
			err = r.query(ctx, oneOf(query, 0, to-from), list[from:to], each)
		}
	})
	return err
}

func (l *lookup) Registration(id int64) (device int64, site string) {
	s := l.registrations[id]
	return s.device, s.site
}

func (l *lookup) Certificate(id int64) int64 { return l.certificates[id] }

func (l *lookup) Evidence(id int64) (events.Sign, int64) {
	e := l.evidence[id]
	return e.Sign, e.device
}

func (l *lookup) Records(first int64) int64         { return l.runs[first] }
func (l *lookup) Device(id int64) *events.DeviceNow { return l.devices[id] }
