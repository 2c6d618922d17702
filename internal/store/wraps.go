package store

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// wrapRow is a row of wraps.
type wrapRow struct {
	ID, ArtefactID, DeviceID, RecipientID int64
	By                                    string
	At                                    int64
}

const wrapColumns = `wr.id, wr.artefact_id, wr.device_id, wr.recipient_id, wr.made_by, wr.at`

func (p *wrapRow) dest() []any {
	return []any{&p.ID, &p.ArtefactID, &p.DeviceID, &p.RecipientID, &p.By, &p.At}
}

func (p *wrapRow) scan(from row) error { return from.Scan(p.dest()...) }

func (p *wrapRow) object() audit.Object {
	return audit.Object{Kind: audit.KindWrap, ID: p.ID, Digest: audit.DigestOf(p)}
}

func (p *wrapRow) wrapped() (*release.Wrapped, error) {
	return &release.Wrapped{ID: p.ID, Artefact: p.ArtefactID, Device: p.DeviceID, Recipient: p.RecipientID, By: p.By, At: fromMicros(p.At)}, nil
}

// Wraps lists for whom an artefact was wrapped, newest first.
func (s *Store) Wraps(ctx context.Context, artefact int64, p vetting.Page) ([]*release.Wrapped, error) {
	if _, err := s.Artefact(ctx, artefact); err != nil {
		return nil, err
	}
	return readAll(ctx, s.db, `SELECT `+wrapColumns+` FROM wraps wr WHERE wr.artefact_id = $1 AND wr.id < $2 ORDER BY wr.id DESC LIMIT $3`,
		[]any{artefact, newestFirst(p), limit(p)}, (*wrapRow).dest, (*wrapRow).wrapped)
}

// WrapRules are what a format says of its targets.
type WrapRules struct {
	ByCertificate bool // the key of a device's certificate will do
	Fits          func([]release.TargetKey) error
}

