package vetting

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// JobAction is what a job does to each of its devices.
type JobAction string

const (
	JobRevoke     JobAction = "revoke"     // end its certificates
	JobSuspend    JobAction = "suspend"    // out of service for a while
	JobResume     JobAction = "resume"     // back from that
	JobQuarantine JobAction = "quarantine" // lock what may be counterfeit
	JobRelease    JobAction = "release"    // back from that
	JobRetire     JobAction = "retire"     // out of service for good
	JobScrap      JobAction = "scrap"      // destroyed
	JobRenew      JobAction = "renew"      // ask for an early renewal
)

// JobActions lists every action.
var JobActions = []JobAction{JobRevoke, JobSuspend, JobResume, JobQuarantine, JobRelease, JobRetire, JobScrap, JobRenew}

// Selection says which devices a job is about: those that meet all of it.
// Times are from one on and before the other; a zero time leaves that side
// open.
type Selection struct {
	// All must be said to mean every device there is.
	All              bool        `json:"all,omitempty"`
	Site             string      `json:"site,omitempty"`
	Order            string      `json:"order,omitempty"`
	Product          string      `json:"product,omitempty"`
	Owner            string      `json:"owner,omitempty"`
	State            DeviceState `json:"state,omitempty"`
	HardwareRevision string      `json:"hardwareRevision,omitempty"`
	Firmware         string      `json:"firmware,omitempty"` // that it was made with
	Line             string      `json:"line,omitempty"`
	MadeFrom         time.Time   `json:"madeFrom,omitzero"` // as its record says
	MadeBefore       time.Time   `json:"madeBefore,omitzero"`
	IssuedFrom       time.Time   `json:"issuedFrom,omitzero"` // its first certificate
	IssuedBefore     time.Time   `json:"issuedBefore,omitzero"`
	Issuer           string      `json:"issuer,omitempty"` // of its present certificate
	CertifiedFrom    time.Time   `json:"certifiedFrom,omitzero"`
	CertifiedBefore  time.Time   `json:"certifiedBefore,omitzero"` // its present certificate
	Identifiers      Identifiers `json:"identifiers,omitzero"`
}

// MaxSelected bounds the identifiers that a selection lists.
const MaxSelected = 200_000

// Empty reports whether the selection narrows nothing.
func (s *Selection) Empty() bool {
	ids := s.Identifiers
	return s.Site+s.Order+s.Product+s.Owner+string(s.State)+s.HardwareRevision+s.Firmware+s.Line+s.Issuer == "" && s.CertifiedFrom.IsZero() && s.CertifiedBefore.IsZero() &&
		s.MadeFrom.IsZero() && s.MadeBefore.IsZero() && s.IssuedFrom.IsZero() && s.IssuedBefore.IsZero() &&
		len(ids.Serials)+len(ids.MACs)+len(ids.UIDs) == 0
}

func (s *Selection) check() error {
	switch ids := s.Identifiers; {
	case s.Empty() && !s.All:
		return fmt.Errorf("nothing says which devices are meant: narrow them down, or say that all are")
	case s.All && !s.Empty():
		return fmt.Errorf("all devices are meant, and then only some: leave one of the two out")
	case len(ids.Serials)+len(ids.MACs)+len(ids.UIDs) > MaxSelected:
		return fmt.Errorf("%d identifiers are listed: at most %d are allowed in one job", len(ids.Serials)+len(ids.MACs)+len(ids.UIDs), MaxSelected)
	case s.State != "" && !slices.Contains(DeviceStates, s.State):
		return fmt.Errorf("there is no state %q", s.State)
	}
	for _, w := range [...]struct {
		what         string
		from, before time.Time
	}{{"made", s.MadeFrom, s.MadeBefore}, {"issued", s.IssuedFrom, s.IssuedBefore}, {"certified", s.CertifiedFrom, s.CertifiedBefore}} {
		if !w.from.IsZero() && !w.before.IsZero() && !w.before.After(w.from) {
			return fmt.Errorf("%s from %s and before %s: no time is both", w.what, stamp(w.from), stamp(w.before))
		}
	}
	_, err := s.Identifiers.Compile()
	return err
}

