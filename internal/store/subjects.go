package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/touchmark/touchmark/vetting"
)

// A subject is read with one query, because verifying a serial number is
// asked often: see `-only verify` of the benchmarks. For SQLite's driver a
// column costs as much as looking a row up, so there are no more than needed:
// what speaks for or against few devices is one, and its reading another query.
const subjectQuery = `SELECT rec.id, rec.order_id, rec.serial, COALESCE(rec.mac, ''), COALESCE(rec.uid, ''), rec.contested,
  COALESCE(d.state, ''), COALESCE(d.issued, 0), COALESCE(d.activated, 0), COALESCE(d.owner_id, 0), c.serial, COALESCE(c.state, ''), COALESCE(c.not_after, 0),
  COALESCE(u.at, 0), COALESCE(ob.last, 0),
  CASE WHEN EXISTS (SELECT 1 FROM evidence e WHERE e.device_id = rec.id AND e.cleared = '')
    OR EXISTS (SELECT 1 FROM challenges ch WHERE ch.device_id = rec.id AND ch.result <> '') THEN 1 ELSE 0 END
  FROM records rec LEFT JOIN devices d ON d.id = rec.id LEFT JOIN certificates c ON c.id = d.certificate_id
  LEFT JOIN first_uses u ON u.certificate_id = c.id LEFT JOIN observed ob ON ob.device_id = rec.id WHERE `

// Subjects finds the devices that an inspection is about, each by any of what
// is asked for, without order. Current carries no DER. Nothing found is no
// error.
func (s *Store) Subjects(ctx context.Context, q vetting.SubjectQuery) (list []*vetting.Subject, err error) {
	add := func(query string, arg any) {
		if err != nil {
			return
		}
		var found []*vetting.Subject
		found, err = s.subjects(ctx, query, arg)
		for _, f := range found {
			if !slices.ContainsFunc(list, func(o *vetting.Subject) bool { return o.Device.ID == f.Device.ID }) {
				list = append(list, f)
			}
		}
	}
	var shown *vetting.Certificate
	if q.Certificate != "" {
		if shown, err = s.Certificate(ctx, q.Certificate); vetting.ProblemOf(err) == vetting.NotFound {
			err = nil
		} else if err == nil {
			add(subjectQuery+`rec.id = $1`, shown.DeviceID)
		}
	}
	if !q.Bootstrap.IsZero() {
		add(subjectQuery+`rec.key = $1`, q.Bootstrap[:])
	}
	// A serial number is unique within a product only.
	for _, by := range [...]struct{ query, value string }{
		{subjectQuery + `rec.serial = $1 LIMIT 50`, q.Serial}, {subjectQuery + `rec.mac = $1`, q.MAC}, {subjectQuery + `rec.uid = $1`, q.UID},
	} {
		if by.value != "" {
			add(by.query, by.value)
		}
	}
	if err == nil && !q.Bootstrap.IsZero() {
		err = s.ownBootstrapKey(ctx, q.Bootstrap, list)
	}
	for _, f := range list {
		if shown != nil && shown.DeviceID == f.Device.ID {
			f.Shown, f.ShownDigest = shown, sha256.Sum256(shown.DER)
		}
	}
	return list, err
}

// ownBootstrapKey marks the subject that a bootstrap key belongs to, be it by
// its record or because it was first let in with it.
func (s *Store) ownBootstrapKey(ctx context.Context, key vetting.Fingerprint, list []*vetting.Subject) error {
	for _, f := range list {
		var id int64
		found, err := one(ctx, s.db, `SELECT rec.id FROM records rec LEFT JOIN devices d ON d.id = rec.id WHERE rec.id = $1 AND (rec.key = $2 OR d.bound = $2)`,
			[]any{f.Device.ID, key[:]}, &id)
		if err != nil {
			return err
		}
		f.Bootstrap = found
	}
	return nil
}

func (s *Store) subjects(ctx context.Context, query string, arg any) (list []*vetting.Subject, err error) {
	var rows []*subjectRow
	err = s.db.query(ctx, query, []any{arg}, func(r row) error {
		u := new(subjectRow)
		rows = append(rows, u)
		return r.Scan(u.dest()...)
	})
	for _, u := range rows {
		if err != nil {
			break
		}
		var f *vetting.Subject
		f, err = s.subject(ctx, u)
		list = append(list, f)
	}
	return list, err
}

// subjectRow is a row of subjectQuery; zero where there is no device or
// certificate.
type subjectRow struct {
	id, order        int64
	serial, mac, uid string
	contested        int64

	state             string
	issued, activated int64
	owner             int64
	certificate       []byte
	standing          string
	notAfter          int64
	used, seen        int64
	more              int64 // open evidence, or an answered challenge
}

func (u *subjectRow) dest() []any {
	return []any{&u.id, &u.order, &u.serial, &u.mac, &u.uid, &u.contested,
		&u.state, &u.issued, &u.activated, &u.owner, &u.certificate, &u.standing, &u.notAfter, &u.used, &u.seen, &u.more}
}

func (s *Store) subject(ctx context.Context, u *subjectRow) (*vetting.Subject, error) {
	out := &vetting.Subject{Seen: fromMicros(u.seen)}
	d := &out.Device
	d.ID, d.State, d.Contested = u.id, cmp.Or(vetting.DeviceState(u.state), vetting.DeviceManufactured), u.contested != 0
	d.Identity = vetting.Identity{Serial: u.serial, MAC: u.mac, UID: u.uid}
	d.Issued, d.Activated = fromMicros(u.issued), fromMicros(u.activated)
	if u.certificate != nil {
		d.Certificate = hex.EncodeToString(u.certificate)
		out.Current = &vetting.Certificate{DeviceID: d.ID, Serial: d.Certificate, State: vetting.CertificateState(u.standing),
			NotAfter: fromMicros(u.notAfter), Used: fromMicros(u.used)}
	}
	order, err := s.orderNames(ctx, u.order)
	if err != nil {
		return nil, err
	}
	d.Order, d.Product, d.Site = order.name, order.product, order.site
	owner, err := s.ownerAt(ctx, u.owner)
	if err != nil {
		return nil, err
	}
	if owner != nil {
		d.Owner = owner.Name
	}
	if u.more == 0 {
		return out, nil
	}
	answered, err := s.challenges(ctx, `ch.device_id = $1 AND ch.result <> '' ORDER BY ch.id DESC LIMIT 1`, d.ID)
	if err != nil {
		return nil, err
	}
	if len(answered) > 0 {
		out.Proof = answered[0]
	}
	out.Evidence, err = s.evidence(ctx, `e.device_id = $1 AND e.cleared = '' ORDER BY e.id DESC LIMIT 1000`, d.ID)
	return out, err
}
