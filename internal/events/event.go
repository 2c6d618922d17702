// Package events tells what became of devices, and what waits for somebody's
// approval. An event is nothing that is stored: it is a leaf of the audit log,
// read again with what it is about (docs/decisions/events.md). So whatever
// changes a device or a proposal is an event, in one order over all servers,
// and none can be forgotten or invented.
//
// The package knows what an event, a place among them and a webhook are, and
// how to wait for more. The store reads events; package webhook delivers them.
package events

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// Type is what happened. It is the act that the log's leaf names, but for
// [Recorded] and [EvidenceAdded], whose leaves are about something else, and for
// jobs: what one does to many devices has the type that it has for one.
type Type string

const (
	// Recorded is a device whose record was loaded from a manifest.
	Recorded Type = "device.recorded"
	// EvidenceAdded is a device against which evidence came up by itself, or
	// when another device registered or a manifest was loaded.
	EvidenceAdded Type = "evidence.added"
)

// otherTypes are the types of acts that are called otherwise in the log.
var otherTypes = map[string]Type{
	"evidence.record": EvidenceAdded,
	"job.suspend":     "device.suspended", "job.resume": "device.active", "job.quarantine": "device.quarantined", "job.release": "device.released",
	"job.retire": "device.retired", "job.scrap": "device.scrapped", "job.revoke": "device.revoke", "job.renew": "device.renew",
}

// typeOf gives the type of what a leaf's act did to a device.
func typeOf(act string) Type {
	if t, ok := otherTypes[act]; ok {
		return t
	}
	return Type(act)
}

// Meaning is a type and what it says of a device, or of a proposal.
type Meaning struct {
	Type  Type
	Means string
}

// Types lists every type, with what it means. They are a contract with those
// who receive events: types are added, none is renamed.
var Types = []Meaning{
	{Recorded, "its record was loaded from a manifest"},
	{"device.admitted", "it was let in and given a certificate: its first, another before activation, or a renewal"},
	{"device.held", "its request waits for a person or a condition"},
	{"device.refused", "its request was turned down; without a device if it is in no record"},
	{"registration.let-in", "a person decided to admit a held request"},
	{"registration.turn-away", "a person decided to refuse a held request"},
	{"certificate.first-use", "it used its official key for the first time: it is active"},
	{"device.suspended", "an operator took it out of service for a while"},
	{"device.active", "an operator put it back into service"},
	{"device.quarantined", "it is locked as a suspected counterfeit"},
	{"device.manufactured", "an operator released it from quarantine, back to manufactured"},
	{"device.registered", "an operator released it from quarantine, back to registered"},
	{"device.issued", "an operator released it from quarantine, back to issued"},
	{"device.retired", "an operator took it out of service for good; also a release from quarantine, back to retired"},
	{"device.scrapped", "an operator noted that it was destroyed"},
	{"device.rework", "it was scrapped and its unit given back to its order"},
	{"device.replace", "it was scrapped for another device, or is that other one"},
	{"device.test-passed", "a rig tested it, and it passed"},
	{"device.test-failed", "a rig tested it, and it failed"},
	{"device.readmit", "it may start anew on its unit, with its bootstrap key"},
	{"transfer.offer", "its owner offers it to another"},
	{"transfer.accept", "it is another owner's, its certificates are revoked, and it starts anew"},
	{"transfer.hand-out", "it was handed to an owner outside of this server, and its certificates are revoked"},
	{"transfer.reverse", "it is the earlier owner's again, its certificates are revoked, and it starts anew"},
	{"device.released", "a job released it from quarantine, back to the state it came from"},
	{"device.renew", "a job asks it to renew its certificate early"},
	{"device.revoke", "an operator revoked its certificates"},
	{"certificate.revoke", "an operator revoked one of its certificates"},
	{EvidenceAdded, "evidence against it came up, other than by its own request"},
	{"evidence.clear", "a person found evidence against it to be a false alarm"},
	{"evidence.reopen", "a person took that back"},
	{"proposal.create", "an operator asks others to approve an act"},
	{"proposal.approve", "one of them approved it; it wants more"},
	{"proposal.carry-out", "the last approval came, and the act was carried out"},
	{"proposal.retract", "an approval was taken back, or its operator was revoked"},
	{"proposal.withdraw", "it was taken back"},
	{"proposal.void", "what it rests on was changed"},
}

// Event is one thing that happened to one device, or to one proposal.
type Event struct {
	ID   Position  `json:"id" doc:"Names the event, and its place in the one order of all events: the index of the audit log's leaf, and the event's place in the leaf, from 1"`
	Time time.Time `json:"time" doc:"When it happened"`
	Type Type      `json:"type" doc:"What happened"`
	By   string    `json:"by,omitempty" doc:"Who did it, as the audit log names them: operator:NAME, certificate:SERIAL, key:FINGERPRINT, code:NUMBER, server"`
	Note string    `json:"note,omitempty" doc:"A few words from the audit log"`
	// Registration is the request that it is about; 0 if it is about none.
	Registration int64 `json:"registration,omitempty" doc:"The registration that it is about; absent if none"`
	// Device is nil if the request named none that is known.
	Device   *DeviceNow `json:"device,omitempty" doc:"The device as it is when the event is read, which may be later than the event; absent if the request was of a device in no record"`
	Evidence []Sign     `json:"evidence,omitempty" doc:"The evidence that came up"`
	// Proposal is the OEM's affair only, whatever it is about.
	Proposal int64 `json:"proposal,omitempty" doc:"The proposal that it is about, for those who approve; absent if none"`

	// Site is where the event belongs: the device's site, or that of the rig
	// that asked; "" is the OEM's affair only.
	Site string `json:"-"`
}

