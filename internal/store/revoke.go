package store

import (
	"context"
	"fmt"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// RevokeDevice revokes all certificates of a device that have not run out,
// and the current one whatever its age. The device does not move, but has no
// way to another certificate until somebody readmits it. One without a
// certificate, or whose certificates are revoked, is a Conflict; a reason that
// is not for devices is Invalid. One that was transferred and has not come to
// its owner yet cannot come with the certificate from before any more.
func (s *Store) RevokeDevice(ctx context.Context, a access.Act, id int64, reason vetting.RevocationReason, note string) (*vetting.Device, error) {
	code, err := reason.Code()
	if err != nil {
		return nil, err
	}
	have, err := s.Device(ctx, id)
	if err != nil {
		return nil, err
	}
	_, err = s.act(ctx, a, func(w *writing) (int64, error) {
		h, err := w.holding(id)
		if err != nil {
			return 0, err
		}
		switch {
		case h.current == nil:
			return 0, vetting.Errorf(vetting.Conflict, "device %d (%s) is %s and has no certificate to revoke: quarantine it to keep it from getting one", id, have.Identity, h.device.State)
		case len(h.certificates) == 0 && !comesWith(h.device, h.current):
			return 0, vetting.Errorf(vetting.Conflict, "device %d (%s) cannot be revoked again%s", id, have.Identity, h.ended())
		}
		x := newChanges(w)
		if comesWith(h.device, h.current) {
			x.disown(h.device, h.current, int64(code))
		} else {
			x.revoke(h, int64(code))
		}
		w.leaves("device.revoke", operatorOf(a), because(reason, note), x.write()...)
		return id, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Device(ctx, id)
}

// RevokeCertificate revokes one certificate, named by its serial number in
// hex. If it is its device's current one, the device has no way to another
// until somebody readmits it. One that is revoked is a Conflict, but for the
// one with which a transferred device may come to its owner, once.
func (s *Store) RevokeCertificate(ctx context.Context, a access.Act, serial string, reason vetting.RevocationReason, note string) (*vetting.Certificate, error) {
	code, err := reason.Code()
	if err != nil {
		return nil, err
	}
	have, err := s.Certificate(ctx, serial)
	if err != nil {
		return nil, err
	}
	_, err = s.act(ctx, a, func(w *writing) (int64, error) {
		return have.ID, w.revokeCertificate(operatorOf(a), have, code, because(reason, note))
	})
	if err != nil {
		return nil, err
	}
	return s.Certificate(ctx, serial)
}

// RevokeByHolder revokes one certificate as RevokeCertificate does, by the
// word of who holds it.
func (s *Store) RevokeByHolder(ctx context.Context, by, serial string, reason vetting.RevocationReason) error {
	code, err := reason.Code()
	if err != nil {
		return err
	}
	have, err := s.Certificate(ctx, serial)
	if err != nil {
		return err
	}
	return s.update(ctx, func(w *writing) error {
		return w.revokeCertificate(by, have, code, because(reason, "its holder asked for it"))
	})
}

func (w *writing) revokeCertificate(by string, have *vetting.Certificate, code int, why string) error {
	w.loadDevice(have.DeviceID)
	w.loadCertificate(have.ID)
	if err := w.read(); err != nil {
		return err
	}
	c, d := w.certificates[have.ID], w.devices[have.DeviceID]
	handover := comesWith(d, c)
	if c.State == string(vetting.CertificateRevoked) && !handover {
		return vetting.Errorf(vetting.Conflict, "device %d cannot be revoked again: %s", have.DeviceID, c.revocation())
	}
	x := newChanges(w)
	if handover {
		x.disown(d, c, int64(code))
	} else {
		x.save(d)
		x.end(c, vetting.CertificateRevoked, int64(code))
	}
	w.leaf("certificate.revoke", by, why, x.write()...)
	return nil
}

// comesWith reports whether a device that was transferred may come to its
// owner with a certificate, which was revoked by that.
func comesWith(d *deviceRow, c *certificateRow) bool {
	now := vetting.Device{State: vetting.DeviceState(d.State), Issued: fromMicros(d.Issued)}
	return c != nil && c.ID == d.HandoverID && now.Readmitted()
}

// disown takes from a device the way to its owner with the certificate from
// before. That stays revoked from when it was, for another reason.
func (x *changes) disown(d *deviceRow, c *certificateRow, reason int64) {
	d.HandoverID = 0
	x.rewrite(d)
	before := c.status()
	c.Reason = reason
	x.note(c, before)
}

// because is a revocation's note in the log.
func because(reason vetting.RevocationReason, note string) string {
	return fmt.Sprintf("%s: %s", reason, note)
}
