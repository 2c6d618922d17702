package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// testFlags are the results of single tests.
type testFlags struct {
	passed, failed []string
	file, when     string
}

func (a *app) rigTest(name string, passed bool) *cobra.Command {
	in := api.TestResultInput{Passed: passed}
	var tests testFlags
	c := &cobra.Command{Use: name, Args: cobra.NoArgs, Short: "Hand in that a unit passed its test",
		Long: `pass hands in that a unit passed its test, with the results of the single tests if you give them. They are kept with the unit for good,
and the product's rules can look at them.`,
		Example: "  touchmark --dir rig-7 rig pass --serial A-0001 --station FCT-2 --test 'rssi=-61.5 dBm' --test 'firmware=1.4.2'\n  touchmark --dir rig-7 rig pass --serial A-0001 --results a-0001.json"}
	if !passed {
		c.Short = "Hand in that a unit failed its test"
		c.Long = `fail hands in that a unit failed its test, and says what to do with it. A unit that has no certificate yet gets none until it passes a
later test. One that has its certificate, but has not used it, is to be replaced. One that is in service stays there, until an
administrator decides.`
		c.Example = "  touchmark --dir rig-7 rig fail --serial A-0001 --failed 'rssi=-95 dBm' --note 'antenna loose'"
		c.Flags().StringArrayVar(&tests.failed, "failed", nil, "a test that failed, as `NAME[=VALUE[ UNIT]]`; may be repeated")
	}
	unitFlags(c, &in.Unit)
	f := c.Flags()
	f.StringArrayVar(&tests.passed, "test", nil, "a test that passed, as `NAME[=VALUE[ UNIT]]`; may be repeated")
	f.StringVar(&tests.file, "results", "", `a JSON list of tests, each with "name", "passed" and, as you like, "value", "unit", "limit": a `+"`file`; - for standard input")
	f.StringVar(&in.Station, "station", "", "where the unit was tested")
	f.StringVar(&tests.when, "tested", "", "when it was tested: `time` in RFC 3339")
	f.StringVar(&in.Note, "note", "", "what is wrong, in words")
	return objectCommand(a, c, func(ctx context.Context, cl *client, _ []string) (raw []byte, err error) {
		if err := tests.read(a, &in); err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, "/test-results", in, &raw)
		return raw, err
	}, showTestAnswer)
}

func (t *testFlags) read(a *app, in *api.TestResultInput) error {
	if t.when != "" {
		when, err := time.Parse(time.RFC3339, t.when)
		if err != nil {
			return usagef("--tested %q is no time: want RFC 3339 such as 2026-12-01T08:00:00Z", t.when)
		}
		in.Tested = when
	}
	if t.file != "" {
		text, err := a.readText(t.file)
		if err != nil {
			return fmt.Errorf("the test results: %w", err)
		}
		if err := json.Unmarshal([]byte(text), &in.Tests); err != nil {
			return fmt.Errorf(`the test results in %s are no JSON list such as [{"name": "rssi", "passed": true, "value": -61.5, "unit": "dBm"}]: %w`, t.file, err)
		}
	}
	for _, word := range t.passed {
		in.Tests = append(in.Tests, parseTest(word, true))
	}
	for _, word := range t.failed {
		in.Tests = append(in.Tests, parseTest(word, false))
	}
	return nil
}

// parseTest reads NAME, NAME=VALUE or NAME=VALUE UNIT. A value that is a
// number in JSON becomes one, any other a string.
func parseTest(word string, passed bool) vetting.Test {
	name, rest, measured := strings.Cut(word, "=")
	t := vetting.Test{Name: strings.TrimSpace(name), Passed: passed}
	if !measured {
		return t
	}
	value, unit, _ := strings.Cut(strings.TrimSpace(rest), " ")
	if _, err := strconv.ParseFloat(value, 64); err == nil && json.Valid([]byte(value)) {
		t.Value, t.Unit = json.RawMessage(value), strings.TrimSpace(unit)
		return t
	}
	t.Value, _ = json.Marshal(strings.TrimSpace(rest)) // a string always marshals
	return t
}

func showTestAnswer(w io.Writer, a *api.TestResultAnswer) {
	field(w, "device", a.Device.ID)
	field(w, "serial", a.Device.Serial)
	showTestResult(w, &a.Result)
	field(w, "next", advice(a))
}

// advice says what to do with a unit that was tested.
func advice(a *api.TestResultAnswer) string {
	serial := a.Device.Serial
	switch a.Next {
	case api.NextRegister:
		return "register it: touchmark rig register --serial " + serial
	case api.NextRetest:
		return "mend it and test it again, or set it aside: it gets no certificate until it passes"
	case api.NextReplace:
		return "replace it: it has a certificate already, and keeps it until you do"
	case api.NextReport:
		return "report it: the device is in service and stays so, until an administrator scraps it"
	}
	return ""
}

func showTestResult(w io.Writer, r *vetting.TestResult) {
	field(w, "test", fmt.Sprintf("%d  %s", r.ID, r.Text()))
	for _, t := range r.Tests {
		word := "passed"
		if !t.Passed {
			word = "failed"
		}
		field(w, "", word+"  "+t.String())
	}
}
