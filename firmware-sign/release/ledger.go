package release

import "fmt"

// Filter narrows a list of releases; empty fields do not.
type Filter struct {
	Product, Version string
	State            State
}

// Policy is what holds for all releases of a product.
type Policy struct {
	// Floor is the least security counter that devices should accept.
	Floor uint32 `json:"floor" doc:"The least security counter that a release may have"`
	// Approvals is how many others must approve a release, its yanking, a
	// higher floor, or the revocation of a production key. It only grows.
	Approvals int   `json:"approvals" minimum:"1" maximum:"8" doc:"How many others must approve"`
	Revision  int64 `json:"revision" doc:"Grows with every change"`
}

// DefaultPolicy holds for a product that nothing was said about.
var DefaultPolicy = Policy{Approvals: 2}

// Ledger is what a new release of a product is held to.
type Ledger struct {
	Floor   uint32
	newest  string // published version
	counter uint32 // the highest of what was approved
	by      string // the version that has it
}

// Add enters a release that is no draft any more.
func (l *Ledger) Add(version string, state State, counter uint32) {
	if state == Published && (l.newest == "" || CompareVersions(version, l.newest) > 0) {
		l.newest = version
	}
	if counter >= l.counter {
		l.counter, l.by = counter, version
	}
}

// Takes reports why a release cannot follow on what the ledger has: its
// counter is below the floor or went back, or its version did.
func (l *Ledger) Takes(r *Release) error {
	switch {
	case r.Counter < l.Floor:
		return fmt.Errorf("the security counter %d is below the floor of %s, which is %d: devices would refuse it", r.Counter, r.Product, l.Floor)
	case r.Counter < l.counter:
		return fmt.Errorf("the security counter %d goes back: release %s has %d, and devices that run it would refuse this one", r.Counter, l.by, l.counter)
	case l.newest != "" && !r.Maintenance && CompareVersions(r.Version, l.newest) < 0:
		return fmt.Errorf("the version %s goes back: %s is published; say so if it is for an older line (maintenance)", r.Version, l.newest)
	}
	return nil
}
