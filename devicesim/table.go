package devicesim

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// report ends the day: the orders, the log, and whether all came out as it
// should.
func (d *Demo) report(ctx context.Context, good bool, took time.Duration) (bool, error) {
	full, err := d.quotas(ctx)
	if err != nil {
		return false, err
	}
	good = good && full
	checkpoint, err := d.checkpoint(ctx)
	if err != nil {
		return false, err
	}
	d.say("Audit log's checkpoint:\n    %s", strings.ReplaceAll(strings.TrimSpace(checkpoint), "\n", "\n    "))
	if good {
		d.say("\nAll came out right, in %s.", took.Round(10*time.Millisecond))
	} else {
		d.say("\nNot everything came out right: see the lines marked with !")
	}
	return good, nil
}

// checkpoint is the first one that covers the newest registration.
func (d *Demo) checkpoint(ctx context.Context) (string, error) {
	var newest struct{ Items []struct{ Leaf int64 } }
	if err := d.Admin.Do(ctx, http.MethodGet, "/registrations?limit=1", nil, &newest); err != nil {
		return "", err
	}
	if len(newest.Items) == 0 {
		return d.Admin.Checkpoint(ctx)
	}
	return d.Admin.CheckpointOver(ctx, newest.Items[0].Leaf)
}

// table says of each group who was admitted, held and refused, and why. A
// group that did not end as it should is marked.
func (d *Demo) table(groups []*group) bool {
	good := true
	var honest []Result
	d.say("\n  %-32s %8s %8s %8s %8s", "", "admitted", "held", "refused", "failed")
	for _, g := range groups {
		sum, mark := Summarize(g.results), " "
		if !g.asItShould() {
			good, mark = false, "!"
		}
		d.say("%s %-32s %8d %8d %8d %8d", mark, g.name, sum.Verdicts["admitted"], sum.Verdicts["held"], sum.Verdicts["refused"], sum.Verdicts["failed"])
		for _, reason := range sum.Reasons {
			d.say("      %s", reason.Text)
		}
		if g.want == "admitted" && g.day == nil {
			honest = append(honest, g.results...)
		}
	}
	sum := Summarize(honest)
	d.say("\n%s lost an answer or power on the way and came again.", count(sum.Again, "honest unit"))
	d.say("First enrolment, from the connection to the certificate in use:\n%s", strings.TrimRight(sum.Latency.String(), "\n"))
	return good
}

func (g *group) asItShould() bool {
	for _, r := range g.results {
		if r.Verdict != g.want || !strings.Contains(r.Text, g.because) {
			return false
		}
	}
	return len(g.results) == len(g.units)
}

// quotas shows the orders, and reports whether exactly what was ordered was
// issued.
func (d *Demo) quotas(ctx context.Context) (bool, error) {
	good := true
	for _, order := range []struct {
		name string
		want int
	}{{demoOrder, d.Quantity}, {draftOrder, 1}} {
		var o struct{ Quantity, Issued int }
		if err := d.Admin.Do(ctx, http.MethodGet, "/orders/"+order.name, nil, &o); err != nil {
			return false, err
		}
		mark := ""
		if o.Issued != order.want {
			good, mark = false, "  !"
		}
		d.say("Quota of %s: %d of %d issued%s", order.name, o.Issued, o.Quantity, mark)
	}
	return good, nil
}
