package api_test

import (
	"strings"
	"testing"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

type object = map[string]any

// TestTestResult hands in what a rig found, in each state that a unit can be
// in.
func TestTestResult(t *testing.T) {
	w := newWorld(t)
	failed := object{"serial": " S-near ", "mac": "02-00-00-00-00-01", "passed": false, "station": "FCT-2", "tested": "2026-11-21T11:59:00Z",
		"tests": []any{object{"name": "rssi", "passed": false, "value": -95.5, "unit": "dBm", "limit": ">= -80"}, object{"name": "fw", "passed": true, "value": "1.4.2"}}}
	for state, next := range map[vetting.DeviceState][2]api.NextStep{
		vetting.DeviceManufactured: {api.NextRegister, api.NextRetest},
		vetting.DeviceRegistered:   {api.NextRegister, api.NextRetest},
		vetting.DeviceIssued:       {api.NextNone, api.NextReplace},
		vetting.DeviceActive:       {api.NextNone, api.NextReport},
	} {
		w.store.devices[0].State = state
		got := decode[api.TestResultAnswer](t, w.as("rig", "POST", "/test-results", failed), 201)
		if r := got.Result; got.Next != next[1] || !got.Device.Failed() || r.Rig != "rig" || r.Station != "FCT-2" || r.Tested.IsZero() || len(r.Tests) != 2 || string(r.Tests[0].Value) != "-95.5" {
			t.Errorf("%s and failed: %+v", state, got)
		}
		if got = decode[api.TestResultAnswer](t, w.as("rig", "POST", "/test-results", object{"mac": "02:00:00:00:00:01", "passed": true}), 201); got.Next != next[0] || got.Device.Failed() {
			t.Errorf("%s and passed: %+v", state, got)
		}
	}
}

func TestBadTestResults(t *testing.T) {
	w := newWorld(t)
	many := make([]any, 101)
	for i := range many {
		many[i] = object{"name": strings.Repeat("x", i+1)[:1+i%60], "passed": true}
	}
	tests := func(list ...any) object { return object{"serial": "S-near", "passed": true, "tests": list} }
	for name, c := range map[string]struct {
		body   object
		status int
		words  string
	}{
		"no identity":            {object{"passed": true}, 422, "serial"},
		"no word":                {object{"serial": "S-near"}, 422, "passed"},
		"failed without a why":   {object{"serial": "S-near", "passed": false}, 422, "no test that failed is named"},
		"of another site":        {object{"serial": "S-far", "passed": true}, 404, "no record of site near"},
		"in no record":           {object{"serial": "S-none", "passed": true}, 404, "no record of site near"},
		"another unit's MAC":     {object{"serial": "S-near", "mac": "02:00:00:00:00:09", "passed": true}, 404, "identifiers"},
		"passed, but a test not": {tests(object{"name": "rssi", "passed": false}), 422, "failed"},
		"a test without a name":  {tests(object{"name": "", "passed": true}), 422, "name"},
		"two of a name":          {tests(object{"name": "a", "passed": true}, object{"name": "a", "passed": true}), 422, "two tests"},
		"a value of no kind":     {tests(object{"name": "a", "passed": true, "value": []int{1}}), 422, "neither a number"},
		"no value":               {tests(object{"name": "a", "passed": true, "value": nil}), 422, "neither a number"},
		"a hidden character":     {tests(object{"name": "a", "passed": true, "value": "x\x1b[2J"}), 422, "control character"},
		"a long value":           {tests(object{"name": "a", "passed": true, "value": strings.Repeat("9", 200)}), 422, "at most"},
		"too many":               {object{"serial": "S-near", "passed": true, "tests": many}, 422, "100"},
		"a field too many":       {tests(object{"name": "a", "passed": true, "verdict": "good"}), 422, "verdict"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, w.as("rig", "POST", "/test-results", c.body), c.status, c.words)
		})
	}
	if len(w.store.acted) != 0 {
		t.Errorf("something was kept: %+v", w.store.acted)
	}
	far := *w.store.devices[0]
	far.ID, far.Product = 99, "torch"
	w.store.devices = append(w.store.devices, &far)
	refused(t, w.as("rig", "POST", "/test-results", object{"serial": "S-near", "passed": true}), 409, "name the product")
	decode[api.TestResultAnswer](t, w.as("rig", "POST", "/test-results", object{"product": "torch", "serial": "S-near", "passed": true}), 201)
}

// A rig replaces what its own site built by what its own site built.
func TestReplacement(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		body   object
		status int
		words  string
	}{
		"of another site":     {object{"serial": "S-far", "by": object{"serial": "S-near"}, "note": "dead"}, 404, "no record of site near"},
		"by another site's":   {object{"serial": "S-near", "by": object{"serial": "S-far"}, "note": "dead"}, 404, "no record of site near"},
		"by nothing":          {object{"serial": "S-near", "by": object{}, "note": "dead"}, 422, "at least a serial"},
		"for no reason":       {object{"serial": "S-near", "by": object{"serial": "S-near"}, "note": ""}, 422, "note"},
		"by what nobody read": {object{"serial": "S-near", "note": "dead"}, 422, "by"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, w.as("rig", "POST", "/replacements", c.body), c.status, c.words)
		})
	}
	if len(w.store.acted) != 0 {
		t.Errorf("something was done: %+v", w.store.acted)
	}
}
