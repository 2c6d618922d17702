package store

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// held is a device with those of its certificates that follow what becomes
// of it: the current one, those that have not run out, and those on hold.
type held struct {
	device       *deviceRow
	certificates []*certificateRow // not the revoked ones; by ID; what heldQuery reads
	current      *certificateRow   // also if it is revoked; nil if there is none
	order        *orderRow         // if ordersOf was asked
}

// stands is what the rules about states look at.
func (h *held) stands() vetting.Device {
	return vetting.Device{State: vetting.DeviceState(h.device.State), Before: vetting.DeviceState(h.device.Before)}
}

// unused reports whether the device was never powered on, as far as anybody
// here knows.
func (h *held) unused() bool {
	return h.device.State == string(vetting.DeviceManufactured) && h.device.Issued == 0
}

// ended tells when and why the device's certificate was revoked; "" if it was
// not.
func (h *held) ended() string {
	if h.current == nil || h.current.State != string(vetting.CertificateRevoked) {
		return ""
	}
	return "; " + h.current.revocation()
}

func (c *certificateRow) revocation() string {
	return fmt.Sprintf("its certificate %x was revoked at %s (%s), which cannot be taken back", c.Serial,
		fromMicros(c.Revoked).Format(time.RFC3339), vetting.ReasonName(int(c.Reason)))
}

