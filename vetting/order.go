package vetting

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// OrderState is where a production order stands.
type OrderState string

const (
	OrderDraft     OrderState = "draft"     // being planned; nothing is issued yet
	OrderOpen      OrderState = "open"      // devices are admitted
	OrderPaused    OrderState = "paused"    // devices are held until it is open again
	OrderClosed    OrderState = "closed"    // no further unit; issued ones may still fetch theirs
	OrderCancelled OrderState = "cancelled" // nothing is issued any more
)

// orderMoves are the allowed changes of state.
var orderMoves = map[OrderState][]OrderState{
	OrderDraft:  {OrderOpen, OrderCancelled},
	OrderOpen:   {OrderPaused, OrderClosed, OrderCancelled},
	OrderPaused: {OrderOpen, OrderClosed, OrderCancelled},
	OrderClosed: {OrderOpen, OrderCancelled},
}

// MaxQuantity bounds an order, and MaxIdentifierRanges what it can list.
const (
	MaxQuantity         = 100_000_000
	MaxIdentifierRanges = 10_000
	MaxSignatures       = 8
)

// Order is a production order: the factory's entitlement to build a number
// of units of a product. The quota comes from here.
type Order struct {
	ID      int64  `json:"-"`
	Name    string `json:"name"`
	Product string `json:"product"`
	Site    string `json:"site"`
	// Quantity is the number of units that may be issued; Issued is how many
	// were, and Wasted how many were used up by waste. Together those never
	// exceed Quantity.
	Quantity int64      `json:"quantity"`
	Issued   int64      `json:"issued"`
	Wasted   int64      `json:"wasted,omitempty"`
	State    OrderState `json:"state"`
	// Identifiers confines the records that a manifest may list.
	Identifiers Identifiers `json:"identifiers"`
	// NotBefore and NotAfter are the window in which devices may first
	// enrol; a zero time leaves that side open.
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
	// Limits bound how fast units are issued.
	Limits Limits `json:"limits,omitzero"`
	// Waste says whether a record that is scrapped before power-on uses up a
	// unit.
	Waste WastePolicy `json:"waste,omitempty"`
	// Rework says who may replace units that failed before they were used.
	Rework Rework `json:"rework,omitempty"`
	// MaxReplacements is how many units the site's rigs may replace, and
	// Replaced how many they did; what an administrator replaces is not
	// counted.
	MaxReplacements int64 `json:"maxReplacements,omitempty"`
	Replaced        int64 `json:"replaced,omitempty"`
	// Licensed is how many chips have a licence from this order, or one
	// reserved: never more than Quantity. Lot is what licences call the order; 0
	// before the first.
	Licensed int64  `json:"licensed,omitempty"`
	Lot      uint32 `json:"lot,omitempty"`
	// RaiseApprovals is how many others must approve a larger quantity; 0
	// needs nobody.
	RaiseApprovals int `json:"raiseApprovals,omitempty"`
	// Approved says that others agreed to the order as it is, see
	// [Order.Unapproved].
	Approved bool `json:"approved,omitempty"`
	// ManifestApprovals is how many others must approve a manifest; its product
	// may want more.
	ManifestApprovals int `json:"manifestApprovals,omitempty"`
	// ManifestSignatures is how many site operators must sign a manifest.
	ManifestSignatures int       `json:"manifestSignatures"`
	Revision           int64     `json:"revision"` // grows with every planner's change, not with Issued
	Created            time.Time `json:"created"`
	Updated            time.Time `json:"updated"`

	ProductID int64 `json:"-"`
	SiteID    int64 `json:"-"`
}

