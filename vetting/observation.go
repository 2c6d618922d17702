package vetting

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Observation is what a broker or gateway saw of a certificate.
type Observation struct {
	// Certificate is the serial number in lower-case hexadecimal, Origin what
	// the CAs say of the certificate; "" if only the number was reported.
	Certificate string
	Origin      Origin
	Event       ObservedEvent
	At          time.Time
	Address     netip.Addr
	Place       *Place // nil if it is not known
	Source      string // which broker or gateway
}

// ObservedEvent is what was seen.
type ObservedEvent string

const (
	ObservedConnect    ObservedEvent = "connect"
	ObservedDisconnect ObservedEvent = "disconnect"
)

// Place is where an address is, in degrees.
type Place struct {
	Lat  float64 `json:"lat"`
	Long float64 `json:"long"`
}

// Bounds of an observation's time.
const (
	MaxObservedAge   = 30 * 24 * time.Hour
	MaxObservedAhead = 5 * time.Minute // a clock that is a little fast
)

// Check reports the first thing wrong with an observation that is handed in
// at a time.
func (o *Observation) Check(now time.Time) error {
	if b, err := hex.DecodeString(o.Certificate); err != nil || len(b) == 0 || len(b) > 20 {
		return fmt.Errorf("%.64q is no serial number of a certificate in hexadecimal", o.Certificate)
	}
	switch {
	case o.Event != ObservedConnect && o.Event != ObservedDisconnect:
		return fmt.Errorf("the event %.32q is neither %q nor %q", o.Event, ObservedConnect, ObservedDisconnect)
	case o.At.After(now.Add(MaxObservedAhead)):
		return fmt.Errorf("the time %s has not come yet: it is %s", stamp(o.At), stamp(now))
	case o.At.Before(now.Add(-MaxObservedAge)):
		return fmt.Errorf("the time %s is more than %d days ago", stamp(o.At), MaxObservedAge/(24*time.Hour))
	case !o.Address.IsValid():
		return errors.New("no address is given")
	}
	if p := o.Place; p != nil && !(math.Abs(p.Lat) <= 90 && math.Abs(p.Long) <= 180) {
		return fmt.Errorf("there is no place at the latitude %v and longitude %v", p.Lat, p.Long)
	}
	return CheckName("source", o.Source)
}

// Sighting is one connection of a device, as it is kept.
type Sighting struct {
	At          time.Time `json:"at"`
	Certificate string    `json:"certificate"`
	Address     string    `json:"address,omitempty"`
	Source      string    `json:"source"`
	Place       *Place    `json:"place,omitempty"`
	// Left is when it disconnected; zero if that was not reported.
	Left time.Time `json:"left,omitzero"`
}

// MaxSightings is how many sightings of a device are kept.
const MaxSightings = 12

// Seen is what is kept of the observations of one device.
type Seen struct {
	Sightings []Sighting `json:"sightings"` // in the order of time, the latest last
	// Alarm is the time of the sighting with which concurrent use was found
	// last: it takes others after that to find it again.
	Alarm time.Time `json:"alarm,omitzero"`
}

// ObservationRules say when sightings are evidence.
type ObservationRules struct {
	// Speed is how fast a device may travel, in km/h, Tolerance by how many km
	// places may be wrong.
	Speed, Tolerance float64
	// Returns is how often within Window a device must come back to one
	// network while its connection from another is still open.
	Returns int
	Window  time.Duration
	// Grace is how long after its successor was first used a superseded
	// certificate may still connect.
	Grace time.Duration
}

// ObservedFacts are what [Observe] looks at.
type ObservedFacts struct {
	Rules       ObservationRules
	Seen        Seen
	Observation Observation
	// DeviceID is the device that the certificate is of, State the
	// certificate's, Revoked when it was revoked, SuccessorUsed when the
	// device's current certificate was first used, if this is not the one.
	DeviceID      int64
	State         CertificateState
	Revoked       time.Time
	SuccessorUsed time.Time
}

