package events

import (
	"strings"

	"github.com/touchmark/touchmark/internal/audit"
)

// Lookup tells what a leaf's objects are about. What it does not know, it
// gives zero values for.
type Lookup interface {
	// Registration gives the device that a registration is about, 0 if none
	// is known, and the site it belongs to, "" for none.
	Registration(id int64) (device int64, site string)
	// Certificate gives the device that holds a certificate.
	Certificate(id int64) (device int64)
	// Evidence gives evidence and the device that it speaks against, 0 if
	// none is known.
	Evidence(id int64) (s Sign, device int64)
	// Records gives the last record of a run that begins with a record.
	Records(first int64) (last int64)
	// Device gives a device as it is now; nil if there is none.
	Device(id int64) *DeviceNow
}

// Of gives the events of a leaf: one for each device and proposal that its
// objects tell of, in their order, then one for each device that only evidence
// tells of.
// So an event's place follows from the leaf, which never changes.
func Of(index int64, l audit.Leaf, look Lookup) []Event {
	p := projection{leaf: l, look: look, at: map[int64]int{}}
	for _, o := range l.Objects {
		p.subject(o)
	}
	subjects := len(p.events)
	for _, o := range l.Objects {
		if o.Kind == audit.KindEvidence {
			p.evidence(o.ID, subjects)
		}
	}
	for i := range p.events {
		p.events[i].ID = Position{index, int64(i + 1)}
	}
	return p.events
}

type projection struct {
	leaf   audit.Leaf
	look   Lookup
	events []Event
	at     map[int64]int // the event of each device
}

// subject adds the events of what an object is about.
func (p *projection) subject(o audit.Object) {
	switch o.Kind {
	case audit.KindRegistration:
		device, site := p.look.Registration(o.ID)
		e := p.event(device, typeOf(p.leaf.Act))
		e.Registration = o.ID
		if e.Device == nil {
			e.Site = site
		}
	case audit.KindDevice:
		p.event(o.ID, typeOf(p.leaf.Act))
	case audit.KindCertificate:
		if device := p.look.Certificate(o.ID); device != 0 {
			p.event(device, typeOf(p.leaf.Act))
		}
	case audit.KindRecords:
		for id, last := o.ID, p.look.Records(o.ID); id <= last; id++ {
			p.event(id, Recorded)
		}
	case audit.KindProposal:
		p.events = append(p.events, Event{Time: p.leaf.Time, Type: typeOf(p.leaf.Act), By: p.leaf.By, Note: p.leaf.Note, Proposal: o.ID})
	}
}

// evidence goes to the event of its device; that against nobody known, to
// the first of those that the leaf is about.
func (p *projection) evidence(id int64, subjects int) {
	ev, device := p.look.Evidence(id)
	if device == 0 && subjects > 0 {
		p.events[0].Evidence = append(p.events[0].Evidence, ev)
		return
	}
	t := EvidenceAdded
	if strings.HasPrefix(p.leaf.Act, "evidence.") {
		t = typeOf(p.leaf.Act) // which is about evidence itself
	}
	e := p.event(device, t)
	e.Evidence = append(e.Evidence, ev)
	if e.Device == nil && e.Site == "" {
		e.Site = ev.Site
	}
}

// event gives a device's event of the leaf, and makes it if there is none.
func (p *projection) event(device int64, t Type) *Event {
	i, there := p.at[device]
	if !there {
		i = len(p.events)
		p.at[device] = i
		e := Event{Time: p.leaf.Time, Type: t, By: p.leaf.By, Note: p.leaf.Note}
		if device != 0 {
			if e.Device = p.look.Device(device); e.Device != nil {
				e.Site = e.Device.Site
			}
		}
		p.events = append(p.events, e)
	}
	return &p.events[i]
}
