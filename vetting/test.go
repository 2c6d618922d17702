package vetting

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// TestResult is what a rig found when it tested a unit. The latest one
// counts: a unit that failed is let in when it passes a later test. Results
// are never changed.
type TestResult struct {
	ID       int64     `json:"id"`
	DeviceID int64     `json:"device"`
	At       time.Time `json:"at"`  // when it was handed in
	Rig      string    `json:"rig"` // the operator that handed it in
	// Station and Tested are where and when by the rig's own word.
	Station string    `json:"station,omitempty"`
	Tested  time.Time `json:"tested,omitzero"`
	Passed  bool      `json:"passed"`
	Tests   []Test    `json:"tests,omitempty"`
	Note    string    `json:"note,omitempty"`
	Leaf    int64     `json:"leaf"`
}

// Test is one named measurement or check of a [TestResult].
type Test struct {
	Name   string          `json:"name"`
	Passed bool            `json:"passed"`
	Value  json.RawMessage `json:"value,omitempty"` // a number, a string, true or false
	Unit   string          `json:"unit,omitempty"`
	Limit  string          `json:"limit,omitempty"` // in words, e.g. ">= -80"
}

// Bounds of test results.
const (
	MaxTests       = 100 // tests in a result; all their text together at most MaxRecordTests bytes
	MaxTestResults = 100 // results of one device
	maxTestName    = 64  // bytes
	maxTestNote    = 1000
)

// Check reports the first thing wrong with what a rig handed in.
func (r *TestResult) Check() error {
	if err := CheckText("station", r.Station); err != nil {
		return err
	}
	switch {
	case len(r.Note) > maxTestNote:
		return fmt.Errorf("the note is %d bytes long: at most %d are allowed", len(r.Note), maxTestNote)
	case len(r.Tests) > MaxTests:
		return fmt.Errorf("%d tests: at most %d are allowed", len(r.Tests), MaxTests)
	case !r.Passed && r.Note == "" && len(r.failures()) == 0:
		return errors.New("the unit failed, but no test that failed is named: name one, or say what is wrong in a note")
	}
	size, seen := 0, map[string]bool{}
	for _, t := range r.Tests {
		if err := t.check(); err != nil {
			return err
		}
		switch {
		case seen[t.Name]:
			return fmt.Errorf("two tests are called %q", t.Name)
		case r.Passed && !t.Passed:
			return fmt.Errorf("the unit passed, but its test %q failed: a unit passes if all its tests do", t.Name)
		}
		seen[t.Name] = true
		size += len(t.Name) + len(t.Value) + len(t.Unit) + len(t.Limit)
	}
	if size > MaxRecordTests {
		return fmt.Errorf("the tests hold %d bytes: at most %d are allowed", size, MaxRecordTests)
	}
	return nil
}

func (t *Test) check() error {
	switch {
	case t.Name == "":
		return errors.New("a test has no name")
	case len(t.Name) > maxTestName:
		return fmt.Errorf("a test's name is %d bytes long: at most %d are allowed", len(t.Name), maxTestName)
	}
	what := fmt.Sprintf("test %q: ", t.Name)
	for _, f := range [...]struct{ field, text string }{{"name", t.Name}, {"unit", t.Unit}, {"limit", t.Limit}} {
		if err := CheckText(what+f.field, f.text); err != nil {
			return err
		}
	}
	if len(t.Value) == 0 {
		return nil
	}
	var v any
	if err := json.Unmarshal(t.Value, &v); err != nil {
		return fmt.Errorf("%svalue: %w", what, err)
	}
	switch v := v.(type) {
	case float64, bool:
		return CheckText(what+"value", string(t.Value))
	case string:
		return CheckText(what+"value", v)
	}
	return fmt.Errorf("%svalue %.40s is neither a number, nor a string, nor true or false", what, t.Value)
}

func (t Test) String() string {
	text := t.Name
	if len(t.Value) > 0 {
		text += " is " + strings.Trim(string(t.Value), `"`)
		if t.Unit != "" {
			text += " " + t.Unit
		}
	}
	if t.Limit != "" {
		text += " (limit " + t.Limit + ")"
	}
	return text
}

func (r *TestResult) failures() (list []Test) {
	for _, t := range r.Tests {
		if !t.Passed {
			list = append(list, t)
		}
	}
	return list
}

// Text says in a few words what was found, by whom and when.
func (r *TestResult) Text() string {
	word := "passed"
	if !r.Passed {
		word = "failed"
	}
	text := fmt.Sprintf("%s at rig %s", word, r.Rig)
	if r.Station != "" {
		text += ", station " + r.Station
	}
	text += ", " + stamp(r.At)
	var found []string
	const most = 3
	for i, t := range r.failures() {
		if i == most {
			found = append(found, "…")
			break
		}
		found = append(found, t.String())
	}
	if r.Note != "" {
		found = append(found, r.Note)
	}
	if len(found) > 0 {
		text += ": " + strings.Join(found, "; ")
	}
	return text
}

// Failed reports whether the device failed its latest test.
func (d *Device) Failed() bool { return d.Test != nil && !d.Test.Passed }
