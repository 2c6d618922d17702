package vetting

import "time"

// Counters tell what happened before a claim, as far as rules and an order's
// limits look at it.
type Counters struct {
	// How many units the claim's order issued in the last hour and day; and
	// in the last hour by the claim's rig, and on the record's line.
	OrderLastHour, OrderLastDay int64
	RigLastHour, LineLastHour   int64
	// Attempts is how many registrations of the device there were, Refusals
	// how many of them were refused.
	Attempts, Refusals int64
}

// Looks says which counters, and other facts that cost something, are looked
// at.
type Looks struct {
	// Pace is what the order issued lately. Now wants it as it is at this
	// moment over all servers, rather than up to a second old.
	Pace, Now bool
	// Attempts is how often the device asked and was refused.
	Attempts bool
	// Site is whether the claim came from the networks of its site.
	Site bool
}

// Units are counted in slots of five minutes, so that "the last hour" is
// between 55 and 60 minutes and costs twelve small rows.
const (
	slotLength  = 5 * time.Minute
	slotsInHour = int64(time.Hour / slotLength)
	slotsInDay  = 24 * slotsInHour
)

// Slot is the number of the slot that a time is in.
func Slot(t time.Time) int64 { return t.UnixMicro() / slotLength.Microseconds() }

// OldestSlot is the first slot that still counts at a time.
func OldestSlot(now time.Time) int64 { return Slot(now) - slotsInDay + 1 }

// Scopes are what a unit is counted under: its order, its rig, its line.
func Scopes(f *Facts) []string {
	list := []string{""}
	if rig := f.Claim.Auth.Operator; rig != "" {
		list = append(list, "rig:"+rig)
	}
	if line := f.Record.Made.Line; line != "" {
		list = append(list, "line:"+line)
	}
	return list
}

// Pace is what one order issued lately, by scope and slot.
type Pace map[string]map[int64]int64

// Add counts n units.
func (p Pace) Add(scope string, slot, n int64) {
	if p[scope] == nil {
		p[scope] = map[int64]int64{}
	}
	p[scope][slot] += n
}

// Counters reads the pace for one unit; attempts and refusals are not in it.
func (p Pace) Counters(f *Facts, now time.Time) Counters {
	return Counters{
		OrderLastHour: p.last("", now, slotsInHour), OrderLastDay: p.last("", now, slotsInDay),
		RigLastHour:  p.last("rig:"+f.Claim.Auth.Operator, now, slotsInHour),
		LineLastHour: p.last("line:"+f.Record.Made.Line, now, slotsInHour),
	}
}

func (p Pace) last(scope string, now time.Time, slots int64) (n int64) {
	from := Slot(now) - slots
	for slot, issued := range p[scope] {
		if slot > from {
			n += issued
		}
	}
	return n
}
