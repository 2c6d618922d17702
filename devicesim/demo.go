package devicesim

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/touchmark/touchmark/device"
)

// Demo is a day at a factory, told for a person.
type Demo struct {
	Server   Server
	Admin    *Operator
	Quantity int
	// Over is how many units are built beyond the order.
	Over    int
	Workers int
	Out     io.Writer
	// Live redraws one progress line; otherwise progress is told in lines.
	Live bool
}

// Names of what the demo creates.
const (
	demoProduct = "thermostat"
	demoSite    = "hsinchu"
	demoOrder   = "PO-1001"
	draftOrder  = "PO-1002"
	rigShare    = 5 // units that a rig registers during QA
)

// group is a row of the table: units that should all end the same way.
type group struct {
	name    string
	units   []*Unit
	want    string // verdict
	because string // part of the reason's text
	results []Result
}

// Run plays the day and reports whether everything came out as it should.
func (d *Demo) Run(ctx context.Context) (bool, error) {
	lin, rig, err := d.prepare(ctx)
	if err != nil {
		return false, err
	}
	defer lin.Close()
	defer rig.Close()
	groups, err := d.build(ctx, lin)
	if err != nil {
		return false, err
	}
	began := time.Now()
	latency, err := d.play(ctx, rig, groups)
	if err != nil {
		return false, err
	}
	return d.report(ctx, groups, latency, time.Since(began))
}

func (d *Demo) say(format string, args ...any) { fmt.Fprintf(d.Out, format+"\n", args...) }

// prepare creates the product, site, orders and the factory's people.
func (d *Demo) prepare(ctx context.Context) (lin, rig *Operator, err error) {
	type object = map[string]any
	for _, step := range []struct {
		path string
		body object
		said string
	}{
		{"/products", object{"name": demoProduct, "profile": object{"validity": "825d"}, "proofs": []string{"bootstrap-key", "rig"}},
			"The planner creates product " + demoProduct},
		{"/sites", object{"name": demoSite}, "… site " + demoSite},
		{"/orders", object{"name": demoOrder, "product": demoProduct, "site": demoSite, "quantity": d.Quantity, "state": "open"},
			fmt.Sprintf("… opens order %s for %d units", demoOrder, d.Quantity)},
		{"/orders", object{"name": draftOrder, "product": demoProduct, "site": demoSite, "quantity": 10},
			"… and drafts order " + draftOrder + " for 10 more"},
	} {
		if err := d.Admin.Do(ctx, http.MethodPost, step.path, step.body, nil); err != nil {
			return nil, nil, err
		}
		d.say("%s", step.said)
	}
	if lin, err = d.Admin.Hire(ctx, "lin", "site-operator", demoSite); err != nil {
		return nil, nil, err
	}
	if rig, err = d.Admin.Hire(ctx, "rig-7", "rig", demoSite); err != nil {
		return nil, nil, err
	}
	d.say("… gives site operator lin and rig-7 of %s their certificates", demoSite)
	return lin, rig, nil
}

// build makes the units, and lin hands the manifests in.
func (d *Demo) build(ctx context.Context, lin *Operator) ([]*group, error) {
	f := Factory{Prefix: "TH-", Block: 1, Now: time.Now}
	n := d.Quantity
	all, err := f.Build(0, n+d.Over+3)
	if err != nil {
		return nil, err
	}
	honest, over, wrong, draft, unknown := all[:n], all[n:n+d.Over], all[n+d.Over], all[n+d.Over+1], all[n+d.Over+2]
	wrong.Listed = strings.Repeat("5a", 32) // some other key
	listed := append(append([]*Unit{}, all[:n+d.Over]...), wrong)
	for _, m := range []struct {
		order string
		units []*Unit
	}{{demoOrder, listed}, {draftOrder, []*Unit{draft}}} {
		done, err := lin.HandIn(ctx, m.order, f.Manifest(m.units))
		if err != nil {
			return nil, err
		}
		d.say("The factory built %d units; lin signs the manifest for %s and hands it in: %d records %s", len(m.units), m.order, done.Fresh, done.State)
	}
	return []*group{
		{name: "honest, by a rig during QA", units: honest[:min(rigShare, n)], want: "admitted"},
		{name: "honest, at first power-on", units: honest[min(rigShare, n):], want: "admitted"},
		{name: "over-production", units: over, want: "refused", because: "over-production"},
		{name: "in no manifest", units: []*Unit{unknown}, want: "refused", because: "No manufacturing record"},
		{name: "record with the wrong key", units: []*Unit{wrong}, want: "refused", because: "another bootstrap key"},
		{name: "clone of a unit in service", want: "refused", because: "no longer counts"},
		{name: "of an order still in draft", units: []*Unit{draft}, want: "held", because: "still a draft"},
		{name: "… after the planner let it in", want: "admitted"},
	}, nil
}

