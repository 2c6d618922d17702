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
	// LostReplies and PowerCuts are what happens to honest units on the way;
	// see [Fleet].
	LostReplies, PowerCuts float64
	Out                    io.Writer
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
	mqttPart    = 5 // one in so many of the others speaks MQTT
)

// group is a row of the table: units that should all end the same way.
type group struct {
	name    string
	units   []*Unit
	want    string // verdict
	because string // part of the reason's text
	results []Result
	// mqtt has the units speak MQTT instead of EST.
	mqtt bool
	// day, if set, is what happens before the units power on.
	day func(context.Context) error
}

// Run plays the day and reports whether everything came out as it should.
func (d *Demo) Run(ctx context.Context) (bool, error) {
	lin, rig, err := d.prepare(ctx)
	if err != nil {
		return false, err
	}
	defer lin.Close()
	defer rig.Close()
	c, err := d.build(ctx, lin)
	if err != nil {
		return false, err
	}
	groups := d.groups(c, lin, rig)
	began := time.Now()
	if err := d.play(ctx, groups); err != nil {
		return false, err
	}
	good := d.table(groups)
	fine, err := d.secondAct(ctx, c.honest)
	if err != nil {
		return false, err
	}
	return d.report(ctx, good && fine, time.Since(began))
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

// cast is who appears in the demo.
type cast struct {
	factory                         Factory
	honest, over                    []*Unit
	wrong, unknown, draft, replayer *Unit
}

// build makes the units, and lin hands the manifests in.
func (d *Demo) build(ctx context.Context, lin *Operator) (*cast, error) {
	f := Factory{Prefix: "TH-", Block: 1, Now: time.Now}
	n := d.Quantity
	all, err := f.Build(0, n+d.Over+4)
	if err != nil {
		return nil, err
	}
	others := all[n+d.Over:]
	c := &cast{factory: f, honest: all[:n], over: all[n : n+d.Over],
		wrong: others[0], replayer: others[1], draft: others[2], unknown: others[3]}
	c.wrong.Listed = strings.Repeat("5a", 32) // some other key
	for _, m := range []struct {
		order string
		units []*Unit
	}{{demoOrder, all[:n+d.Over+2]}, {draftOrder, []*Unit{c.draft}}} {
		done, err := lin.HandIn(ctx, m.order, f.Manifest(m.units))
		if err != nil {
			return nil, err
		}
		d.say("The factory built %s; lin signs the manifest for %s and hands it in: %d records %s", count(len(m.units), "unit"), m.order, done.Fresh, done.State)
	}
	return c, nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// groups is the day's order.
func (d *Demo) groups(c *cast, lin, rig *Operator) []*group {
	byRig := min(rigShare, len(c.honest))
	byMQTT := byRig
	if d.Server.MQTT != "" {
		byMQTT += (len(c.honest) - byRig) / mqttPart
	}
	victim := c.honest[len(c.honest)-1]
	clone, twin, replayer := new(Unit), new(Unit), c.replayer
	return []*group{
		{name: "honest, by a rig during QA", units: c.honest[:byRig], want: "admitted",
			day: func(ctx context.Context) error { return d.qualityCheck(ctx, rig, c.honest[:byRig]) }},
		{name: "honest, over MQTT", units: c.honest[byRig:byMQTT], want: "admitted", mqtt: true},
		{name: "honest, at first power-on", units: c.honest[byMQTT:], want: "admitted"},
		{name: "over-production", units: c.over, want: "refused", because: "over-production"},
		{name: "in no manifest", units: []*Unit{c.unknown}, want: "refused", because: "No manufacturing record"},
		{name: "record with the wrong key", units: []*Unit{c.wrong}, want: "refused", because: "another bootstrap key"},
		{name: "clone of a unit in service", units: []*Unit{clone}, want: "refused", because: "no longer counts",
			day: func(context.Context) error { return cloneInto(clone, victim) }},
		{name: "second unit of one serial number", units: []*Unit{twin}, want: "refused", because: "Another record already holds",
			day: func(ctx context.Context) error { return d.handInTwin(ctx, lin, c.factory, twin, victim) }},
		{name: "replay of another's request", units: []*Unit{replayer}, want: "refused", because: "already belongs to another device",
			day: func(context.Context) error { return catchRequest(replayer, victim) }},
		{name: "of an order still in draft", units: []*Unit{c.draft}, want: "held", because: "still a draft"},
		{name: "… after the planner let it in", units: []*Unit{c.draft}, want: "admitted", day: d.letIn},
	}
}

// play runs the groups in turn.
func (d *Demo) play(ctx context.Context, groups []*group) error {
	d.say("")
	for _, g := range groups {
		if g.day != nil {
			if err := g.day(ctx); err != nil {
				return fmt.Errorf("%s: %w", g.name, err)
			}
		}
		d.powerOn(ctx, g)
	}
	return nil
}

// qualityCheck has the rig register units in turn through the API and over
// EST.
func (d *Demo) qualityCheck(ctx context.Context, rig *Operator, units []*Unit) error {
	for i, u := range units {
		if i%2 == 0 {
			r, err := rig.Register(ctx, d.Server, u)
			if err != nil {
				return err
			}
			d.say("rig-7 registers %s through the API: %s. %s", u.Serial, r.Verdict, r.Text())
			continue
		}
		cert, err := rig.RegisterOverEST(ctx, d.Server, u)
		if err != nil {
			return err
		}
		d.say("rig-7 registers %s over EST: certificate %x", u.Serial, cert.SerialNumber)
	}
	return nil
}

func (d *Demo) powerOn(ctx context.Context, g *group) {
	var mu sync.Mutex
	began, told := time.Now(), 0
	fleet := Fleet{Servers: []Server{d.Server}, Units: g.units, Workers: d.Workers, Activate: true, OverMQTT: g.mqtt, Retry: 200 * time.Millisecond,
		Progress: func(done, total int, _ Result) {
			mu.Lock()
			defer mu.Unlock()
			line := fmt.Sprintf("%-32s %4d of %4d powered on, %4.0f/s", g.name, done, total, float64(done)/time.Since(began).Seconds())
			switch {
			case d.Live:
				fmt.Fprintf(d.Out, "\r%s", line)
				if done == total {
					fmt.Fprintln(d.Out)
				}
			case done == total || done >= told+max(20, total/5):
				told = done
				d.say("%s", line)
			}
		}}
	if g.want == "admitted" {
		fleet.LostReplies, fleet.PowerCuts = d.LostReplies, d.PowerCuts
	}
	g.results = fleet.Run(ctx)
}

// cloneInto copies what an attacker reads out of a unit before its first
// power-on: the bootstrap key and certificate.
func cloneInto(clone, u *Unit) error {
	c, err := u.Store.Load(device.Bootstrap)
	if err != nil {
		return err
	}
	store := new(device.MemoryStore)
	store.Put(device.Bootstrap, *c)
	*clone = *u
	clone.Store = store
	return nil
}

// handInTwin makes and lists a unit with a key of its own under the names of
// another.
func (d *Demo) handInTwin(ctx context.Context, lin *Operator, f Factory, twin, u *Unit) error {
	*twin = Unit{Serial: u.Serial, MAC: u.MAC, UID: u.UID, Store: new(device.MemoryStore)}
	if err := f.key(twin); err != nil {
		return err
	}
	done, err := lin.HandIn(ctx, demoOrder, f.Manifest([]*Unit{twin}))
	if err != nil {
		return err
	}
	d.say("lin hands in a record that names %s again, with another key: %d disputed", twin.Serial, done.Disputed)
	return nil
}

// catchRequest gives a unit what another sent at its first power-on.
func catchRequest(replayer, u *Unit) error {
	official, err := u.Store.Load(device.Official)
	if err != nil {
		return err
	}
	replayer.Replays, err = device.NewCSR(official.Key, u.Serial)
	return err
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