// Check reports the first thing wrong with the order's own fields.
func (o *Order) Check() error {
	if err := CheckName("order", o.Name); err != nil {
		return err
	}
	switch {
	case o.Quantity < 1:
		return fmt.Errorf("order %q has a quantity of %d: an order is for at least 1 unit", o.Name, o.Quantity)
	case o.Quantity > MaxQuantity:
		return fmt.Errorf("order %q has a quantity of %d: at most %d are allowed", o.Name, o.Quantity, int64(MaxQuantity))
	case o.ManifestSignatures < 1 || o.ManifestSignatures > MaxSignatures:
		return fmt.Errorf("order %q wants %d manifest signatures: between 1 and %d are allowed", o.Name, o.ManifestSignatures, MaxSignatures)
	case o.RaiseApprovals < 0 || o.RaiseApprovals > MaxRaiseApprovals:
		return fmt.Errorf("order %q wants %d approvals of a raise: between 0 and %d are allowed", o.Name, o.RaiseApprovals, MaxRaiseApprovals)
	case o.ManifestApprovals < 0 || o.ManifestApprovals > MaxRaiseApprovals:
		return fmt.Errorf("order %q wants %d approvals of a manifest: between 0 and %d are allowed", o.Name, o.ManifestApprovals, MaxRaiseApprovals)
	case !o.NotBefore.IsZero() && !o.NotAfter.IsZero() && !o.NotAfter.After(o.NotBefore):
		return fmt.Errorf("order %q: its window ends (%s) before it begins (%s)", o.Name, o.NotAfter.Format(time.RFC3339), o.NotBefore.Format(time.RFC3339))
	}
	switch o.Rework {
	case "", ReworkByAdministrator, ReworkBySite:
	default:
		return fmt.Errorf("order %q: unknown rework %q; known are %q and %q", o.Name, o.Rework, ReworkBySite, ReworkByAdministrator)
	}
	if o.MaxReplacements < 0 || o.MaxReplacements > MaxQuantity {
		return fmt.Errorf("order %q leaves %d replacements to its site: want between 1 and %d, or 0 for 2 %% of the quantity", o.Name, o.MaxReplacements, int64(MaxQuantity))
	}
	if err := o.Limits.check(); err != nil {
		return fmt.Errorf("order %q: %w", o.Name, err)
	}
	if o.Waste != "" && o.Waste != WasteCounts && o.Waste != WasteReturns {
		return fmt.Errorf("order %q: waste is %q: want %q or %q", o.Name, o.Waste, WasteCounts, WasteReturns)
	}
	return o.Identifiers.Check()
}

// Left is how many units may still be issued.
func (o *Order) Left() int64 { return o.Quantity - o.Issued - o.Wasted }

// wasted says how many of the units were, if any.
func (o *Order) wasted() string {
	if o.Wasted == 0 {
		return ""
	}
	return fmt.Sprintf(", %d of them by waste", o.Wasted)
}

// WastePolicy is what becomes of the unit of a record that is scrapped before
// power-on.
type WastePolicy string

const (
	// WasteCounts uses a unit up, as long as one is left: a factory cannot
	// declare waste and build others instead. It is the default.
	WasteCounts WastePolicy = "counts"
	// WasteReturns leaves the unit to another device.
	WasteReturns WastePolicy = "returns"
)

// Rework is who may replace a unit that failed after it was issued and
// before it was used, so that its unit of the order is free again.
type Rework string

const (
	ReworkByAdministrator Rework = "administrator" // also if nothing is said
	ReworkBySite          Rework = "site"          // the site's rigs, too
)

// MaxReplacements is the number that a planner gave or, for 0, 2 % of the
// order's quantity, rounded up.
func MaxReplacements(given, quantity int64) int64 { return cmp.Or(given, (quantity+49)/50) }

// Limits bound how many units of an order are issued in a time that ends
// now; 0 leaves a bound out. A device beyond one is held and comes again.
type Limits struct {
	PerHour     int64 `json:"perHour,omitempty"`
	PerDay      int64 `json:"perDay,omitempty"`
	RigPerHour  int64 `json:"rigPerHour,omitempty"`  // by each rig
	LinePerHour int64 `json:"linePerHour,omitempty"` // on each line, as records name it
}

// Any reports whether there is a bound at all.
func (l Limits) Any() bool { return l != Limits{} }

// Exceeded names the first bound that leaves no room for another unit, with
// its number, or is "".
func (l Limits) Exceeded(c Counters) string {
	for _, b := range [...]struct {
		bound, issued int64
		what          string
	}{
		{l.PerHour, c.OrderLastHour, "an hour"}, {l.PerDay, c.OrderLastDay, "a day"},
		{l.RigPerHour, c.RigLastHour, "an hour by one rig"}, {l.LinePerHour, c.LineLastHour, "an hour on one line"},
	} {
		if b.bound > 0 && b.issued >= b.bound {
			return fmt.Sprintf("%d units %s", b.bound, b.what)
		}
	}
	return ""
}

func (l Limits) check() error {
	for name, n := range map[string]int64{"perHour": l.PerHour, "perDay": l.PerDay, "rigPerHour": l.RigPerHour, "linePerHour": l.LinePerHour} {
		if n < 0 || n > MaxQuantity {
			return fmt.Errorf("limit %s is %d: want between 1 and %d, or 0 for none", name, n, int64(MaxQuantity))
		}
	}
	return nil
}

