package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

// tenRules are what a strict product may have: all of them let every device
// of the run pass.
var tenRules = []string{
	`record.serial.startsWith("SN")`,
	`record.line == "" || record.line.startsWith("line-")`,
	`record.hardware_revision != "A"`,
	`claim.proof in ["bootstrap-key", "rig"]`,
	`claim.transport == "est" && claim.remote != ""`,
	`order.product == "thermo" && order.issued < order.quantity`,
	`now > timestamp("2026-01-01T00:00:00Z")`,
	`!has(record.tests.failed)`,
	`history.order_last_hour < 1000000 && history.line_last_hour < 1000000`,
	`history.refusals < 3 || claim.site == order.site`,
}

// rules measures what ten rules cost: the same devices, half of them before
// the product has rules, in turns.
func (b *bench) rules(ctx context.Context, db string, t *table) error {
	r := row{name: "first enrolments with ten rules, " + db, limit: "without rules", wanted: 0.95}
	for range b.runs {
		plain, ruled, err := b.measureRules(ctx, db)
		if err != nil {
			return err
		}
		r.add(ruled, plain)
	}
	t.rows = append(t.rows, r)
	return nil
}

func (b *bench) measureRules(ctx context.Context, db string) (plain, ruled float64, err error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	w, drop, err := b.world(ctx, db, filepath.Join(dir, "touchmark"), 2*b.units)
	if err != nil {
		return 0, 0, err
	}
	defer drop()
	devices, err := w.alone(ctx, 0, b.units)
	if err != nil {
		return 0, 0, err
	}
	const turns = 6
	var took [2]float64 // seconds without and with rules
	share := len(devices) / turns
	for turn := range turns {
		with := turn % 2
		if err := w.setRules(ctx, tenRules[:with*len(tenRules)]); err != nil {
			return 0, 0, err
		}
		l, err := drive(ctx, w.est+"/.well-known/est/simpleenroll", devices[turn*share:(turn+1)*share], b.clients)
		if err != nil {
			return 0, 0, fmt.Errorf("turn %d: %w", turn, err)
		}
		took[with] += float64(share) / l.rate
	}
	half := float64(share * turns / 2)
	return half / took[0], half / took[1], nil
}

func (w *world) setRules(ctx context.Context, expressions []string) error {
	type object = map[string]any
	var p struct{ Revision int64 }
	if err := w.admin.Do(ctx, http.MethodGet, "/products/thermo", nil, &p); err != nil {
		return err
	}
	rules := []object{}
	for i, e := range expressions {
		rules = append(rules, object{"name": fmt.Sprintf("r%d", i), "expression": e, "otherwise": "refused"})
	}
	return w.admin.Do(ctx, http.MethodPut, "/products/thermo", object{
		"profile": object{"validity": "825d"}, "proofs": []string{"bootstrap-key", "rig"}, "rules": rules, "revision": p.Revision,
	}, nil)
}