// Made reports whether a record's manufacturing data are selected.
func (s *Selection) Made(m *Manufacturing) bool {
	return (s.HardwareRevision == "" || m.HardwareRevision == s.HardwareRevision) &&
		(s.Firmware == "" || m.Firmware == s.Firmware) && (s.Line == "" || m.Line == s.Line) &&
		(s.MadeFrom.IsZero() || !m.Time.IsZero() && !m.Time.Before(s.MadeFrom)) &&
		(s.MadeBefore.IsZero() || !m.Time.IsZero() && m.Time.Before(s.MadeBefore))
}

// Task is what a job is to do, to which devices.
type Task struct {
	Action JobAction `json:"action"`
	// Reason is for revocations.
	Reason RevocationReason `json:"reason,omitempty"`
	// Start and SpreadSeconds are for renewals: from when on (zero for the
	// job's start), and over how long a time.
	Start         time.Time `json:"start,omitzero"`
	SpreadSeconds int64     `json:"spreadSeconds,omitempty"`
	// Note says why, for the audit log.
	Note     string    `json:"note"`
	Selected Selection `json:"selected"`
}

// Bounds of a renewal's spread.
const (
	MinSpread = time.Hour
	MaxSpread = 366 * 24 * time.Hour
)

// Spread is over how long a time renewals are spread.
func (t *Task) Spread() time.Duration { return time.Duration(t.SpreadSeconds) * time.Second }

// Check reports, as an Invalid, the first thing wrong with the task.
func (t *Task) Check() error {
	switch {
	case !slices.Contains(JobActions, t.Action):
		return Errorf(Invalid, "there is no action %q", t.Action)
	case t.Action == JobRevoke:
		if _, err := t.Reason.Code(); err != nil {
			return err
		}
	case t.Reason != "":
		return Errorf(Invalid, "a reason is for revocations, not to %s: say why in the note", t.Action)
	case t.Action == JobRenew && (t.SpreadSeconds < int64(MinSpread/time.Second) || t.SpreadSeconds > int64(MaxSpread/time.Second)):
		return Errorf(Invalid, "renewals are spread over %d seconds: want between an hour and 366 days", t.SpreadSeconds)
	}
	if t.Action != JobRenew && (t.SpreadSeconds != 0 || !t.Start.IsZero()) {
		return Errorf(Invalid, "start and spread are for renewals, not to %s", t.Action)
	}
	if strings.TrimSpace(t.Note) == "" {
		return Errorf(Invalid, "the note is empty: say why, for the audit log")
	}
	if err := t.Selected.check(); err != nil {
		return Errorf(Invalid, "%v", err)
	}
	return nil
}

// Prospect is what a job looks at of a device.
type Prospect struct {
	State  DeviceState
	Before DeviceState
	// Revocable is how many certificates a revocation would end.
	Revocable int
	// Certified tells whether there was a certificate at all.
	Certified bool
	// Renewable tells whether the current certificate can be renewed.
	Renewable bool
}

// moves are the actions that move a device to a state.
var moves = map[JobAction]DeviceState{
	JobSuspend: DeviceSuspended, JobResume: DeviceActive, JobQuarantine: DeviceQuarantined, JobRetire: DeviceRetired, JobScrap: DeviceScrapped,
}

