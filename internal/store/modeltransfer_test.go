package store_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// modelTransfer is a transfer as the model has it. Owners are named as the
// store names them; "" is the manufacturer.
type modelTransfer struct {
	id       int64
	from, to string
	units    []*modelUnit
	state    vetting.TransferState
}

var modelOwners = []string{"", "acme", "beta"}

// offer reports whether devices may be offered; none does not matter to the
// others.
func (m *model) offer(t *modelTransfer) bool {
	if t.from == t.to {
		return false
	}
	for _, u := range t.units {
		if u.owner != t.from || !u.state.InService() || u.transfer != nil && u.transfer.state == vetting.TransferOffered {
			return false
		}
	}
	return true
}

// accept makes the devices the next owner's, all of them or none.
func (m *model) accept(t *modelTransfer) bool {
	if t.state != vetting.TransferOffered || slices.ContainsFunc(t.units, func(u *modelUnit) bool { return !u.state.InService() }) {
		return false
	}
	return m.handOver(t, vetting.TransferAccepted, t.to)
}

// reverse gives them back, whatever became of them.
func (m *model) reverse(t *modelTransfer) bool {
	if t.state != vetting.TransferAccepted || slices.ContainsFunc(t.units, func(u *modelUnit) bool { return u.transfer != t }) {
		return false
	}
	return m.handOver(t, vetting.TransferReversed, t.from)
}

func (m *model) handOver(t *modelTransfer, state vetting.TransferState, to string) bool {
	m.seen["transfer "+string(state)]++
	t.state = state
	for _, u := range t.units {
		if !u.startsAnew() {
			u.handover = nil
		}
		for _, c := range u.certs {
			if c.state == vetting.CertificateRevoked {
				continue
			}
			c.state, c.handedOver = vetting.CertificateRevoked, true
			if c == u.current() {
				u.handover = c
			}
		}
		if u.state == vetting.DeviceIssued || u.state == vetting.DeviceActive {
			u.state = vetting.DeviceManufactured
		}
		u.owner = to
	}
	return true
}

// close ends an offer that nobody took up.
func (m *model) close(t *modelTransfer, as vetting.TransferState) bool {
	if t.state != vetting.TransferOffered {
		return false
	}
	m.seen["transfer "+string(as)]++
	t.state = as
	return true
}

// startsAnew reports whether a device that took its unit may enrol once more.
func (u *modelUnit) startsAnew() bool {
	return u.took && (u.state == vetting.DeviceManufactured || u.state == vetting.DeviceRegistered)
}

// ended reports whether a certificate ended with its device's transfer, and
// counts for coming to the owner or tells a copy.
func (u *modelUnit) ended(c *modelCert) bool {
	return c.handedOver && u.handover != nil && slices.Index(u.certs, c) <= slices.Index(u.certs, u.handover)
}

// arrival is a request by a certificate that ended with the transfer, of a
// device that did not come to its owner yet.
func (m *model) arrival(u *modelUnit, c *modelCert, key vetting.Fingerprint) answer {
	now := u.current()
	lost := now.key == key && (!now.used || key != c.key)
	switch {
	case c != u.handover && !lost && usedSince(u, c):
		return answer{outcome: vetting.Refused, clone: true}
	case c != u.handover && !lost, m.holder(key, u):
		return refused()
	}
	m.seen["came to its owner"]++
	return answer{outcome: vetting.Admitted, anew: true}
}

// trade takes a step of a transfer, or begins one.
func (r *run) trade() {
	n := len(r.model.transfers)
	if n == 0 || r.rand.IntN(3) == 0 {
		r.offer()
		return
	}
	t := r.model.transfers[n-1-r.rand.IntN(min(n, 3))]
	s, by := r.world.Store, storetest.By
	var err error
	var ok bool
	switch step := r.rand.IntN(9); {
	case step == 0:
		ok = r.model.close(t, vetting.TransferWithdrawn)
		_, err = s.WithdrawTransfer(r.ctx, by, t.id, "by chance")
	case step == 8:
		ok = r.model.close(t, vetting.TransferDeclined)
		_, err = s.DeclineTransfer(r.ctx, by, t.id, "by chance")
	case step <= 2 || step == 3 && t.state == vetting.TransferAccepted:
		ok = r.model.reverse(t)
		_, err = s.ReverseTransfer(r.ctx, by, t.id, "by chance")
	case step == 3:
		r.expire()
		return
	default:
		ok = r.model.accept(t)
		_, err = s.AcceptTransfer(r.ctx, by, t.id, "by chance")
	}
	if (err == nil) != ok {
		r.Errorf("a step of transfer %d, which is %s by now: %v", t.id, t.state, err)
	}
}

func (r *run) offer() {
	t := &modelTransfer{from: pick(r.rand, modelOwners), to: pick(r.rand, modelOwners), state: vetting.TransferOffered}
	o := vetting.Offer{From: partyName(t.from), To: partyName(t.to), Time: time.Hour}
	for _, u := range r.model.units {
		if u.owner == t.from && r.rand.IntN(4) == 0 || r.rand.IntN(80) == 0 {
			t.units, o.Serials = append(t.units, u), append(o.Serials, u.record.Serial)
		}
	}
	if len(t.units) == 0 {
		return
	}
	ok := r.model.offer(t)
	made, err := r.world.Store.OfferTransfer(r.ctx, storetest.By, o)
	if (err == nil) != ok {
		r.Fatalf("offer of %v from %s to %s: %v", o.Serials, o.From, o.To, err)
	}
	if err != nil {
		return
	}
	t.id = made.ID
	for _, u := range t.units {
		u.transfer = t
	}
	r.model.transfers = append(r.model.transfers, t)
}

func partyName(owner string) string {
	if owner == "" {
		return vetting.Manufacturer
	}
	return owner
}

// expire lets an hour go by, after which no offer is open.
func (r *run) expire() {
	r.ahead.Add(int64(time.Hour))
	for _, t := range r.model.transfers {
		if t.state == vetting.TransferOffered {
			t.state = vetting.TransferExpired
			r.model.seen["transfer expired"]++
		}
	}
}

// compareOwners holds transfers against the model's, and demands that each
// device is one owner's.
func (r *run) compareOwners() {
	for _, t := range r.model.transfers {
		got, err := r.world.Store.Transfer(r.ctx, t.id)
		if err != nil || got.State != t.state || got.Devices != len(t.units) {
			r.Errorf("transfer %d is %+v, %v; the model has %s", t.id, got, err, t.state)
		}
	}
	have := map[string]string{}
	for _, owner := range modelOwners {
		list, err := r.world.Store.Devices(r.ctx, vetting.DeviceFilter{Owner: partyName(owner)}, vetting.Page{Limit: 1000})
		if err != nil {
			r.Fatal(err)
		}
		for _, d := range list {
			have[d.Serial] += fmt.Sprintf("[%s]", owner)
		}
	}
	for _, u := range r.model.units {
		if have[u.record.Serial] != fmt.Sprintf("[%s]", u.owner) {
			r.Errorf("%s belongs to %s, the model has %q", u.record.Serial, have[u.record.Serial], u.owner)
		}
	}
}
