package storetest

import (
	"encoding/json"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

var testResultCases = []conformance{
	{"a test result is kept as it was handed in", resultIsKept},
	{"the latest test result decides", resultDecides},
	{"a test that fails meanwhile makes an admission stale", resultMeanwhile},
	{"a test result is kept once under one key", resultOnce},
	{"a device out of service takes no test results", resultOutOfService},
	{"a device has a bounded number of test results", resultsBounded},
	{"the past knows the test result of its time", resultInThePast},
}

var passed = vetting.TestResult{Passed: true}

// failed is a result with all that there can be in one.
func failed() *vetting.TestResult {
	return &vetting.TestResult{Station: "FCT-2", Tested: time.Date(2026, 11, 21, 8, 0, 0, 0, time.FixedZone("CST", 8*3600)), Note: "antenna loose",
		Tests: []vetting.Test{{Name: "rssi", Value: json.RawMessage("-95.5"), Unit: "dBm", Limit: ">= -80"}, {Name: "leds", Passed: true}}}
}

func (t *trial) tested(id int64, r vetting.TestResult) *vetting.TestResult {
	t.Helper()
	return ok(t.store.AddTestResult(t.ctx, By, id, &r))(t)
}

func resultIsKept(t *trial) {
	t.world(10, Unit(0))
	id := t.facts(first(0)).Record.ID
	leaf := t.leaves()
	got := t.tested(id, *failed())
	if got.ID == 0 || got.At.IsZero() || got.Leaf != leaf || t.leaves() != leaf+1 {
		t.Errorf("a new result is %+v", got)
	}
	want := failed()
	want.ID, want.DeviceID, want.At, want.Rig, want.Leaf, want.Tested = got.ID, id, got.At, By.Operator, leaf, want.Tested.UTC()
	same(t, "the result", got, want)
	d := t.device(id)
	same(t, "the device's latest", d.Test, want)
	if d.State != vetting.DeviceManufactured || d.Revision != 1 || t.leaf(leaf).Act != "device.test-failed" {
		t.Errorf("the device is %+v, the leaf %+v", d, t.leaf(leaf))
	}
	same(t, "facts", t.facts(first(0)).Device.Test, want)
	again := t.tested(id, passed)
	h := ok(t.store.DeviceHistory(t.ctx, id))(t)
	same(t, "the history", h.Tests, []*vetting.TestResult{again, want})
	same(t, "on another server", ok(t.second().DeviceHistory(t.ctx, id))(t), h)
	t.refuses(vetting.NotFound)(t.store.AddTestResult(t.ctx, By, 1<<40, &passed))
}

func resultDecides(t *trial) {
	t.world(10, Unit(0), Unit(1))
	id := t.facts(first(0)).Record.ID
	t.tested(id, *failed())
	t.enrol(first(0), vetting.ReasonFailed)
	t.tested(id, passed)
	t.admit(0)
	t.tested(id, *failed())
	t.enrol(first(0), vetting.ReasonFailed) // the same certificate again, either
	t.enrol(Claim(Unit(0).BootstrapKey, Key("other", 0)), vetting.ReasonFailed)
	t.tested(id, passed)
	t.use(t.device(id).Certificate)
	t.tested(id, *failed()) // in service, where it does not count
	t.enrol(Renewal(t.device(id).Certificate, Key("next", 0)), vetting.ReasonRenewed)
	t.admit(1) // which nobody tested
	same(t, "units", t.issued("po-1"), 2)
}

func resultMeanwhile(t *trial) {
	t.world(10, Unit(0))
	commit := t.propose(first(0))
	t.tested(commit.Facts.Record.ID, *failed())
	if _, err := t.store.Commit(t.ctx, commit); err != enroll.ErrStale {
		t.Errorf("an admission from before the test: %v", err)
	}
	same(t, "units", t.issued("po-1"), 0)
}

func resultOnce(t *trial) {
	t.world(10, Unit(0))
	id := t.facts(first(0)).Record.ID
	one := ok(t.store.AddTestResult(t.ctx, keyed("rig-7", "k", "this"), id, failed()))(t)
	same(t, "again", ok(t.second().AddTestResult(t.ctx, keyed("rig-7", "k", "this"), id, failed()))(t), one)
	t.refuses(vetting.Conflict)(t.store.AddTestResult(t.ctx, keyed("rig-7", "k", "that"), id, &passed))
	same(t, "results", len(ok(t.store.DeviceHistory(t.ctx, id))(t).Tests), 1)
}

func resultOutOfService(t *trial) {
	f := t.fleet()
	for _, s := range []vetting.DeviceState{vetting.DeviceSuspended, vetting.DeviceRetired, vetting.DeviceQuarantined, vetting.DeviceScrapped} {
		d := f.unit(s)
		t.refuses(vetting.Conflict)(t.store.AddTestResult(t.ctx, By, d.ID, &passed))
	}
	for _, s := range []vetting.DeviceState{vetting.DeviceManufactured, vetting.DeviceRegistered, vetting.DeviceIssued, vetting.DeviceActive} {
		d := f.unit(s)
		t.tested(d.ID, passed)
		if now := t.device(d.ID); now.State != s || now.Certificate != d.Certificate {
			t.Errorf("a test made %+v of %+v", now, d)
		}
	}
}

func resultsBounded(t *trial) {
	t.world(10, Unit(0))
	id := t.facts(first(0)).Record.ID
	for range vetting.MaxTestResults {
		t.tested(id, passed)
	}
	t.refuses(vetting.Conflict)(t.store.AddTestResult(t.ctx, By, id, &passed))
}

func resultInThePast(t *trial) {
	t.world(10, Unit(0), Unit(1))
	id := t.facts(first(0)).Record.ID
	t.tested(id, *failed())
	before := t.tested(id, passed)
	t.admit(0)
	t.tested(id, *failed())
	t.admit(1)
	t.tested(t.facts(first(1)).Record.ID, passed)
	var tests []*vetting.TestResult
	t.done(t.store.PastRegistrations(t.ctx, "thermo", time.Time{}, 10, func(p vetting.Past) error {
		tests = append(tests, p.Test)
		return nil
	}))
	same(t, "the tests as they were", tests, []*vetting.TestResult{before, nil})
}