// Effect says what an action makes of a device: the state that it moves to,
// "" if it stays; or why nothing becomes of it.
func (a JobAction) Effect(p Prospect) (to DeviceState, why string) {
	switch a {
	case JobRevoke:
		switch {
		case p.Revocable > 0:
			return "", ""
		case p.Certified:
			return "", "its certificates are revoked already"
		}
		return "", "it has no certificate"
	case JobRenew:
		if p.Renewable && p.State.InService() {
			return "", ""
		}
		return "", "it has no certificate that it could renew"
	case JobResume:
		if p.State != DeviceSuspended {
			return "", "it is not suspended"
		}
	case JobRelease:
		if p.State != DeviceQuarantined {
			return "", "it is not in quarantine"
		}
		return p.Before, ""
	}
	to = moves[a]
	switch d := (&Device{State: p.State, Before: p.Before}); {
	case to == p.State:
		return "", "it is " + string(to) + " already"
	case !d.MayBecome(to):
		return "", "it cannot become " + string(to)
	}
	return to, ""
}

// JobState is where a job stands.
type JobState string

const (
	JobPlanned   JobState = "planned"   // a dry run; nothing is done
	JobRunning   JobState = "running"   // some server works on it
	JobDone      JobState = "done"      // every device had its turn
	JobCancelled JobState = "cancelled" // stopped; may be resumed
)

// PlanLife is how long a plan may be confirmed.
const PlanLife = 24 * time.Hour

// Job is a task as it was planned, and how far it is.
type Job struct {
	ID    int64    `json:"id"`
	State JobState `json:"state"`
	Task
	// Listed is how many identifiers the selection listed one by one, Unknown
	// those of them that no record has: at most MaxUnknown are named.
	Listed       int      `json:"listed,omitempty"`
	Unknown      []string `json:"unknown,omitempty"`
	UnknownCount int      `json:"unknownCount,omitempty"`
	By           string   `json:"by"`
	// Found is what the dry run found, Digest names exactly that.
	Found  JobCount `json:"found"`
	Digest string   `json:"digest"`
	// Sample are the first devices that would change; in a new plan only.
	Sample []*JobDevice `json:"sample,omitempty"`
	// Worked is what the job has done so far.
	Worked  JobCount  `json:"worked"`
	Created time.Time `json:"created"`
	Started time.Time `json:"started,omitzero"`
	Updated time.Time `json:"updated"`
}

// MaxUnknown and MaxSample bound what a plan shows.
const (
	MaxUnknown = 20
	MaxSample  = 10
)

// JobCount counts devices.
type JobCount struct {
	Devices int64 `json:"devices"` // that were selected
	Changes int64 `json:"changes"` // of those, that change
	// Kept are the others, by state and by why nothing becomes of them.
	Kept []JobKept `json:"kept,omitempty"`
}

// JobKept counts devices that a job leaves as they are.
type JobKept struct {
	State   DeviceState `json:"state"`
	Why     string      `json:"why"`
	Devices int64       `json:"devices"`
}

// Add counts a device; why is "" for one that changes.
func (c *JobCount) Add(s DeviceState, why string) {
	c.Devices++
	if why == "" {
		c.Changes++
		return
	}
	i := slices.IndexFunc(c.Kept, func(k JobKept) bool { return k.State == s && k.Why == why })
	if i < 0 {
		i = len(c.Kept)
		c.Kept = append(c.Kept, JobKept{State: s, Why: why})
	}
	c.Kept[i].Devices++
}

// JobDevice is a selected device and what the job would make of it now.
type JobDevice struct {
	ID int64 `json:"id"`
	Identity
	State DeviceState `json:"state"`
	// Becomes is the state that it would move to, if it moves.
	Becomes DeviceState `json:"becomes,omitempty"`
	// Kept is why nothing becomes of it.
	Kept string `json:"kept,omitempty"`
}

// RenewalSlot is when the k-th of n renewals of a task should happen: each
// has its own part of the spread, which begins at start, but is not stretched
// beyond a certificate's end.
func (t *Task) RenewalSlot(start, notAfter time.Time, k, n int64) (from, until time.Time) {
	spread := min(t.Spread(), notAfter.Sub(start)/10*9)
	n = max(n, 1)
	slot := max(spread/time.Duration(n), time.Minute)
	from = start.Add(time.Duration(float64(spread) * float64(k%n) / float64(n)))
	return from, from.Add(slot)
}
