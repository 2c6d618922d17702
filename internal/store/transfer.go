package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// OfferTransfer offers devices of one owner to another. A device that is not
// From's is NotFound, like one that does not exist; one that is out of
// service, or stands in another offer, is a Conflict.
func (s *Store) OfferTransfer(ctx context.Context, a access.Act, o vetting.Offer) (*vetting.Transfer, error) {
	if err := o.Check(); err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "%v", err)
	}
	t := new(transferRow)
	var err error
	if t.FromID, err = s.partyID(ctx, o.From); err != nil {
		return nil, err
	}
	if t.ToID, err = s.partyID(ctx, o.To); err != nil {
		return nil, err
	}
	ids, err := s.offered(ctx, o)
	if err != nil {
		return nil, err
	}
	id, err := s.act(ctx, a, func(w *writing) (int64, error) { return w.offer(a, o, t, ids) })
	if err != nil {
		return nil, err
	}
	return s.Transfer(ctx, id)
}

// offered finds the devices that an offer names, which must be the offerer's.
func (s *Store) offered(ctx context.Context, o vetting.Offer) ([]int64, error) {
	byName := map[string]int64{}
	var several string
	names := make([]any, len(o.Serials))
	for i, name := range o.Serials {
		names[i] = name
	}
	owner, err := s.partyID(ctx, o.From)
	if err != nil {
		return nil, err
	}
	portions(len(names), func(from, to int) {
		if err != nil {
			return
		}
		query := oneOf(`SELECT rec.serial, rec.id, p.name FROM records rec JOIN products p ON p.id = rec.product_id LEFT JOIN devices d ON d.id = rec.id
			WHERE COALESCE(d.owner_id, 0) = $1 AND rec.serial IN`, 1, to-from)
		err = s.db.query(ctx, query, append([]any{owner}, names[from:to]...), func(r row) error {
			var serial, product string
			var id int64
			if err := r.Scan(&serial, &id, &product); err != nil || o.Product != "" && product != o.Product {
				return err
			}
			if byName[serial] != 0 {
				several = serial
			}
			byName[serial] = id
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	if several != "" {
		return nil, vetting.Errorf(vetting.Invalid, "several devices have the serial number %q: name the product, too", several)
	}
	ids := make([]int64, len(o.Serials))
	for i, serial := range o.Serials {
		if ids[i] = byName[serial]; ids[i] == 0 {
			return nil, vetting.Errorf(vetting.NotFound, "%s has no device %q", o.From, serial)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

func (w *writing) offer(a access.Act, o vetting.Offer, t *transferRow, ids []int64) (int64, error) {
	list, err := w.holdings(anys(ids))
	if err != nil {
		return 0, err
	}
	if err := w.noOffer(list); err != nil {
		return 0, err
	}
	t.ID, t.Expires, t.Devices = w.ids(1), micros(w.now.Add(o.Time)), packIDs(ids)
	t.State = string(vetting.TransferOffered)
	t.Body = mustJSON(transferBody{Devices: len(ids), Steps: []vetting.TransferStep{{State: vetting.TransferOffered, By: a.Operator, Owner: a.Owner, At: w.now, Note: o.Note}}})
	x := newChanges(w)
	for _, h := range list {
		if err := transferable(h, t.FromID, o.From); err != nil {
			return 0, err
		}
		h.device.TransferID = t.ID
		x.rewrite(h.device)
	}
	w.newTransfer(t)
	w.transferLeaves("transfer.offer", a, t, o.Note, x.write())
	return t.ID, nil
}

func (w *writing) newTransfer(t *transferRow) {
	w.exec(`INSERT INTO transfers (id, state, from_id, to_id, expires, body, devices) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		t.ID, t.State, t.FromID, t.ToID, t.Expires, t.Body, t.Devices)
}

// noOffer refuses devices that stand in an offer already.
func (w *writing) noOffer(list []*held) error {
	open := map[int64]bool{}
	var ids []any
	for _, h := range list {
		if id := h.device.TransferID; id != 0 && !open[id] {
			open[id], ids = true, append(ids, id)
		}
	}
	clear(open)
	w.fetchOneOf(`SELECT t.id FROM transfers t WHERE t.state = 'offered' AND t.expires > $1 AND t.id IN`, []any{micros(w.now)}, ids, func(r row) error {
		var id int64
		err := r.Scan(&id)
		open[id] = true
		return err
	})
	if err := w.flush(); err != nil {
		return err
	}
	for _, h := range list {
		if open[h.device.TransferID] {
			return vetting.Errorf(vetting.Conflict, "device %d stands in transfer %d already: that has to be withdrawn first", h.device.ID, h.device.TransferID)
		}
	}
	return nil
}

// transferable refuses a device that its owner cannot transfer now.
func transferable(h *held, owner int64, name string) error {
	d := h.device
	switch state := vetting.DeviceState(d.State); {
	case d.OwnerID != owner:
		return vetting.Errorf(vetting.NotFound, "%s has no device %d", name, d.ID)
	case !state.InService():
		return vetting.Errorf(vetting.Conflict, "device %d is %s: only a device in service changes hands", d.ID, state)
	}
	return nil
}

// AcceptTransfer makes the devices of an offer the next owner's, all of them
// in one transaction: their certificates are revoked, and they start anew. An
// offer that is not open, or a device that went out of service meanwhile, is
// a Conflict.
func (s *Store) AcceptTransfer(ctx context.Context, a access.Act, id int64, note string) (*vetting.Transfer, error) {
	return s.takeStep(ctx, a, id, func(w *writing, t *transferRow) error {
		if err := w.offerOpen(t); err != nil {
			return err
		}
		return w.handOver(a, t, vetting.TransferAccepted, note)
	})
}

// WithdrawTransfer takes an offer back. One that is not open is a Conflict.
func (s *Store) WithdrawTransfer(ctx context.Context, a access.Act, id int64, note string) (*vetting.Transfer, error) {
	return s.endOffer(ctx, a, id, vetting.TransferWithdrawn, "transfer.withdraw", note)
}

// DeclineTransfer turns an offer down. One that is not open is a Conflict.
func (s *Store) DeclineTransfer(ctx context.Context, a access.Act, id int64, note string) (*vetting.Transfer, error) {
	return s.endOffer(ctx, a, id, vetting.TransferDeclined, "transfer.decline", note)
}

// endOffer ends an open offer of which nothing becomes.
func (s *Store) endOffer(ctx context.Context, a access.Act, id int64, to vetting.TransferState, act, note string) (*vetting.Transfer, error) {
	return s.takeStep(ctx, a, id, func(w *writing, t *transferRow) error {
		if err := w.offerOpen(t); err != nil {
			return err
		}
		if err := w.step(t, a, to, note); err != nil {
			return err
		}
		w.transferLeaves(act, a, t, note, nil)
		return nil
	})
}

// ReverseTransfer gives the devices of an accepted transfer back to the
// earlier owner, as AcceptTransfer made them the next one's. A transfer that
// was not accepted, or a device that took part in another since, is a
// Conflict.
func (s *Store) ReverseTransfer(ctx context.Context, a access.Act, id int64, note string) (*vetting.Transfer, error) {
	return s.takeStep(ctx, a, id, func(w *writing, t *transferRow) error {
		if now := t.stands(w.now); now != vetting.TransferAccepted && now != vetting.TransferHandedOut {
			return vetting.Errorf(vetting.Conflict, "transfer %d is %s: only one that was accepted or handed out can be reversed", t.ID, now)
		}
		return w.handOver(a, t, vetting.TransferReversed, note)
	})
}

func (s *Store) takeStep(ctx context.Context, a access.Act, id int64, fn func(*writing, *transferRow) error) (*vetting.Transfer, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		t, err := w.transferRow(id)
		if err != nil {
			return 0, err
		}
		return id, fn(w, t)
	})
	if err != nil {
		return nil, err
	}
	return s.Transfer(ctx, id)
}

func (w *writing) offerOpen(t *transferRow) error {
	if now := t.stands(w.now); now != vetting.TransferOffered {
		return vetting.Errorf(vetting.Conflict, "transfer %d is %s: only an open offer can be accepted, declined or withdrawn", t.ID, now)
	}
	return nil
}

// handOver gives the transfer's devices to the one who is to have them.
func (w *writing) handOver(a access.Act, t *transferRow, to vetting.TransferState, note string) error {
	from, next, act := t.FromID, t.ToID, "transfer.accept"
	if to == vetting.TransferReversed {
		from, next, act = t.ToID, t.FromID, "transfer.reverse"
	}
	ids, err := t.list()
	if err != nil {
		return err
	}
	list, err := w.holdings(ids)
	if err != nil {
		return err
	}
	x := newChanges(w)
	for _, h := range list {
		if h.device.TransferID != t.ID || h.device.OwnerID != from {
			return vetting.Errorf(vetting.Conflict, "device %d took part in transfer %d since: that has to be reversed first", h.device.ID, h.device.TransferID)
		}
		if err := transferable(h, from, "the owner"); err != nil && to == vetting.TransferAccepted {
			return fmt.Errorf("%w; withdraw the offer, and make another without it", err)
		}
		x.handOver(h, next)
	}
	if err := w.step(t, a, to, note); err != nil {
		return err
	}
	w.transferLeaves(act, a, t, note, x.write())
	return nil
}

// handOver makes a device the owner's: its certificates are revoked, and in
// service it starts anew. The certificate that it used until now is
// remembered, for it comes to the owner with that one; if it has not come to
// the present owner yet, with the one from before.
func (x *changes) handOver(h *held, owner int64) {
	d := h.device
	now := vetting.Device{State: vetting.DeviceState(d.State), Issued: fromMicros(d.Issued)}
	if !now.Readmitted() {
		d.HandoverID = 0
	}
	for _, c := range h.certificates {
		if c.ID == d.CertificateID {
			d.HandoverID = c.ID
		}
		x.end(c, vetting.CertificateRevoked, reasonAffiliation)
	}
	if now.MayBeReadmitted() {
		d.State, d.Activated = string(vetting.DeviceManufactured), 0
	}
	d.OwnerID, d.Owned = owner, micros(x.w.now)
	x.rewrite(d)
}

// rewrite makes all of what was changed the device's next revision.
func (x *changes) rewrite(d *deviceRow) {
	x.w.save(d)
	x.objects = append(x.objects, d.object())
}

// reasonAffiliation is the CRLReason affiliationChanged (RFC 5280 §5.3.1).
const reasonAffiliation = 3
