package store

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// SetDeviceState moves a device as an operator asks; a move that its state
// does not allow is a Conflict. Its certificates follow: on hold while
// suspended or quarantined, revoked when retired or scrapped, and what they
// were on the way back. A record that is scrapped before power-on may use up a
// unit of its order.
func (s *Store) SetDeviceState(ctx context.Context, a access.Act, id int64, to vetting.DeviceState, note string) (*vetting.Device, error) {
	return s.moveDevice(ctx, a, id, move{to: to, note: note})
}

// ScrapRecord scraps what was never powered on; anything else is a Conflict.
func (s *Store) ScrapRecord(ctx context.Context, a access.Act, id int64, note string) (*vetting.Device, error) {
	return s.moveDevice(ctx, a, id, move{to: vetting.DeviceScrapped, note: note, unused: true})
}

// ReworkDevice scraps a device that took a unit of its order and gives the
// unit back, for the board that replaces it. A device that took none, or is
// scrapped already, is a Conflict.
func (s *Store) ReworkDevice(ctx context.Context, a access.Act, id int64, note string) (*vetting.Device, error) {
	return s.moveDevice(ctx, a, id, move{to: vetting.DeviceScrapped, note: note, rework: true})
}

// move is what an operator wants of a device.
type move struct {
	to     vetting.DeviceState
	note   string
	rework bool // give its unit back
	unused bool // only if it was never powered on
}

func (s *Store) moveDevice(ctx context.Context, a access.Act, id int64, m move) (*vetting.Device, error) {
	have, err := s.Device(ctx, id)
	if err != nil {
		return nil, err
	}
	_, err = s.act(ctx, a, func(w *writing) (int64, error) { return id, w.moveDevice(a, have, m) })
	if err != nil {
		return nil, err
	}
	return s.Device(ctx, id)
}

func (w *writing) moveDevice(a access.Act, have *vetting.Device, m move) error {
	h, err := w.holding(have.ID)
	if err != nil {
		return err
	}
	if from := h.stands(); !from.MayBecome(m.to) {
		return vetting.Errorf(vetting.Conflict, "device %d (%s) is %s and cannot become %q%s", have.ID, have.Identity, from.State, m.to, h.ended())
	}
	if m.unused && !h.unused() {
		return vetting.Errorf(vetting.Conflict, "device %d (%s) is %s: a site scraps only what was never powered on; ask an administrator", have.ID, have.Identity, h.device.State)
	}
	if m.to == vetting.DeviceScrapped {
		if err := w.ordersOf([]*held{h}); err != nil {
			return err
		}
	}
	x := newChanges(w)
	act := "device." + string(m.to)
	if m.rework {
		if h.device.Issued == 0 {
			return vetting.Errorf(vetting.Conflict, "device %d (%s) took no unit of order %s, so there is none to give back: scrap it", have.ID, have.Identity, have.Order)
		}
		act = "device.rework"
		h.order.Issued--
		x.order(h.order)
	}
	if err := x.move(h, m.to); err != nil {
		return err
	}
	w.leaves(act, operatorOf(a), m.note, x.write()...)
	return nil
}