// holding reads one device and its certificates.
func (w *writing) holding(id int64) (*held, error) {
	list, err := w.holdings([]any{id})
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// heldQuery reads what decides on a certificate's end and what the log says
// of it. There may be a hundred thousand of them in a job.
const heldQuery = `SELECT c.id, c.device_id, c.serial, c.der, c.state, c.not_after, c.issued, COALESCE(u.at, 0), c.revoked, c.reason, c.issuer, c.held, c.supersedes
  FROM certificates c LEFT JOIN first_uses u ON u.certificate_id = c.id WHERE c.device_id IN`

// holdings reads devices and their certificates, in the order of the list. A
// device without a row is manufactured.
func (w *writing) holdings(ids []any) ([]*held, error) {
	known := make(map[int64]*held, len(ids))
	list := make([]*held, len(ids))
	for i, id := range ids {
		list[i] = new(held)
		known[id.(int64)] = list[i]
		w.loadDevice(id.(int64))
	}
	w.fetchOneOf(heldQuery, nil, ids, func(r row) error {
		c := new(certificateRow)
		err := r.Scan(&c.ID, &c.DeviceID, &c.Serial, &c.DER, &c.State, &c.NotAfter, &c.Issued, &c.Used, &c.Revoked, &c.Reason, &c.Issuer, &c.Held, &c.Supersedes)
		h := known[c.DeviceID]
		h.certificates = append(h.certificates, c)
		return err
	})
	if err := w.read(); err != nil {
		return nil, err
	}
	for id, h := range known {
		h.device = w.devices[id]
		h.succeed()
		h.sort(micros(w.now))
	}
	return list, nil
}

// ordersOf reads the orders that the devices belong to.
func (w *writing) ordersOf(list []*held) error {
	by := map[int64]int64{}
	ids := make([]any, len(list))
	for i, h := range list {
		ids[i] = h.device.ID
	}
	w.fetchOneOf(`SELECT rec.id, rec.order_id FROM records rec WHERE rec.id IN`, nil, ids, func(r row) error {
		var id, order int64
		err := r.Scan(&id, &order)
		by[id] = order
		return err
	})
	if err := w.flush(); err != nil {
		return err
	}
	for _, order := range by {
		w.loadOrder(order)
	}
	if err := w.read(); err != nil {
		return err
	}
	for _, h := range list {
		h.order = w.orders[by[h.device.ID]]
	}
	return nil
}

// succeed notes which certificates ended because others were used.
func (h *held) succeed() {
	for _, next := range h.certificates {
		for _, c := range h.certificates {
			if next.Used != 0 && c.ID == next.Supersedes && (c.ended == 0 || next.Used < c.ended) {
				c.ended = next.Used
			}
		}
	}
}

// sort keeps the certificates that follow the device.
func (h *held) sort(now int64) {
	h.certificates = slices.DeleteFunc(h.certificates, func(c *certificateRow) bool {
		current := c.ID == h.device.CertificateID
		if current {
			h.current = c
		}
		return c.State == string(vetting.CertificateRevoked) ||
			!current && c.NotAfter <= now && c.State != string(vetting.CertificateOnHold)
	})
	slices.SortFunc(h.certificates, func(a, b *certificateRow) int { return cmp.Compare(a.ID, b.ID) })
}

// changes collects what one act does to devices and their certificates, to
// write it with few statements however many there are.
type changes struct {
	w            *writing
	devices      map[place][]any  // IDs
	certificates map[ending][]any // IDs
	orders       map[int64]*orderRow
	objects      []audit.Object
}

// place is what becomes of a device.
type place struct{ state, before string }

// ending is what becomes of a certificate.
type ending struct {
	state           string
	revoked, reason int64
}

func newChanges(w *writing) *changes {
	return &changes{w: w, devices: map[place][]any{}, certificates: map[ending][]any{}, orders: map[int64]*orderRow{}}
}

// move takes a device to a state that it may have, and its certificates with
// it. On the way back only the current one is valid again: an earlier one that
// was not revoked before was superseded. Scrapping needs ordersOf.
func (x *changes) move(h *held, to vetting.DeviceState) error {
	if to == vetting.DeviceScrapped && h.unused() {
		if err := x.waste(h.order); err != nil {
			return err
		}
	}
	d := h.device
	d.Before = ""
	if to == vetting.DeviceQuarantined {
		d.Before = d.State
	}
	d.State = string(to)
	x.save(d)
	for _, c := range h.certificates {
		switch {
		case to == vetting.DeviceSuspended || to == vetting.DeviceQuarantined:
			x.end(c, vetting.CertificateOnHold, reasonHold)
		case to == vetting.DeviceRetired || to == vetting.DeviceScrapped:
			x.end(c, vetting.CertificateRevoked, reasonCessation)
		case c.State != string(vetting.CertificateOnHold) || !to.InService():
		case c.ID == d.CertificateID:
			x.end(c, vetting.CertificateValid, 0)
		default:
			x.end(c, vetting.CertificateSuperseded, 0)
		}
	}
	return nil
}

// waste uses up a unit of an order in which waste counts, if one is left.
func (x *changes) waste(o *orderRow) error {
	body, err := o.body()
	if err != nil {
		return err
	}
	if body.Waste != vetting.WasteReturns && o.Issued+o.Wasted < o.Quantity {
		o.Wasted++
		x.order(o)
	}
	return nil
}

// order notes that an order's counters changed.
func (x *changes) order(o *orderRow) {
	o.dirty = true
	x.orders[o.ID] = o
}

// revoke ends all certificates of a device that does not move.
func (x *changes) revoke(h *held, reason int64) {
	x.save(h.device) // a verdict that rests on the certificates is stale
	for _, c := range h.certificates {
		x.end(c, vetting.CertificateRevoked, reason)
	}
}

// save makes what was changed the device's next revision.
func (x *changes) save(d *deviceRow) {
	d.Revision++
	d.Updated = micros(x.w.now)
	if d.stored {
		at := place{d.State, d.Before}
		x.devices[at] = append(x.devices[at], d.ID)
	} else {
		x.w.write(d)
	}
	x.objects = append(x.objects, d.object())
}

func (x *changes) end(c *certificateRow, state vetting.CertificateState, reason int64) {
	before := c.status()
	c.State, c.Reason, c.Revoked = string(state), reason, 0
	if state == vetting.CertificateRevoked || state == vetting.CertificateOnHold {
		c.Revoked = micros(x.w.now)
	}
	x.note(c, before)
}

// note has what was changed of a certificate written.
func (x *changes) note(c *certificateRow, before status) {
	x.w.tell(c, before)
	to := ending{c.State, c.Revoked, c.Reason}
	x.certificates[to] = append(x.certificates[to], c.ID)
	x.objects = append(x.objects, c.object())
}

// write queues the rows and returns what the log says of them.
func (x *changes) write() []audit.Object {
	for to, ids := range x.devices {
		x.w.execOneOf(`UPDATE devices SET state = $1, before = $2, updated = $3, revision = revision + 1 WHERE id IN`,
			[]any{to.state, to.before, micros(x.w.now)}, ids)
	}
	for to, ids := range x.certificates {
		x.w.execOneOf(`UPDATE certificates SET state = $1, revoked = $2, reason = $3 WHERE id IN`, []any{to.state, to.revoked, to.reason}, ids)
	}
	for _, id := range slices.Sorted(maps.Keys(x.orders)) {
		x.objects = append(x.objects, x.orders[id].object())
	}
	return x.objects
}

// CRLReasons of RFC 5280 §5.3.1.
const (
	reasonCessation = 5 // cessationOfOperation
	reasonHold      = 6 // certificateHold
)