// DeviceNow is a device as it is when the event is read.
type DeviceNow struct {
	ID          int64               `json:"id" doc:"The device's number"`
	Serial      string              `json:"serial" doc:"The device's serial number"`
	Product     string              `json:"product" doc:"The product's name"`
	Order       string              `json:"order,omitempty" doc:"The order's name"`
	Site        string              `json:"site,omitempty" doc:"The site's name"`
	State       vetting.DeviceState `json:"state" doc:"Where the device is in its life now"`
	Certificate string              `json:"certificate,omitempty" doc:"The serial number of its current certificate, in lower-case hexadecimal"`

	// Owner is whose it is now; "" is the manufacturer.
	Owner string `json:"-"`
}

// Sign is evidence: one observed sign of counterfeit or misuse.
type Sign struct {
	ID   int64                `json:"id" doc:"The evidence's number"`
	Kind vetting.EvidenceKind `json:"kind" doc:"What kind of sign it is"`
	Text string               `json:"text,omitempty" doc:"What was observed, in a sentence"`

	// Site may see it; "" is for the OEM only.
	Site string `json:"-"`
}

// Position is a place in the order of all events. Events have places from 1
// on; place 0 of a leaf is where its events begin. As a cursor it says that
// everything up to it was seen.
type Position struct {
	Leaf  int64
	Place int64
}

// Before reports whether p comes before q.
func (p Position) Before(q Position) bool {
	return p.Leaf < q.Leaf || p.Leaf == q.Leaf && p.Place < q.Place
}

// String gives the text form, LEAF-PLACE.
func (p Position) String() string {
	return strconv.FormatInt(p.Leaf, 10) + "-" + strconv.FormatInt(p.Place, 10)
}

// MarshalText gives the text form.
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the text form.
func (p *Position) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePosition(string(b))
	return err
}

// maxPlace bounds the places in one leaf.
const maxPlace = math.MaxInt32

// ParsePosition reads what String writes, and nothing else.
func ParsePosition(text string) (p Position, err error) {
	leaf, place, _ := strings.Cut(text, "-")
	if p.Leaf, err = strconv.ParseInt(leaf, 10, 64); err == nil {
		p.Place, err = strconv.ParseInt(place, 10, 64)
	}
	if err != nil || p.Leaf < 0 || p.Place < 0 || p.Place > maxPlace || p.String() != text {
		return Position{}, fmt.Errorf("%q is not the ID of an event: want the ID of one, such as 4711-1, or 0-0 for the beginning", clip(text))
	}
	return p, nil
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// Filter says which events are wanted; the zero value wants all.
type Filter struct {
	// Types are types, or their beginnings: "device.*". None stands for all.
	Types []string `json:"types,omitempty" doc:"The types of events that are wanted, or their beginnings such as device.*; absent for all"`
	// Site narrows to the events of a site.
	Site string `json:"site,omitempty" doc:"The site whose events are wanted; absent for all"`
	// Owner narrows to the events of devices that are an owner's when they
	// are read.
	Owner string `json:"-"`
}

// maxTypes bounds a filter's types.
const maxTypes = 32

// Check reports a filter that could never let anything through.
func (f Filter) Check() error {
	if len(f.Types) > maxTypes {
		return fmt.Errorf("%d types are named: at most %d are taken, and device.* stands for all that begin so", len(f.Types), maxTypes)
	}
	for _, pattern := range f.Types {
		if !slices.ContainsFunc(Types, func(m Meaning) bool { return fits(pattern, m.Type) }) {
			return fmt.Errorf("no event is of the type %q: known are %s; device.* stands for all that begin so", clip(pattern), knownTypes())
		}
	}
	return nil
}

func knownTypes() string {
	names := make([]string, len(Types))
	for i, t := range Types {
		names[i] = string(t.Type)
	}
	return strings.Join(names, ", ")
}

// Wants reports whether the filter lets an event through.
func (f Filter) Wants(e *Event) bool {
	return (f.Site == "" || f.Site == e.Site) && (f.Owner == "" || e.Device != nil && f.Owner == e.Device.Owner) && f.WantsType(e.Type)
}

// WantsType reports whether the filter may let events of a type through.
func (f Filter) WantsType(t Type) bool {
	return len(f.Types) == 0 || slices.ContainsFunc(f.Types, func(pattern string) bool { return fits(pattern, t) })
}

func fits(pattern string, t Type) bool {
	if begin, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(string(t), begin)
	}
	return pattern == string(t)
}

// Page is a stretch of events.
type Page struct {
	Events []Event
	// Next is the position up to which everything was looked at.
	Next Position
	// Head is where the log ended when it was looked at: place 0 of the leaf
	// to come. With Next there, there is no more for now.
	Head Position
}

// More reports whether there is more to read at once.
func (p Page) More() bool { return p.Next.Before(p.Head) }
