package api_test

import (
	"context"
	"encoding/hex"
	"slices"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/licensing"
	"github.com/touchmark/touchmark/vetting"
)

func (m *memory) Licences(_ context.Context, f vetting.LicenceFilter, p vetting.Page) ([]*vetting.Licence, error) {
	return pick(m, m.licences, p, true, func(l *vetting.Licence) int64 { return l.ID }, func(l *vetting.Licence) bool {
		return fits(f.Site, l.Site) && fits(f.Order, l.Order) && fits(f.State, l.State)
	})
}

func (m *memory) LicencesOf(_ context.Context, uids [][]byte) ([]*vetting.Licence, error) {
	return pick(m, m.licences, vetting.Page{}, true, func(l *vetting.Licence) int64 { return l.ID }, func(l *vetting.Licence) bool {
		return slices.ContainsFunc(uids, func(uid []byte) bool { return hex.EncodeToString(uid) == l.UID })
	})
}

func (m *memory) LicenceKeys(context.Context, string) ([]*vetting.LicenceKey, error) {
	return []*vetting.LicenceKey{{Product: "lamp", Number: 1, Signing: true}}, nil
}

func (m *memory) LicenceKeyMade(context.Context, access.Act, string) (*vetting.LicenceKey, error) {
	return nil, nil
}

func (m *memory) CreateLicenceKey(_ context.Context, a access.Act, k *vetting.LicenceKey) (*vetting.LicenceKey, error) {
	return act(m, a, func() (*vetting.LicenceKey, error) { return k, nil })
}

func (m *memory) UseLicenceKey(_ context.Context, a access.Act, product string, number uint8) (*vetting.LicenceKey, error) {
	return act(m, a, func() (*vetting.LicenceKey, error) {
		return &vetting.LicenceKey{Product: product, Number: number, Signing: true}, nil
	})
}

// desk gives every chip the same licence, but refuses those that it is told.
type desk struct {
	store   *memory
	refused map[string]*vetting.LicenceRefusal
	err     error
}

func (d *desk) License(_ context.Context, a access.Act, o *vetting.Order, uids []string) (*licensing.Answer, error) {
	if d.err != nil {
		return nil, d.err
	}
	out := &licensing.Answer{Lot: 1, Left: 4}
	for _, uid := range uids {
		g := licensing.Given{UID: uid, Licence: make([]byte, 80), Refused: d.refused[uid]}
		if g.Refused != nil {
			g.Licence = nil
		}
		out.Given = append(out.Given, g)
	}
	_, err := act(d.store, a, func() (*vetting.Order, error) { return o, nil })
	return out, err
}

func (d *desk) Confirm(_ context.Context, a access.Act, site string, uids []string) ([]*vetting.LicenceRefusal, error) {
	out := make([]*vetting.LicenceRefusal, len(uids))
	for i, uid := range uids {
		out[i] = d.refused[uid]
	}
	_, err := act(d.store, a, func() (*vetting.Site, error) { return &vetting.Site{Name: site}, nil })
	return out, err
}

func (d *desk) MakeLicenceKey(_ context.Context, name, algorithm string) ([]byte, error) {
	return []byte(name + " " + algorithm), d.err
}
