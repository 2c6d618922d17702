package rules

import (
	"slices"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// Trial runs rules over past registrations, oldest first: what would they
// have done?
type Trial struct {
	set      *Set
	product  string
	paces    map[int64]vetting.Pace
	attempts map[int64]vetting.Counters // by device

	// Looked is how many devices were admitted; Held and Refused are how many
	// of them the rules would have kept out, Cases the first of these.
	Looked  int64  `json:"looked"`
	Held    int64  `json:"held"`
	Refused int64  `json:"refused"`
	Cases   []Case `json:"cases"`
}

// Case is a device that was let in and would not have been.
type Case struct {
	Registration int64           `json:"registration"`
	At           time.Time       `json:"at"`
	Device       int64           `json:"device"`
	Serial       string          `json:"serial"`
	Order        string          `json:"order"`
	Verdict      vetting.Outcome `json:"verdict"`
	Reasons      []string        `json:"reasons"`
}

// maxCases bounds the cases that a trial lists.
const maxCases = 100

// NewTrial tries rules of a product.
func NewTrial(set *Set, product string) *Trial {
	return &Trial{set: set, product: product, paces: map[int64]vetting.Pace{}, attempts: map[int64]vetting.Counters{}, Cases: []Case{}}
}

// Next takes the next registration. What was issued before the first one is
// not counted, so rules over an hour or a day see too little at first.
func (t *Trial) Next(p vetting.Past) error {
	r := p.Registration
	if r.Claim.Auth.Proof == vetting.ProofOfficial {
		return nil
	}
	f := &vetting.Facts{Now: r.At, Claim: r.Claim, Record: p.Record, Order: p.Order, OnSite: p.OnSite, Device: &vetting.Device{Test: p.Test}}
	pace := t.paces[p.Order.ID]
	if pace == nil {
		pace = vetting.Pace{}
		t.paces[p.Order.ID] = pace
	}
	f.Counters = pace.Counters(f, r.At)
	before := t.attempts[p.Record.ID]
	f.Counters.Attempts, f.Counters.Refusals = before.Attempts, before.Refusals
	before.Attempts += 1 + r.Repeats
	if r.Outcome == vetting.Refused {
		before.Refusals += 1 + r.Repeats
	}
	t.attempts[p.Record.ID] = before
	first := slices.ContainsFunc(r.Reasons, func(r vetting.Reason) bool { return r.Code == vetting.ReasonVetted })
	if r.Outcome != vetting.Admitted || !first {
		return nil
	}
	t.Looked++
	t.judge(f, p)
	for _, scope := range vetting.Scopes(f) {
		pace.Add(scope, vetting.Slot(r.At), 1)
	}
	return nil
}

func (t *Trial) judge(f *vetting.Facts, p vetting.Past) {
	broken := t.set.Broken(f)
	if len(broken) == 0 {
		return
	}
	c := Case{Registration: p.Registration.ID, At: p.Registration.At, Device: p.Record.ID, Serial: p.Record.Serial, Order: p.Order.Name, Verdict: vetting.Held}
	for _, b := range broken {
		c.Reasons = append(c.Reasons, b.Text(t.product, 0))
		if b.Rule.Otherwise == vetting.Refused {
			c.Verdict = vetting.Refused
		}
	}
	if c.Verdict == vetting.Refused {
		t.Refused++
	} else {
		t.Held++
	}
	if len(t.Cases) < maxCases {
		t.Cases = append(t.Cases, c)
	}
}
