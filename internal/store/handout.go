package store

import (
	"bytes"
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// HandOut makes a device that of an owner outside of this server, and keeps
// the voucher that it goes with, in one transaction: its certificates are
// revoked, and it gets none here any more. Asked again with the same terms it
// changes nothing: the voucher is the earlier one. Other terms, a device out
// of service or in an open offer are a Conflict.
func (s *Store) HandOut(ctx context.Context, a access.Act, h vetting.Handout) (*vetting.Transfer, error) {
	if _, err := s.Device(ctx, h.DeviceID); err != nil {
		return nil, err
	}
	id, err := s.act(ctx, a, func(w *writing) (int64, error) { return w.handOut(a, h) })
	if err != nil {
		return nil, err
	}
	return s.Transfer(ctx, id)
}

func (w *writing) handOut(a access.Act, h vetting.Handout) (int64, error) {
	list, err := w.holdings([]any{h.DeviceID})
	if err != nil {
		return 0, err
	}
	d := list[0].device
	if d.OwnerID == elsewhere {
		return d.TransferID, w.handedOut(d, h)
	}
	if err := w.noOffer(list); err != nil {
		return 0, err
	}
	if err := transferable(list[0], d.OwnerID, ""); err != nil {
		return 0, err
	}
	t := &transferRow{ID: w.ids(1), State: string(vetting.TransferHandedOut), FromID: d.OwnerID, ToID: elsewhere, Devices: packIDs([]int64{d.ID})}
	t.Body = mustJSON(transferBody{Devices: 1, Terms: h.Terms[:], Voucher: h.Voucher,
		Steps: []vetting.TransferStep{{State: vetting.TransferHandedOut, By: a.Operator, Owner: a.Owner, At: w.now, Note: h.Note}}})
	d.TransferID = t.ID
	x := newChanges(w)
	x.handOver(list[0], elsewhere)
	w.newTransfer(t)
	w.transferLeaves("transfer.hand-out", a, t, h.Note, x.write())
	return t.ID, nil
}

// handedOut refuses a device that was handed out on other terms.
func (w *writing) handedOut(d *deviceRow, h vetting.Handout) error {
	t, err := w.transferRow(d.TransferID)
	if err != nil {
		return err
	}
	b, err := t.parse()
	if err == nil && !bytes.Equal(b.Terms, h.Terms[:]) {
		err = vetting.Errorf(vetting.Conflict, "device %d was handed out with transfer %d already, on other terms: reverse that first", d.ID, t.ID)
	}
	return err
}

// Voucher returns the voucher of a transfer, or a NotFound error.
func (s *Store) Voucher(ctx context.Context, transfer int64) ([]byte, error) {
	rows, err := s.transferRows(ctx, `t.id = $1`, transfer)
	if err != nil || len(rows) == 0 {
		return nil, orNotFound(err, "transfer", transfer)
	}
	b, err := rows[0].parse()
	if err == nil && b.Voucher == nil {
		err = notFound("voucher of transfer", transfer)
	}
	return b.Voucher, err
}
