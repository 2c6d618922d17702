package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// testRow is a row of test_results.
type testRow struct {
	ID, At, DeviceID int64
	Operator, Body   string

	leaf int64
}

// testBody is what the rig handed in, as JSON.
type testBody struct {
	Station string         `json:"station,omitempty"`
	Tested  time.Time      `json:"tested,omitzero"`
	Passed  bool           `json:"passed"`
	Tests   []vetting.Test `json:"tests,omitempty"`
	Note    string         `json:"note,omitempty"`
}

const testColumns = `tr.id, tr.at, tr.device_id, tr.operator, tr.body, tr.leaf`

// testOrNone are the same of an outer join; without a result all are zero.
const testOrNone = `COALESCE(tr.id, 0), COALESCE(tr.at, 0), COALESCE(tr.device_id, 0), COALESCE(tr.operator, ''), COALESCE(tr.body, ''), COALESCE(tr.leaf, 0)`

func (r *testRow) dest() []any {
	return []any{&r.ID, &r.At, &r.DeviceID, &r.Operator, &r.Body, &r.leaf}
}

func (r *testRow) object() audit.Object {
	return audit.Object{Kind: audit.KindTestResult, ID: r.ID, Digest: audit.DigestOf(r)}
}

// result is nil for a row of zeros.
func (r *testRow) result() (*vetting.TestResult, error) {
	if r.ID == 0 {
		return nil, nil
	}
	var b testBody
	if err := json.Unmarshal([]byte(r.Body), &b); err != nil {
		return nil, fmt.Errorf("test result %d in the database: %w", r.ID, err)
	}
	return &vetting.TestResult{ID: r.ID, DeviceID: r.DeviceID, At: fromMicros(r.At), Rig: r.Operator,
		Station: b.Station, Tested: b.Tested, Passed: b.Passed, Tests: b.Tests, Note: b.Note, Leaf: r.leaf}, nil
}

func (s *Store) testResults(ctx context.Context, where string, args ...any) ([]*vetting.TestResult, error) {
	return readAll(ctx, s.db, `SELECT `+testColumns+` FROM test_results tr WHERE `+where, args, (*testRow).dest, (*testRow).result)
}

// AddTestResult keeps what a rig found when it tested a device, and makes it
// the device's latest. ID, At, Rig and Leaf of what is given do not matter. A
// device out of service, or with as many results as it may have, is a
// Conflict.
func (s *Store) AddTestResult(ctx context.Context, a access.Act, deviceID int64, result *vetting.TestResult) (*vetting.TestResult, error) {
	have, err := s.Device(ctx, deviceID)
	if err != nil {
		return nil, err
	}
	id, err := s.act(ctx, a, func(w *writing) (int64, error) { return w.addTestResult(a, have, result) })
	if err != nil {
		return nil, err
	}
	list, err := s.testResults(ctx, `tr.id = $1`, id)
	return theOne(list, err, "test result", id)
}

func (w *writing) addTestResult(a access.Act, have *vetting.Device, result *vetting.TestResult) (int64, error) {
	w.loadDevice(have.ID)
	var results int64
	w.fetch(`SELECT COUNT(*) FROM test_results WHERE device_id = $1`, []any{have.ID}, func(r row) error { return r.Scan(&results) })
	if err := w.read(); err != nil {
		return 0, err
	}
	d := w.devices[have.ID]
	switch state := vetting.DeviceState(d.State); {
	case !state.InService():
		return 0, vetting.Errorf(vetting.Conflict, "device %d (%s) is %s: its test results do not count any more", have.ID, have.Identity, state)
	case results >= vetting.MaxTestResults:
		return 0, vetting.Errorf(vetting.Conflict, "device %d (%s) has %d test results, which is as many as it may have: set it aside", have.ID, have.Identity, results)
	}
	body := testBody{Station: result.Station, Tested: result.Tested.UTC(), Passed: result.Passed, Tests: result.Tests, Note: result.Note}
	row := &testRow{ID: w.ids(1), At: micros(w.now), DeviceID: have.ID, Operator: a.Operator, Body: mustJSON(body)}
	d.TestID = row.ID
	w.save(d)
	act := "device.test-passed"
	if !result.Passed {
		act = "device.test-failed"
	}
	row.leaf = w.leaf(act, operatorOf(a), "", row.object(), d.object())
	w.insert(`test_results (id, at, device_id, operator, body, leaf)`, row.ID, row.At, row.DeviceID, row.Operator, row.Body, row.leaf)
	return row.ID, nil
}