// Targets decides whom an artefact may be wrapped for, and notes that it was.
// Devices must be active, of the release's product, and with a certificate that
// is not revoked; one that is not is a Conflict, and then nobody gets anything.
// Asked again under the same idempotency key it decides anew and notes nothing.
func (s *Store) Targets(ctx context.Context, a access.Act, id int64, wanted release.Wanted, rules WrapRules) (part *release.Artefact, list []release.Target, err error) {
	err = s.update(ctx, func(w *writing) error {
		_, again, err := w.earlierAct(a)
		if err != nil {
			return err
		}
		row, r, of, err := w.onArtefact(id)
		if err != nil {
			return err
		}
		if err := r.MayWrap(of); err != nil {
			return conflict(err)
		}
		part = of
		if list, err = w.targets(row.ProductID, r, wanted, rules); err != nil || again {
			return err
		}
		w.noteWraps(a, r, of, list)
		if a.Key != "" {
			w.exec(`INSERT INTO idempotency (operator, key, request, object_id, at) VALUES ($1, $2, $3, $4, $5)`, a.Operator, a.Key, a.Request[:], id, micros(w.now))
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return part, list, nil
}

func (w *writing) targets(product int64, r *release.Release, wanted release.Wanted, rules WrapRules) (list []release.Target, err error) {
	if wanted.Family {
		t, err := w.family(product, r.Product, wanted.Names)
		list = append(list, t)
		if err != nil {
			return nil, err
		}
	} else if list, err = w.deviceTargets(product, r.Product, wanted.Serials, rules); err != nil {
		return nil, err
	}
	for _, t := range list {
		if err := rules.Fits(t.Keys); err != nil {
			return nil, vetting.Errorf(vetting.Conflict, "%s: %v", t.Called(r.Product), err)
		}
	}
	return list, nil
}

// noteWraps puts into the log for whom an artefact is wrapped.
func (w *writing) noteWraps(a access.Act, r *release.Release, part *release.Artefact, list []release.Target) {
	var objects []audit.Object
	for _, t := range list {
		for _, k := range t.Keys {
			p := &wrapRow{ID: w.ids(1), ArtefactID: part.ID, DeviceID: t.Device, RecipientID: k.Recipient, By: a.Operator, At: micros(w.now)}
			w.insert(`wraps (id, artefact_id, device_id, recipient_id, made_by, at)`, p.ID, p.ArtefactID, p.DeviceID, p.RecipientID, p.By, p.At)
			objects = append(objects, p.object())
		}
	}
	whom := list[0].Called(r.Product)
	if len(list) > 1 {
		whom += fmt.Sprintf(" and %d more", len(list)-1)
	}
	w.leaves("artefact.wrap", operatorOf(a), fmt.Sprintf("%s of %s for %s", part.Name, r.Name(), whom), objects...)
}

// family is all devices that have a product's keys, or those of some names.
func (w *writing) family(product int64, name string, names []string) (t release.Target, err error) {
	known := map[string]*recipientRow{}
	var all []string
	w.fetch(`SELECT `+recipientColumns+` FROM recipients rp WHERE rp.product_id = $1 AND rp.device_id = 0 ORDER BY rp.id`, []any{product}, func(from row) error {
		row := new(recipientRow)
		err := row.scan(from)
		if known[row.Name] = row; row.Revoked == 0 {
			all = append(all, row.Name)
		}
		return err
	})
	if err := w.flush(); err != nil {
		return t, err
	}
	if len(names) == 0 {
		names = all
	}
	if len(names) == 0 {
		return t, vetting.Errorf(vetting.Conflict, "no key of the family %s is registered, or all are revoked: register one with `touchmark firmware recipient add`", name)
	}
	for _, n := range names {
		row := known[n]
		if row == nil {
			return t, notFound("family key", n)
		}
		if row.Revoked != 0 {
			return t, vetting.Errorf(vetting.Conflict, "the family key %s was revoked", n)
		}
		key, err := row.key()
		if err != nil {
			return t, err
		}
		t.Keys = append(t.Keys, key)
	}
	return t, nil
}

// deviceTargets are devices, each with its newest key.
func (w *writing) deviceTargets(product int64, name string, serials []string, rules WrapRules) ([]release.Target, error) {
	ids, err := w.devicesNamed(product, name, serials)
	if err != nil {
		return nil, err
	}
	holdings, err := w.holdings(ids)
	if err != nil {
		return nil, err
	}
	newest := map[int64]*recipientRow{}
	w.fetchOneOf(`SELECT `+recipientColumns+` FROM recipients rp WHERE rp.revoked = 0 AND rp.device_id IN`, nil, ids, func(from row) error {
		row := new(recipientRow)
		err := row.scan(from)
		if have := newest[row.DeviceID]; have == nil || have.ID < row.ID {
			newest[row.DeviceID] = row
		}
		return err
	})
	if err := w.flush(); err != nil {
		return nil, err
	}
	list, refused := make([]release.Target, len(ids)), []error(nil)
	for i, h := range holdings {
		list[i] = release.Target{Device: ids[i].(int64), Serial: serials[i]}
		key, err := h.targetKey(newest[list[i].Device], rules)
		list[i].Keys = []release.TargetKey{key}
		if err != nil && len(refused) < maxRefusals {
			refused = append(refused, fmt.Errorf("%s: %w", list[i].Called(name), err))
		}
	}
	if len(refused) > 0 {
		return nil, vetting.Errorf(vetting.Conflict, "%v", errors.Join(refused...))
	}
	return list, nil
}

// maxRefusals bounds the devices that one error names.
const maxRefusals = 10

// targetKey is the key that a file is wrapped with for a device, if one may be.
func (h *held) targetKey(own *recipientRow, rules WrapRules) (key release.TargetKey, err error) {
	switch {
	case h.device.State != string(vetting.DeviceActive):
		return key, fmt.Errorf("it is %s: files are wrapped for active devices alone", h.device.State)
	case h.current == nil:
		return key, errors.New("it has no certificate")
	case h.current.State != string(vetting.CertificateValid):
		return key, fmt.Errorf("its certificate %x is %s", h.current.Serial, h.current.State)
	case own != nil:
		return own.key()
	case !rules.ByCertificate:
		return key, errors.New("no key to encrypt to is registered for it: register one with `touchmark firmware recipient add`")
	}
	cert, err := x509.ParseCertificate(h.current.DER)
	if err != nil {
		return key, fmt.Errorf("its certificate %x: %w", h.current.Serial, err)
	}
	return release.TargetKey{PublicKey: slices.Clone(cert.RawSubjectPublicKeyInfo), ID: cert.SubjectKeyId}, nil
}
