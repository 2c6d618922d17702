package store

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// ReadmitDevice lets a device in service start anew, on the unit that it took:
// every certificate it has is revoked, and its first proof counts once more. A
// device in another state is a Conflict.
func (s *Store) ReadmitDevice(ctx context.Context, a access.Act, id int64, note string) (*vetting.Device, error) {
	have, err := s.Device(ctx, id)
	if err != nil {
		return nil, err
	}
	_, err = s.act(ctx, a, func(w *writing) (int64, error) { return id, w.readmit(a, have, note) })
	if err != nil {
		return nil, err
	}
	return s.Device(ctx, id)
}

func (w *writing) readmit(a access.Act, have *vetting.Device, note string) error {
	h, err := w.holding(have.ID)
	if err != nil {
		return err
	}
	if now := h.stands(); !now.MayBeReadmitted() {
		return vetting.Errorf(vetting.Conflict, "device %d (%s) is %s: only a device that was issued a certificate or is active can be readmitted", have.ID, have.Identity, now.State)
	}
	h.device.State, h.device.Activated, h.device.HandoverID = string(vetting.DeviceManufactured), 0, 0
	w.save(h.device)
	objects := []audit.Object{h.device.object()}
	for _, c := range h.certificates {
		objects = append(objects, w.end(c, vetting.CertificateRevoked, reasonSuperseded))
	}
	w.leaf("device.readmit", operatorOf(a), note, objects...)
	return nil
}
