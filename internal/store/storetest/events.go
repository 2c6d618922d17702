package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var eventCases = []conformance{
	{"a device's life is events", eventsOfALife},
	{"a leaf may tell of many devices", eventsOfOneLeaf},
	{"a stranger's request is an event without a device", eventsOfStrangers},
	{"pages join to the whole", eventsInPages},
	{"events are filtered", eventsFiltered},
	{"a page without events goes on", eventsFarBetween},
	{"there is nothing after the end", eventsBeyond},
	{"who follows misses none", eventsFollowed},
}

// verifyEvents checks what holds of the events of any database: their order,
// that each is of a known type, and that each leaf that tells of a device is
// an event of it.
func verifyEvents(t testing.TB, s *store.Store) {
	t.Helper()
	ctx := context.Background()
	all, err := allEvents(ctx, s, 500, events.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	type change struct{ leaf, device int64 }
	told := map[change]bool{}
	var last events.Position
	for _, e := range all {
		if !last.Before(e.ID) || e.ID.Place < 1 {
			t.Errorf("event %s comes after %s", e.ID, last)
		}
		last = e.ID
		if !slices.ContainsFunc(events.Types, func(m events.Meaning) bool { return m.Type == e.Type }) {
			t.Errorf("event %s is of the type %q, which events.Types does not list", e.ID, e.Type)
		}
		if e.Device != nil {
			told[change{e.ID.Leaf, e.Device.ID}] = true
		}
	}
	err = s.Leaves(ctx, 0, last.Leaf+1, func(index int64, body []byte) error {
		l, err := audit.ParseLeaf(body)
		for _, o := range l.Objects {
			if o.Kind == audit.KindDevice && !told[change{index, o.ID}] {
				t.Errorf("leaf %d (%s) changed device %d, but no event tells of it", index, l.Act, o.ID)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// allEvents reads from the beginning to the head, a page at a time.
func allEvents(ctx context.Context, s events.Source, limit int, f events.Filter) (all []events.Event, err error) {
	return eventsAfter(ctx, s, events.Position{}, limit, f)
}

func eventsAfter(ctx context.Context, s events.Source, after events.Position, limit int, f events.Filter) (all []events.Event, err error) {
	for {
		p, err := s.Events(ctx, after, f, limit)
		if err != nil {
			return all, err
		}
		if !p.More() {
			return append(all, p.Events...), nil
		}
		if !after.Before(p.Next) || len(p.Events) > limit {
			return all, fmt.Errorf("the page after %s has %d events and leads to %s", after, len(p.Events), p.Next)
		}
		all, after = append(all, p.Events...), p.Next
	}
}

func (t *trial) events(f events.Filter) []events.Event {
	t.Helper()
	return ok(allEvents(t.ctx, t.store, 500, f))(t)
}

// told gives the types of events, in order.
func told(list []events.Event) string {
	var types []string
	for _, e := range list {
		types = append(types, string(e.Type))
	}
	return strings.Join(types, " ")
}

func eventsOfALife(t *trial) {
	w := t.drafted(0)
	held := t.enrol(first(0), vetting.ReasonOrderDraft)
	t.decide(held.ID, true)
	open := vetting.OrderOpen
	t.change(w.Order.Name, vetting.OrderChange{State: &open})
	d := t.deviceOf(ok(t.store.Registration(t.ctx, ok(t.store.Commit(t.ctx, t.propose(first(0))))(t).Registration))(t))
	t.use(d.Certificate)
	t.setState(d.ID, vetting.DeviceSuspended)
	t.setState(d.ID, vetting.DeviceActive)
	d = t.setState(d.ID, vetting.DeviceRetired)
	all := t.events(events.Filter{Types: []string{"*"}})
	mine := slices.DeleteFunc(all, func(e events.Event) bool { return e.Device == nil || e.Device.ID != d.ID })
	want := "device.recorded device.held registration.let-in device.admitted certificate.first-use device.suspended device.active device.retired"
	if got := told(mine); got != want {
		t.Errorf("the events are %s, want %s", got, want)
	}
	for _, e := range mine {
		same(t, "the device of "+e.ID.String(), *e.Device, events.DeviceNow{ID: d.ID, Serial: d.Serial, Product: "thermo", Order: w.Order.Name, Site: "hsinchu",
			State: vetting.DeviceRetired, Certificate: d.Certificate})
		leaf := t.leaf(e.ID.Leaf)
		if !e.Time.Equal(leaf.Time) || e.By != leaf.By || e.Note != leaf.Note || e.Site != "hsinchu" {
			t.Errorf("event %+v of the leaf %+v", e, leaf)
		}
	}
	if mine[1].Registration != held.ID || mine[2].Registration != held.ID || mine[0].Registration != 0 {
		t.Errorf("the registrations are %d, %d, %d, want 0 and %d", mine[0].Registration, mine[1].Registration, mine[2].Registration, held.ID)
	}
}

func eventsOfOneLeaf(t *trial) {
	w := t.world(10, Unit(0), Unit(1), Unit(2))
	all := t.events(events.Filter{})
	if got := told(all); got != "device.recorded device.recorded device.recorded" {
		t.Fatalf("loading three records is %s", got)
	}
	for i, e := range all {
		if e.ID != (events.Position{Leaf: all[0].ID.Leaf, Place: int64(i + 1)}) || e.Device.State != vetting.DeviceManufactured {
			t.Errorf("event %d is %s, of a device that is %s", i, e.ID, e.Device.State)
		}
	}
	clone := Unit(7)
	clone.Serial = Unit(0).Serial
	w.Load(t, Unit(3), clone)
	if got := t.events(events.Filter{})[3:]; told(got) != "device.recorded evidence.added" || got[1].Device.Serial != Unit(0).Serial ||
		len(got[1].Evidence) != 1 || got[1].Evidence[0].Kind != vetting.EvidenceDuplicateSerial || got[1].Evidence[0].Site != "hsinchu" {
		t.Errorf("a disputed record is %+v", got)
	}
	// a key that another device holds speaks against both
	t.admit(1)
	before := len(t.events(events.Filter{}))
	r := t.enrol(Claim(Unit(2).BootstrapKey, Key("official", 1)), vetting.ReasonKeyInUse)
	got := t.events(events.Filter{})[before:]
	if told(got) != "device.refused evidence.added" || got[0].Device.ID != r.DeviceID || got[0].Registration != r.ID || len(got[0].Evidence) != 1 ||
		got[1].Device.Serial != Unit(1).Serial || len(got[1].Evidence) != 1 || got[1].Registration != 0 {
		t.Errorf("a key in use is %+v", got)
	}
}

func eventsOfStrangers(t *trial) {
	t.world(1)
	r := t.enrol(Claim(Key("stranger", 0), Key("official", 9)), vetting.ReasonUnknownDevice)
	got := t.events(events.Filter{})
	if told(got) != "device.refused" || got[0].Device != nil || got[0].Registration != r.ID || got[0].Site != "" ||
		len(got[0].Evidence) != 1 || got[0].Evidence[0].Kind != vetting.EvidenceUnknownDevice || got[0].Evidence[0].Text == "" {
		t.Errorf("a stranger's request is %+v", got)
	}
}

func eventsInPages(t *trial) {
	w := t.world(10, Unit(0), Unit(1), Unit(2), Unit(3), Unit(4))
	t.admit(0)
	t.site("penang")
	w.Load(t, Unit(5), Unit(6))
	t.admit(1)
	whole := t.events(events.Filter{})
	if len(whole) != 9 {
		t.Fatalf("%d events", len(whole))
	}
	for limit := 1; limit <= 10; limit++ {
		same(t, fmt.Sprintf("pages of %d", limit), ok(allEvents(t.ctx, t.second(), limit, events.Filter{}))(t), whole)
	}
	for i, e := range whole {
		if rest := ok(eventsAfter(t.ctx, t.store, e.ID, 100, events.Filter{}))(t); len(rest) != len(whole)-i-1 {
			t.Errorf("after %s come %s", e.ID, told(rest))
		}
	}
}

func eventsFiltered(t *trial) {
	t.world(10, Unit(0))
	t.site("penang")
	t.loaded("penang", Unit(1))
	t.admit(0)
	t.use(t.deviceOf(t.enrol(first(1), vetting.ReasonVetted)).Certificate)
	for _, c := range []struct {
		f    events.Filter
		want string
	}{
		{events.Filter{Types: []string{"device.admitted"}}, "device.admitted device.admitted"},
		{events.Filter{Types: []string{"certificate.*", "device.rec*"}}, "device.recorded device.recorded certificate.first-use"},
		{events.Filter{Site: "hsinchu"}, "device.recorded device.admitted"},
		{events.Filter{Site: "penang", Types: []string{"device.*"}}, "device.recorded device.admitted"},
		{events.Filter{Site: "nowhere"}, ""},
	} {
		for _, limit := range []int{1, 100} {
			if got := told(ok(allEvents(t.ctx, t.store, limit, c.f))(t)); got != c.want {
				t.Errorf("%+v: %s, want %s", c.f, got, c.want)
			}
		}
	}
}

// loaded makes an order at another site, with records.
func (t *trial) loaded(site string, records ...vetting.Record) {
	t.Helper()
	w := &World{Store: t.store, Order: t.order("po-"+site, "thermo", site, vetting.OrderOpen)}
	w.Load(t, records...)
}

func eventsFarBetween(t *trial) {
	t.world(1, Unit(0))
	for i := range 520 {
		t.change("po-1", vetting.OrderChange{Quantity: new(int64(i + 2))})
	}
	t.admit(0)
	none := ok(t.store.Events(t.ctx, events.Position{Leaf: 10}, events.Filter{}, 10))(t)
	if len(none.Events) != 0 || none.Next.Leaf < 500 || !none.More() {
		t.Errorf("%d events, then %s of %s", len(none.Events), none.Next, none.Head)
	}
	if got := told(t.events(events.Filter{})); got != "device.recorded device.admitted" {
		t.Errorf("the events are %s", got)
	}
}

func eventsBeyond(t *trial) {
	empty := ok(t.store.Events(t.ctx, events.Position{}, events.Filter{}, 10))(t)
	if len(empty.Events) != 0 || empty.More() {
		t.Errorf("an empty log has the events %+v", empty)
	}
	t.world(1, Unit(0))
	head := t.leaves()
	if size := ok(t.store.LogSize(t.ctx))(t); size != head {
		t.Errorf("the log has %d leaves, not %d", size, head)
	}
	at := ok(t.store.Events(t.ctx, events.Position{Leaf: head}, events.Filter{}, 10))(t)
	if len(at.Events) != 0 || at.More() || at.Next.Leaf != head {
		t.Errorf("at the head: %+v", at)
	}
	t.refuses(vetting.Conflict)(t.store.Events(t.ctx, events.Position{Leaf: head, Place: 1}, events.Filter{}, 10))
	t.refuses(vetting.Conflict)(t.store.Events(t.ctx, events.Position{Leaf: head + 7}, events.Filter{}, 10))
}

// eventsFollowed has two servers write while a third follows.
func eventsFollowed(t *trial) {
	const n = 60
	var units []vetting.Record
	for i := range n {
		units = append(units, Unit(i))
	}
	t.world(n, units...)
	after := events.Position{Leaf: t.leaves()}
	var writers sync.WaitGroup
	for i, s := range []*store.Store{t.store, t.second()} {
		writers.Go(func() {
			for unit := i; unit < n; unit += 2 {
				if _, _, err := Enrol(t.ctx, s, first(unit)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { writers.Wait(); close(ended) }()
	reader, seen := t.second(), map[string]int{}
	for last := false; ; {
		p := ok(reader.Events(t.ctx, after, events.Filter{}, 7))(t)
		for _, e := range p.Events {
			seen[e.Device.Serial]++
		}
		if after = p.Next; p.More() {
			continue
		}
		if last {
			break
		}
		select {
		case <-ended:
			last = true
		default:
		}
	}
	for _, u := range units {
		if seen[u.Serial] != 1 {
			t.Errorf("%s was seen %d times", u.Serial, seen[u.Serial])
		}
	}
}
