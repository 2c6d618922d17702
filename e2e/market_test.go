package e2e

import (
	"cmp"
	"math/rand/v2"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// market is where the fleet of TestDecade changes hands.
type market struct {
	rand *rand.Rand
	open []*sale
}

// sale is a transfer on its way.
type sale struct {
	id       int64
	from, to string // "" is the manufacturer
	beings   []*being
	on       int // the day of the next step
	step     func(*decade, *sale) *sale
}

// Between two offers lie so many days, and after the last one there is time
// for all to come to their owners.
const (
	between   = 60
	lastOffer = 3000
)

// openMarket creates the owners; one has a profile of its own.
func (d *decade) openMarket() {
	d.market.rand = rand.New(rand.NewPCG(uint64(len(d.beings)), 11))
	for _, o := range []*vetting.Owner{{Name: "acme"}, {Name: "beta", Profile: &vetting.Profile{Validity: "200d"}}} {
		if _, err := d.store.CreateOwner(d.t.Context(), storetest.By, o); err != nil {
			d.t.Fatal(err)
		}
	}
}

// trade is the market's day: now and then one owner offers a tenth of its
// devices in service to another, and what was offered takes its next step.
func (d *decade) trade() {
	if today := d.today(); today > 0 && today <= lastOffer && today%between == 0 {
		d.offer()
	}
	var next []*sale
	for _, s := range d.market.open {
		if s.on == d.today() {
			s = s.step(d, s)
		}
		if s != nil {
			next = append(next, s)
		}
	}
	d.market.open = next
}

// offer offers some devices. What becomes of the offer is by turns: most are
// accepted, some are withdrawn, some left until their time is over.
func (d *decade) offer() {
	owners := []string{"", "acme", "beta"}
	r := d.market.rand
	r.Shuffle(len(owners), func(i, k int) { owners[i], owners[k] = owners[k], owners[i] })
	s := &sale{from: owners[0], to: owners[1], on: d.today() + 1 + r.IntN(13)}
	o := vetting.Offer{From: party(s.from), To: party(s.to), Note: "sold"}
	for _, b := range d.beings {
		if !b.copy && b.owner == s.from && r.IntN(10) == 0 && d.device(b).State.InService() {
			s.beings, o.Serials = append(s.beings, b), append(o.Serials, b.unit.Serial)
		}
	}
	if len(s.beings) == 0 {
		return
	}
	t, err := d.store.OfferTransfer(d.t.Context(), storetest.By, o)
	if err != nil {
		d.t.Fatal(err)
	}
	s.id = t.ID
	switch s.step = (*decade).accept; (d.today() / between) % 6 {
	case 1:
		s.step = (*decade).withdraw
	case 3:
		s.on, s.step = d.today()+14, (*decade).tooLate
	}
	d.market.open = append(d.market.open, s)
}

func party(owner string) string { return cmp.Or(owner, vetting.Manufacturer) }

// accept hands the devices over. If one of them went out of service since,
// nobody gets any.
func (d *decade) accept(s *sale) *sale {
	_, err := d.store.AcceptTransfer(d.t.Context(), storetest.By, s.id, "received")
	if vetting.ProblemOf(err) == vetting.Conflict {
		d.counted("offers of a device out of service")
		return d.withdraw(s)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.counted("offers accepted")
	d.handOver(s, s.to)
	if (d.today()/between)%6 != 5 {
		return nil
	}
	s.on, s.step = d.today()+20, (*decade).reverse
	return s
}

func (d *decade) withdraw(s *sale) *sale {
	if _, err := d.store.WithdrawTransfer(d.t.Context(), storetest.By, s.id, "not sold after all"); err != nil {
		d.t.Fatal(err)
	}
	d.counted("offers withdrawn")
	return nil
}

// tooLate accepts an offer whose time is over.
func (d *decade) tooLate(s *sale) *sale {
	if _, err := d.store.AcceptTransfer(d.t.Context(), storetest.By, s.id, "at last"); vetting.ProblemOf(err) != vetting.Conflict {
		d.t.Errorf("transfer %d was accepted after its time: %v", s.id, err)
	}
	d.counted("offers expired")
	return nil
}

// reverse is an administrator's word: the devices go back.
func (d *decade) reverse(s *sale) *sale {
	if _, err := d.store.ReverseTransfer(d.t.Context(), storetest.By, s.id, "not paid"); err != nil {
		d.t.Fatal(err)
	}
	d.counted("transfers reversed")
	d.handOver(s, s.from)
	return nil
}

func (d *decade) handOver(s *sale, to string) {
	for _, b := range s.beings {
		b.owner, b.traded = to, d.today()
		d.counted("devices traded")
	}
}

// device is what the server knows of a being's device.
func (d *decade) device(b *being) *vetting.Device {
	list, err := d.store.Devices(d.t.Context(), vetting.DeviceFilter{Identity: vetting.Identity{Serial: b.unit.Serial}}, vetting.Page{})
	if err != nil || len(list) != 1 {
		d.t.Fatalf("%d devices %s, %v", len(list), b.unit.Serial, err)
	}
	return list[0]
}