// play runs the groups in turn.
func (d *Demo) play(ctx context.Context, rig *Operator, groups []*group) (*Histogram, error) {
	d.say("")
	if err := d.qualityCheck(ctx, rig, groups[0]); err != nil {
		return nil, err
	}
	latency := new(Histogram)
	d.powerOn(ctx, groups[1], latency)
	for _, g := range groups[2:5] {
		d.powerOn(ctx, g, nil)
	}
	clone, err := cloneOf(groups[1].units[0])
	if err != nil {
		return nil, err
	}
	groups[5].units = []*Unit{clone}
	d.powerOn(ctx, groups[5], nil)
	d.powerOn(ctx, groups[6], nil)
	if err := d.letIn(ctx); err != nil {
		return nil, err
	}
	groups[7].units = groups[6].units
	d.powerOn(ctx, groups[7], nil)
	return latency, nil
}

func (d *Demo) qualityCheck(ctx context.Context, rig *Operator, g *group) error {
	for _, u := range g.units {
		r, err := rig.Register(ctx, u)
		if err != nil {
			return err
		}
		result := Result{Unit: u, Verdict: r.Verdict}
		for _, reason := range r.Reasons {
			result.Text += reason.Text
		}
		g.results = append(g.results, result)
		d.say("rig-7 registers %s in QA: %s", u.Serial, r.Verdict)
	}
	return nil
}

func (d *Demo) powerOn(ctx context.Context, g *group, latency *Histogram) {
	var mu sync.Mutex
	began, told := time.Now(), 0
	fleet := Fleet{Servers: []Server{d.Server}, Units: g.units, Workers: d.Workers, Activate: true, Retry: 200 * time.Millisecond,
		Progress: func(done, total int, r Result) {
			mu.Lock()
			defer mu.Unlock()
			if latency != nil {
				latency.Add(r.Took)
			}
			line := fmt.Sprintf("%-32s %4d of %4d powered on, %4.0f/s", g.name, done, total, float64(done)/time.Since(began).Seconds())
			switch {
			case d.Live:
				fmt.Fprintf(d.Out, "\r%s", line)
				if done == total {
					fmt.Fprintln(d.Out)
				}
			case done == total || done >= told+max(1, total/5):
				told = done
				d.say("%s", line)
			}
		}}
	g.results = fleet.Run(ctx)
}

// cloneOf copies what an attacker reads out of a unit before its first
// power-on: the bootstrap key and certificate.
func cloneOf(u *Unit) (*Unit, error) {
	c, err := u.Store.Load(device.Bootstrap)
	if err != nil {
		return nil, err
	}
	clone := *u
	clone.Store = new(device.MemoryStore)
	clone.Store.Put(device.Bootstrap, *c)
	return &clone, nil
}

// letIn decides the only held registration.
func (d *Demo) letIn(ctx context.Context) error {
	var list struct{ Items []struct{ ID int64 } }
	if err := d.Admin.Do(ctx, http.MethodGet, "/registrations?verdict=held", nil, &list); err != nil {
		return err
	}
	if len(list.Items) != 1 {
		return fmt.Errorf("%d registrations are held instead of one", len(list.Items))
	}
	return d.Admin.Do(ctx, http.MethodPost, fmt.Sprintf("/registrations/%d/decision", list.Items[0].ID),
		map[string]any{"admit": true, "note": "pilot unit for the next order"}, nil)
}

// report prints the table and holds it against what should have come out.
func (d *Demo) report(ctx context.Context, groups []*group, latency *Histogram, took time.Duration) (bool, error) {
	good := true
	d.say("\n%-32s %8s %8s %8s %8s", "", "admitted", "held", "refused", "failed")
	for _, g := range groups {
		counts := map[string]int{}
		text := ""
		for _, r := range g.results {
			counts[r.Verdict]++
			if r.Text != "" {
				text = r.Text
			}
			if r.Verdict != g.want || !strings.Contains(r.Text, g.because) {
				good = false
			}
		}
		d.say("%-32s %8d %8d %8d %8d", g.name, counts["admitted"], counts["held"], counts["refused"], counts["failed"])
		if text != "" {
			d.say("    %s", text)
		}
	}
	d.say("\nFirst enrolment, from the connection to the certificate in use:\n%s", strings.TrimRight(latency.String(), "\n"))
	for _, order := range []struct {
		name string
		want int
	}{{demoOrder, d.Quantity}, {draftOrder, 1}} {
		var o struct{ Quantity, Issued int }
		if err := d.Admin.Do(ctx, http.MethodGet, "/orders/"+order.name, nil, &o); err != nil {
			return false, err
		}
		d.say("Quota of %s: %d of %d issued", order.name, o.Issued, o.Quantity)
		good = good && o.Issued == order.want
	}
	checkpoint, err := d.Admin.Checkpoint(ctx)
	if err != nil {
		return false, err
	}
	d.say("Audit log's checkpoint:\n    %s", strings.ReplaceAll(strings.TrimSpace(checkpoint), "\n", "\n    "))
	if good {
		d.say("\nAll came out right, in %s.", took.Round(10*time.Millisecond))
	} else {
		d.say("\nNot everything came out right: see the table.")
	}
	return good, nil
}
