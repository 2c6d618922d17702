package soak

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/devicesim"
)

// order is a production order as the device side knows it.
type order struct {
	name, product  string
	quantity       int64
	came, admitted int64 // honest units
}

// ledger is what the devices were told, to be held against the database.
type ledger struct {
	mu     sync.Mutex
	orders map[string]*order
	// answered is the serial numbers of all certificates that devices were
	// answered; true for those that they hold at the end of their day.
	answered map[string]bool
	ended    map[string]int64 // days, by kind and verdict
	attempts int64
	renewed  int64
	records  int64
	wrong    []error
	more     int
}

func newLedger() *ledger {
	return &ledger{orders: map[string]*order{}, answered: map[string]bool{}, ended: map[string]int64{}}
}

func (l *ledger) expect(o *order) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.orders[o.name] = o
}

func (l *ledger) manifest(records int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records += int64(records)
}

// note takes down how a unit's day ended.
func (l *ledger) note(v visit, r devicesim.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended[v.kind.name+", "+r.Verdict]++
	l.attempts += int64(r.Attempts)
	l.renewed += int64(r.Renewed())
	for _, c := range r.Certificates {
		l.answered[string(c.SerialNumber.Bytes())] = false
	}
	if v.kind == honest {
		l.honest(v, r)
	} else if r.Verdict != v.kind.verdict || !strings.Contains(r.Text, v.kind.because) {
		l.complain("%s (%s) ended its day %s: %s", v.unit.Serial, v.kind.name, r.Verdict, r.Text)
	}
}

func (l *ledger) honest(v visit, r devicesim.Result) {
	v.order.came++
	switch {
	case r.Verdict == "admitted":
		v.order.admitted++
		c, err := v.unit.Store.Load(device.Official)
		if err != nil || c.Leaf() == nil {
			l.complain("%s was admitted and has no certificate: %v", v.unit.Serial, err)
			return
		}
		l.answered[string(c.Leaf().SerialNumber.Bytes())] = true
	case r.Verdict != "refused" || !strings.Contains(r.Text, "over-production"):
		l.complain("%s, honest, ended its day %s: %s", v.unit.Serial, r.Verdict, r.Text)
	}
}

func (l *ledger) complain(format string, args ...any) {
	if len(l.wrong) < maxTold {
		l.wrong = append(l.wrong, fmt.Errorf(format, args...))
	} else {
		l.more++
	}
}

// err is what devices met that they should not have.
func (l *ledger) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	errs := l.wrong
	if l.more > 0 {
		errs = append(errs, fmt.Errorf("and %d more such devices", l.more))
	}
	return errors.Join(errs...)
}

// days is how many units' days have ended.
func (l *ledger) days() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.ended {
		n += k
	}
	return n
}

func (l *ledger) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(l.ended)) {
		fmt.Fprintf(&b, "%s %d; ", k, l.ended[k])
	}
	fmt.Fprintf(&b, "%d attempts, %d renewals, %d records in %d orders", l.attempts, l.renewed, l.records, len(l.orders))
	return b.String()
}
