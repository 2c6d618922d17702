package api

import (
	"context"
	"net/http"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// Unit names the device in front of a rig, as far as the rig read it.
type Unit struct {
	Product string `json:"product,omitempty" maxLength:"63" doc:"The product it should be; needed where products share serial numbers"`
	Serial  string `json:"serial,omitempty" maxLength:"64" doc:"The device's serial number"`
	MAC     string `json:"mac,omitempty" maxLength:"64" doc:"Its MAC address, EUI-48 or EUI-64"`
	UID     string `json:"uid,omitempty" maxLength:"128" doc:"Its chip's UID"`
}

// identity normalizes what the rig read; at is the unit's place in the
// request.
func (u Unit) identity(at string) (vetting.Identity, error) {
	id, err := vetting.Identity{Serial: u.Serial, MAC: u.MAC, UID: u.UID}.Normalize()
	if err == nil && id.IsZero() {
		err = vetting.ErrNoIdentity
	}
	if err != nil {
		return id, invalid(at, "%v", err)
	}
	return id, nil
}

// device finds the one device that bears all that the rig read, among those
// that the operator sees.
func (u Unit) device(ctx context.Context, c *call, at string) (*vetting.Device, error) {
	id, err := u.identity(at)
	if err != nil {
		return nil, err
	}
	found, err := c.Devices(ctx, vetting.DeviceFilter{Product: u.Product, Identity: id}, vetting.Page{Limit: 2})
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, vetting.Errorf(vetting.NotFound, "no record of site %s has %v: is the manifest that lists the unit handed in, and are the identifiers those of the unit?", c.Operator().Site, id)
	case len(found) > 1:
		return nil, vetting.Errorf(vetting.Conflict, "several devices have %v (of the products %s and %s): name the product", id, found[0].Product, found[1].Product)
	}
	return found[0], nil
}

// TestResultInput is what a rig found when it tested the unit in front of it.
type TestResultInput struct {
	Unit
	Passed  bool           `json:"passed" doc:"Whether the unit passed; it does if all its tests do"`
	Station string         `json:"station,omitempty" maxLength:"128" doc:"Where it was tested, by the rig's own word"`
	Tested  time.Time      `json:"tested,omitzero" doc:"When it was tested, by the rig's clock"`
	Tests   []vetting.Test `json:"tests,omitempty" maxItems:"100" doc:"The tests, each with its own result"`
	Note    string         `json:"note,omitempty" maxLength:"1000" doc:"What is wrong, in words; needed if the unit failed and no test that failed is named"`
}

// TestResultAnswer is a kept result, and what becomes of the unit.
type TestResultAnswer struct {
	Result vetting.TestResult `json:"result" doc:"The result as it is kept"`
	Device vetting.Device     `json:"device" doc:"The unit"`
	Next   NextStep           `json:"next" enum:"register,retest,replace,none,report" doc:"What to do next: register the unit; mend and test it again; replace it, because it has a certificate already; nothing; or report that a device in service failed, which a rig's word does not take out of service"`
}

// NextStep is what a rig does with a unit that it tested.
type NextStep string

const (
	NextRegister NextStep = "register"
	NextRetest   NextStep = "retest"
	NextReplace  NextStep = "replace"
	NextNone     NextStep = "none"
	NextReport   NextStep = "report"
)

func nextStep(d *vetting.Device) NextStep {
	entered := d.State == vetting.DeviceIssued || d.State == vetting.DeviceActive
	switch {
	case !d.Failed() && entered:
		return NextNone
	case !d.Failed():
		return NextRegister
	case d.State == vetting.DeviceIssued:
		return NextReplace
	case d.State == vetting.DeviceActive:
		return NextReport
	}
	return NextRetest
}

func (a *API) rigs() {
	register(a, access.TestDevices, operation{
		id: "addTestResult", method: http.MethodPost, path: "/test-results", tag: tagDevices, errors: []int{404},
		summary: "Hand in a unit's test result", status: http.StatusCreated,
		description: "The latest result counts: a unit that failed is refused until it passes a later test. Results are kept for good, at most 100 for each unit, and rules can look at the latest. A device out of service takes none.",
	}, addTestResult)
	register(a, access.TestDevices, operation{
		id: "replaceDevice", method: http.MethodPost, path: "/replacements", tag: tagDevices, errors: []int{404},
		summary:     "Replace a unit that failed",
		description: "In one step: the unit is scrapped, its certificate revoked, its unit of the order given back, and another new unit of the same order noted as its replacement, to be registered as any other. Only for a unit that failed its latest test and has not used its certificate, of an order whose rework is \"site\". Each unit takes one place only. It cannot be taken back; the same again changes nothing.",
	}, replaceDevice)
}

// ReplacementInput names a unit that failed, and the one that takes its place.
type ReplacementInput struct {
	Unit
	By   Unit   `json:"by" doc:"The unit that takes its place"`
	Note string `json:"note" minLength:"1" maxLength:"1000" doc:"Why, for the audit log"`
}

// Replacement is what became of both.
type Replacement struct {
	Device vetting.Device `json:"device" doc:"The unit that failed, scrapped"`
	By     vetting.Device `json:"by" doc:"The unit that takes its place"`
}

func replaceDevice(ctx context.Context, c *call, in *bodyOf[ReplacementInput]) (*bodyOutput[Replacement], error) {
	d, err := in.Body.device(ctx, c, "body")
	if err != nil {
		return nil, err
	}
	by, err := in.Body.By.device(ctx, c, "body.by")
	if err != nil {
		return nil, err
	}
	if d, err = c.ReplaceDevice(ctx, c.act, d.ID, by.ID, in.Body.Note); err != nil {
		return nil, err
	}
	by, err = c.Device(ctx, by.ID)
	if err != nil {
		return nil, err
	}
	return &bodyOutput[Replacement]{&Replacement{*d, *by}}, nil
}

func addTestResult(ctx context.Context, c *call, in *bodyOf[TestResultInput]) (*bodyOutput[TestResultAnswer], error) {
	result := &vetting.TestResult{Station: in.Body.Station, Tested: in.Body.Tested, Passed: in.Body.Passed, Tests: in.Body.Tests, Note: in.Body.Note}
	if err := result.Check(); err != nil {
		return nil, invalid("body", "%v", err)
	}
	d, err := in.Body.device(ctx, c, "body")
	if err != nil {
		return nil, err
	}
	if result, err = c.AddTestResult(ctx, c.act, d.ID, result); err != nil {
		return nil, err
	}
	if d, err = c.Device(ctx, d.ID); err != nil {
		return nil, err
	}
	return &bodyOutput[TestResultAnswer]{&TestResultAnswer{Result: *result, Device: *d, Next: nextStep(d)}}, nil
}
