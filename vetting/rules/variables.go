package rules

import (
	"encoding/json"
	"reflect"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// Claim is what the wire proved: the variable claim.
type Claim struct {
	Proof     string `cel:"proof"`     // how it was proved, e.g. "bootstrap-key", "rig"
	Transport string `cel:"transport"` // "est", "api"
	Remote    string `cel:"remote"`    // the peer's address
	Label     string `cel:"label"`     // the product that the request was addressed to
	Rig       string `cel:"rig"`       // which rig vouches, "" if none
	Site      string `cel:"site"`      // that rig's site

	Code         bool `cel:"code"`          // an enrolment code was presented that counts
	BootstrapKey bool `cel:"bootstrap_key"` // the bootstrap key that the record lists was proved
	OnSite       bool `cel:"on_site"`       // it came from the networks of the order's site
}

// Record is the device's manufacturing record: the variable record.
type Record struct {
	Serial           string    `cel:"serial"`
	MAC              string    `cel:"mac"`
	UID              string    `cel:"uid"`
	HardwareRevision string    `cel:"hardware_revision"`
	Firmware         string    `cel:"firmware"`
	Line             string    `cel:"line"`
	Rig              string    `cel:"rig"`
	Made             time.Time `cel:"made"` // 0001-01-01 if the record does not say
	Tests            any       `cel:"tests"`
}

// Test is what a rig found last: the variable test. Where no rig tested the
// device, Passed is false and the rest empty.
type Test struct {
	Passed  bool      `cel:"passed"`
	Rig     string    `cel:"rig"`
	Station string    `cel:"station"`
	At      time.Time `cel:"at"` // 0001-01-01 if there was none
	Values  any       `cel:"values"`
}

// TPM is what the TPM said that the key to be certified was made in: the
// variable tpm. Without one Attested is false and the rest empty.
type TPM struct {
	Attested     bool              `cel:"attested"`
	Manufacturer string            `cel:"manufacturer"` // of the EK certificate, as are the next two
	Model        string            `cel:"model"`
	Version      string            `cel:"version"`
	Firmware     string            `cel:"firmware"` // of the TPM's statements
	PCRs         map[string]string `cel:"pcrs"`     // those that were quoted, in hex, by number
}

// Order is the production order: the variable order.
type Order struct {
	Name     string `cel:"name"`
	Product  string `cel:"product"`
	Site     string `cel:"site"`
	Quantity int64  `cel:"quantity"`
	Issued   int64  `cel:"issued"`
}

// History counts what happened before: the variable history.
type History struct {
	OrderLastHour int64 `cel:"order_last_hour"`
	OrderLastDay  int64 `cel:"order_last_day"`
	RigLastHour   int64 `cel:"rig_last_hour"`
	LineLastHour  int64 `cel:"line_last_hour"`
	Attempts      int64 `cel:"attempts"`
	Refusals      int64 `cel:"refusals"`
}

const vocabulary = `
claim.proof, claim.transport, claim.remote, claim.label, claim.rig, claim.site   what the wire proved
claim.code, claim.bootstrap_key   whether a code, and the record's bootstrap key, were presented, whichever was the proof
claim.on_site   whether the request came from the networks of the order's site
record.serial, record.mac, record.uid, record.hardware_revision, record.firmware, record.line, record.rig, record.made (a time), record.tests (as in the manifest)
test.passed, test.rig, test.station, test.at (a time), test.values (by the test's name)   what a rig of ours found last; passed is false where none tested the unit
tpm.attested, tpm.manufacturer, tpm.model, tpm.version, tpm.firmware, tpm.pcrs (by number, as tpm.pcrs["7"])   what the TPM said that made the key; attested is false without one
order.name, order.product, order.site, order.quantity, order.issued
history.order_last_hour, history.order_last_day   units that the order issued
history.rig_last_hour, history.line_last_hour   units by the claim's rig and on the record's line, of the order
history.attempts, history.refusals   earlier registrations of the device
now   the time of the request
`

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// variables shows the facts to expressions.
func variables(f *vetting.Facts) map[string]any {
	c, r, o, h := &f.Claim, f.Record, f.Order, &f.Counters
	return map[string]any{
		"now": f.Now,
		"claim": &Claim{string(c.Auth.Proof), c.Transport, c.Remote, c.Label, c.Auth.Operator, c.Auth.Site,
			c.Auth.Code != 0, !r.BootstrapKey.IsZero() && c.Auth.Key == r.BootstrapKey, f.OnSite},
		"record": &Record{r.Serial, r.MAC, r.UID, r.Made.HardwareRevision, r.Made.Firmware, r.Made.Line, r.Made.Rig, r.Made.Time,
			tests(r.Made.Tests)},
		"test":    lastTest(f.Device),
		"tpm":     ofTPM(c.TPM),
		"order":   &Order{o.Name, o.Product, o.Site, o.Quantity, o.Issued},
		"history": &History{h.OrderLastHour, h.OrderLastDay, h.RigLastHour, h.LineLastHour, h.Attempts, h.Refusals},
	}
}

func ofTPM(t *vetting.TPM) *TPM {
	if t == nil || t.Untrue != "" {
		return &TPM{PCRs: map[string]string{}}
	}
	pcrs := t.PCRs
	if pcrs == nil {
		pcrs = map[string]string{}
	}
	return &TPM{true, t.Manufacturer, t.Model, t.Version, t.Firmware, pcrs}
}

func lastTest(d *vetting.Device) *Test {
	values := map[string]any{}
	if d == nil || d.Test == nil {
		return &Test{Values: values}
	}
	for _, t := range d.Test.Tests {
		var v any
		if json.Unmarshal(t.Value, &v) == nil { // else it has none
			values[t.Name] = v
		}
	}
	return &Test{d.Test.Passed, d.Test.Rig, d.Test.Station, d.Test.At, values}
}

// tests gives a record's test results as JSON values; a record without any
// has an empty object.
func tests(raw json.RawMessage) any {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return map[string]any{}
	}
	return v
}