// Observe adds an observation to what was seen of a device, and tells what it
// shows. Fresh is false for one that is known already or older than all that is
// kept. It is pure, and changes nothing in the facts.
func Observe(f ObservedFacts) (seen Seen, fresh bool, evidence []Evidence) {
	o := &observing{ObservedFacts: f, seen: Seen{slices.Clone(f.Seen.Sightings), f.Seen.Alarm}}
	if f.Observation.Event == ObservedDisconnect {
		fresh = o.leave()
	} else if fresh = o.arrive(); fresh {
		o.ended()
		o.concurrent()
		o.travelled()
	}
	return o.seen, fresh, o.evidence
}

type observing struct {
	ObservedFacts
	seen     Seen
	at       int // of the new sighting
	evidence []Evidence
}

func (o *observing) against(kind EvidenceKind, format string, args ...any) {
	o.evidence = append(o.evidence, Evidence{At: o.Observation.At, Kind: kind, DeviceID: o.DeviceID, Text: fmt.Sprintf(format, args...),
		Mark: evidenceMark(kind, []byte(o.Observation.Certificate))})
}

// leave ends the sighting that a disconnect belongs to.
func (o *observing) leave() bool {
	for i, s := range slices.Backward(o.seen.Sightings) {
		if o.same(s) && !s.At.After(o.Observation.At) {
			if !s.Left.IsZero() {
				return false
			}
			o.seen.Sightings[i].Left = o.Observation.At
			return true
		}
	}
	return false
}

// same reports whether a sighting is by the same source of the same
// certificate at the same address.
func (o *observing) same(s Sighting) bool {
	return s.Certificate == o.Observation.Certificate && s.Address == o.Observation.Address.String() && s.Source == o.Observation.Source
}

// arrive adds a sighting in its place.
func (o *observing) arrive() bool {
	at := o.Observation.At
	if slices.ContainsFunc(o.seen.Sightings, func(s Sighting) bool { return o.same(s) && s.At.Equal(at) }) {
		return false
	}
	if len(o.seen.Sightings) >= MaxSightings {
		if at.Before(o.seen.Sightings[0].At) {
			return false
		}
		o.seen.Sightings = slices.Delete(o.seen.Sightings, 0, 1)
	}
	o.at, _ = slices.BinarySearchFunc(o.seen.Sightings, at, func(s Sighting, t time.Time) int {
		if s.At.After(t) {
			return 1
		}
		return -1
	})
	o.seen.Sightings = slices.Insert(o.seen.Sightings, o.at, Sighting{At: at, Certificate: o.Observation.Certificate,
		Address: o.Observation.Address.String(), Source: o.Observation.Source, Place: o.Observation.Place})
	return true
}

// ended looks for a certificate that should not be in use any more.
func (o *observing) ended() {
	at := o.Observation.At
	switch {
	case o.State == CertificateRevoked && at.After(o.Revoked):
		o.against(EvidenceRevokedInUse, "The revoked certificate %s connected to %s from %s.", o.Observation.Certificate, o.Observation.Source, o.Observation.Address)
	case o.State == CertificateSuperseded && !o.SuccessorUsed.IsZero() && at.After(o.SuccessorUsed.Add(o.Rules.Grace)):
		o.against(EvidenceSuperseded, "The superseded certificate %s connected to %s from %s, though its successor is in use since %s.",
			o.Observation.Certificate, o.Observation.Source, o.Observation.Address, stamp(o.SuccessorUsed))
	}
}

// concurrent looks for two holders of one certificate who take turns: each
// comes back while the other is still connected. A device that roams does so
// once, and a connection that it left behind does not come back.
func (o *observing) concurrent() {
	var turns []Sighting
	latest := o.seen.Sightings[len(o.seen.Sightings)-1].At
	for _, s := range o.seen.Sightings {
		if s.Certificate == o.Observation.Certificate && s.At.After(o.seen.Alarm) && latest.Sub(s.At) <= o.Rules.Window {
			turns = append(turns, s)
		}
	}
	returns := 0
	for i := 1; i < len(turns); i++ {
		s, before := turns[i], turns[i-1]
		live := before.Left.IsZero() || !before.Left.Before(s.At)
		known := slices.ContainsFunc(turns[:i], func(e Sighting) bool { return network(e) == network(s) })
		if live && known && network(s) != network(before) {
			returns++
		}
	}
	if returns < o.Rules.Returns {
		return
	}
	last := turns[len(turns)-1]
	o.seen.Alarm = last.At
	o.against(EvidenceConcurrentUse, "The certificate %s was in use at two places at once: %d times within %s it came back from one network while it was connected from another, at last from %s.",
		o.Observation.Certificate, returns, o.Rules.Window, last.Address)
}

