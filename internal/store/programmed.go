package store

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// ConfirmLicences keeps that a site's chips have their licences, and answers
// for each in order: nil, or why it cannot be. What was confirmed before stays
// as it is.
func (s *Store) ConfirmLicences(ctx context.Context, a access.Act, site string, uids [][]byte) ([]*vetting.LicenceRefusal, error) {
	c := &confirmation{act: a, site: site, uids: uids}
	err := s.submit(&job{ctx: ctx, load: c.load, apply: c.apply, alone: len(uids) > fewChips})
	return c.out, err
}

// confirmation is one on its way through the writer. A batch that is tried
// again loads and applies it anew.
type confirmation struct {
	act  access.Act
	site string
	uids [][]byte

	found map[string]*confirmable
	out   []*vetting.LicenceRefusal
}

type confirmable struct{ id, signed, programmed int64 }

func (c *confirmation) load(w *writing) {
	c.found = map[string]*confirmable{}
	args := make([]any, len(c.uids))
	for i, uid := range c.uids {
		args[i] = uid
	}
	w.fetchOneOf(`SELECT l.uid, l.id, g.signed, COALESCE(pr.at, 0) FROM licences l JOIN licence_grants g ON g.id = l.grant_id
		JOIN sites s ON s.id = g.site_id LEFT JOIN programmed pr ON pr.licence_id = l.id WHERE s.name = $1 AND l.uid IN`, []any{c.site}, args, func(r row) error {
		var uid []byte
		found := new(confirmable)
		err := r.Scan(&uid, &found.id, &found.signed, &found.programmed)
		c.found[string(uid)] = found
		return err
	})
}

func (c *confirmation) apply(w *writing) error {
	c.out = make([]*vetting.LicenceRefusal, len(c.uids))
	var objects []audit.Object
	for i, uid := range c.uids {
		l := c.found[string(uid)]
		switch {
		case l == nil:
			c.out[i] = vetting.RefuseLicence(vetting.RefusedUnknown, "the chip %x has no licence of this site", uid)
		case l.signed == 0:
			c.out[i] = vetting.RefuseLicence(vetting.RefusedUnknown, "the licence of the chip %x was never signed: ask for it again", uid)
		case l.programmed == 0 && !w.programmed[l.id]:
			p := &programmedRow{LicenceID: l.id, At: micros(w.now), By: c.act.Operator}
			w.insert(`programmed (licence_id, at, made_by)`, p.LicenceID, p.At, p.By)
			w.programmed[l.id] = true
			objects = append(objects, p.object())
		}
	}
	if len(objects) > 0 {
		w.leaves("licence.programmed", operatorOf(c.act), "", objects...)
	}
	return nil
}