// MayBecome reports whether an order may change from its state to another.
func (o *Order) MayBecome(s OrderState) bool { return slices.Contains(orderMoves[o.State], s) }

// Identifiers lists what an order's units may be called. An empty list
// allows anything. Each entry is one identifier ("A-0001") or an inclusive
// range of two of equal length ("A-0001..A-0500"), compared byte by byte
// after normalization.
type Identifiers struct {
	Serials []string `json:"serials,omitempty"`
	MACs    []string `json:"macs,omitempty"`
	UIDs    []string `json:"uids,omitempty"`
}

// Check reports the first entry that is not an identifier or range.
func (ids Identifiers) Check() error {
	if n := len(ids.Serials) + len(ids.MACs) + len(ids.UIDs); n > MaxIdentifierRanges {
		return fmt.Errorf("%d identifier ranges are listed: at most %d are allowed", n, MaxIdentifierRanges)
	}
	_, err := ids.Compile()
	return err
}

// IdentifierSet is a compiled Identifiers, for checking many records.
type IdentifierSet struct{ serials, macs, uids []span }

type span struct{ from, to string }

// Compile normalizes and sorts the ranges.
func (ids Identifiers) Compile() (*IdentifierSet, error) {
	set := new(IdentifierSet)
	for _, part := range [...]struct {
		field   string
		entries []string
		into    *[]span
		one     func(string) (string, error)
	}{
		{"serial", ids.Serials, &set.serials, func(s string) (string, error) { id, err := Identity{Serial: s}.Normalize(); return id.Serial, err }},
		{"mac", ids.MACs, &set.macs, normalizeMAC},
		{"uid", ids.UIDs, &set.uids, func(s string) (string, error) { id, err := Identity{UID: s}.Normalize(); return id.UID, err }},
	} {
		for _, entry := range part.entries {
			sp, err := parseSpan(part.field, entry, part.one)
			if err != nil {
				return nil, err
			}
			*part.into = append(*part.into, sp)
		}
		slices.SortFunc(*part.into, func(a, b span) int { return strings.Compare(a.to, b.to) })
	}
	return set, nil
}

func parseSpan(field, entry string, normalize func(string) (string, error)) (span, error) {
	from, to, isRange := strings.Cut(entry, "..")
	if !isRange {
		to = from
	}
	f, err := normalize(from)
	if err != nil {
		return span{}, fmt.Errorf("identifier range %q: %w", entry, err)
	}
	t, err := normalize(to)
	if err != nil {
		return span{}, fmt.Errorf("identifier range %q: %w", entry, err)
	}
	switch {
	case f == "" || t == "":
		return span{}, fmt.Errorf("%s range %q is empty on one side: want FROM..TO or one identifier", field, entry)
	case len(f) != len(t):
		return span{}, fmt.Errorf("%s range %q: both ends must have the same length, or the order of identifiers is not what it looks like", field, entry)
	case f > t:
		return span{}, fmt.Errorf("%s range %q ends before it begins", field, entry)
	}
	return span{f, t}, nil
}

// Allows returns nil if every listed kind of identifier allows the identity,
// and otherwise an error that names the identifier.
func (s *IdentifierSet) Allows(id Identity) error {
	for _, part := range [...]struct {
		field, value string
		spans        []span
	}{{"serial", id.Serial, s.serials}, {"mac", id.MAC, s.macs}, {"uid", id.UID, s.uids}} {
		if len(part.spans) > 0 && !within(part.spans, part.value) {
			return fmt.Errorf("%s %q is not among the order's identifiers", part.field, part.value)
		}
	}
	return nil
}

// AllowsUID is Allows for a chip of which only the UID, in its canonical form,
// is known.
func (s *IdentifierSet) AllowsUID(uid string) error {
	return (&IdentifierSet{uids: s.uids}).Allows(Identity{UID: uid})
}

// within searches spans sorted by their end. Ranges may overlap, so it scans
// on from the first span that ends at or after the value; planners list a
// handful.
func within(spans []span, v string) bool {
	i, _ := slices.BinarySearchFunc(spans, v, func(sp span, v string) int { return strings.Compare(sp.to, v) })
	for ; i < len(spans); i++ {
		if len(spans[i].from) == len(v) && spans[i].from <= v && v <= spans[i].to {
			return true
		}
	}
	return false
}