// network is what counts as one place: addresses of one IPv4 /24 or IPv6 /48
// are often the same device behind the same provider.
func network(s Sighting) netip.Prefix {
	addr, err := netip.ParseAddr(s.Address)
	if err != nil {
		return netip.Prefix{}
	}
	addr = addr.Unmap().WithZone("")
	bits := 24
	if addr.Is6() {
		bits = 48
	}
	p, _ := addr.Prefix(bits) // the bits fit
	return p
}

// travelled compares the new sighting with those before and after it.
func (o *observing) travelled() {
	here := o.seen.Sightings[o.at]
	if here.Place == nil {
		return
	}
	for _, i := range []int{o.neighbour(-1), o.neighbour(+1)} {
		if i < 0 {
			continue
		}
		there := o.seen.Sightings[i]
		km := distance(*here.Place, *there.Place)
		hours := here.At.Sub(there.At).Abs().Hours()
		if km-o.Rules.Tolerance > o.Rules.Speed*hours {
			o.against(EvidenceImpossibleTravel, "It was seen by %s at %s and by %s at %s, %.0f km apart within %s.",
				there.Source, stamp(there.At), here.Source, stamp(here.At), km, here.At.Sub(there.At).Abs().Round(time.Second))
			return
		}
	}
}

// neighbour is the nearest sighting in a direction that has a place; -1 if
// none has.
func (o *observing) neighbour(step int) int {
	for i := o.at + step; i >= 0 && i < len(o.seen.Sightings); i += step {
		if o.seen.Sightings[i].Place != nil {
			return i
		}
	}
	return -1
}

// earthRadius is in km.
const earthRadius = 6371

// distance is along a great circle, in km, by the haversine formula.
func distance(a, b Place) float64 {
	rad := math.Pi / 180
	sin := func(deg float64) float64 { return math.Sin(deg * rad / 2) }
	h := sin(b.Lat-a.Lat)*sin(b.Lat-a.Lat) + math.Cos(a.Lat*rad)*math.Cos(b.Lat*rad)*sin(b.Long-a.Long)*sin(b.Long-a.Long)
	return 2 * earthRadius * math.Asin(math.Sqrt(min(h, 1)))
}

// ownSerialBytes is how long the serial numbers are that the device CA makes;
// a certificate with another is not ours.
const ownSerialBytes = 17

// ObserveUnknown tells what a certificate shows that is not in the database:
// nothing if it is another CA's, as brokers that trust several report them.
func ObserveUnknown(o Observation) []Evidence {
	kind, text := EvidenceUnknownCertificate, "A certificate with the serial number %s, which the database does not know, connected to %s from %s."
	switch {
	case o.Event != ObservedConnect || o.Origin == OriginOther || o.Origin == OriginSelf:
		return nil
	case o.Origin == OriginForged:
		kind, text = EvidenceForged, "A certificate with the serial number %s that names the device CA, but was not signed by it, connected to %s from %s."
	case o.Origin == "" && len(o.Certificate) != 2*ownSerialBytes:
		return nil
	}
	return []Evidence{{At: o.At, Kind: kind, Text: fmt.Sprintf(text, strings.ToLower(o.Certificate), o.Source, o.Address),
		Mark: evidenceMark(kind, []byte(o.Certificate), []byte(o.Source))}}
}

// Observed counts what became of observations that were handed in.
type Observed struct {
	// Taken were new, Repeated known already or older than what is kept,
	// Unknown of certificates that are not in the database.
	Taken    int `json:"taken"`
	Repeated int `json:"repeated"`
	Unknown  int `json:"unknown"`
	// Evidence is how many signs they were, repeated ones too.
	Evidence int `json:"evidence"`
}
