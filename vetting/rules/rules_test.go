package rules_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/rules"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func facts() *vetting.Facts {
	return &vetting.Facts{
		Now: now,
		Claim: vetting.Claim{Auth: vetting.Auth{Proof: vetting.ProofRig, Operator: "rig-7", Site: "penang"}, Label: "lamp", Transport: "api", Remote: "192.0.2.7",
			TPM: &vetting.TPM{Manufacturer: "id:49465800", Model: "SLB9670", Firmware: "00070055", PCRs: map[string]string{"7": "beef"}}},
		Record: &vetting.Record{Identity: vetting.Identity{Serial: "A-0007", MAC: "02:00:00:00:00:07", UID: "beef"}, Made: vetting.Manufacturing{
			Line: "L2", HardwareRevision: "C", Rig: "rig-7", Time: now.Add(-time.Hour),
			Tests: json.RawMessage(`{"rssi": -60.5, "leds": ["red", "green"], "passed": true}`)}},
		Order: &vetting.Order{Name: "PO-1", Product: "lamp", Site: "penang", Quantity: 500, Issued: 20},
		Device: &vetting.Device{Test: &vetting.TestResult{At: now.Add(-time.Minute), Rig: "rig-7", Station: "FCT-2", Passed: true,
			Tests: []vetting.Test{{Name: "rssi", Passed: true, Value: json.RawMessage("-61.5")}, {Name: "tx power", Passed: true, Value: json.RawMessage("17")}, {Name: "leds", Passed: true}}}},
		Counters: vetting.Counters{OrderLastHour: 20, OrderLastDay: 20, RigLastHour: 3, LineLastHour: 7, Attempts: 2, Refusals: 1},
	}
}

func rule(expression string) []vetting.Rule {
	return []vetting.Rule{{Name: "it", Expression: expression, Otherwise: vetting.Refused}}
}

func TestRules(t *testing.T) {
	for expression, want := range map[string]string{
		// what passes
		`true`:                           "",
		`record.line in ["L1", "L2"]`:    "",
		`record.serial.startsWith("A-")`: "",
		`record.tests.rssi > -70.0`:      "",
		`record.tests.passed && record.tests.leds.exists(l, l == "green")`:                 "",
		`now - record.made < duration("24h")`:                                              "",
		`history.order_last_hour < 100`:                                                    "",
		`claim.proof == "rig" && claim.rig == record.rig && claim.site == order.site`:      "",
		`order.issued < order.quantity / 2`:                                                "",
		`record.tests.passed`:                                                              "",
		`!has(record.tests.fail)`:                                                          "",
		`!claim.code && !claim.bootstrap_key && !claim.on_site`:                            "",
		`test.passed && test.rig == claim.rig && test.station == "FCT-2"`:                  "",
		`test.values.rssi > -70.0 && test.values["tx power"] < 20`:                         "",
		`now - test.at < duration("1h")`:                                                   "",
		`tpm.attested && tpm.manufacturer == "id:49465800" && tpm.model.startsWith("SLB")`: "",
		`tpm.firmware >= "00070000" && tpm.pcrs["7"] in ["beef", "f00d"]`:                  "",
		// what does not, and why
		`"0" in tpm.pcrs`:                                    "tpm.pcrs=map[7:beef]",
		`tpm.version == "1"`:                                 "tpm.version=",
		`test.values.rssi > -50.0`:                           "test.values.rssi=-61.5",
		`test.values.missing == 1`:                           "test.values.missing=unknown: no such key: missing",
		`test.rig == "rig-8"`:                                "test.rig=rig-7",
		`claim.code || claim.bootstrap_key || claim.on_site`: "claim.bootstrap_key=false claim.code=false claim.on_site=false",
		`history.order_last_hour < 20`:                       "history.order_last_hour=20",
		`record.tests.rssi`:                                  "record.tests.rssi=-60.5",
		`record.line == "L1"`:                                "record.line=L2",
		`record.line == "L1" || record.tests.rssi > -50.0`:   "record.line=L2 record.tests.rssi=-60.5",
		`history.refusals == 0 && history.attempts < 5`:      "history.attempts=2 history.refusals=1",
		`now < timestamp("2026-01-01T00:00:00Z")`:            "now=2026-11-21 12:00:00 +0000 UTC",
		`record.tests.missing == 1`:                          "record.tests.missing=unknown: no such key: missing",
		`record.tests.leds.all(l, l == "red")`:               "record.tests.leds=[red green]",
	} {
		t.Run(expression, func(t *testing.T) {
			set, err := rules.Compile(rule(expression))
			if err != nil {
				t.Fatal(err)
			}
			broken := set.Broken(facts())
			if want == "" {
				if len(broken) != 0 {
					t.Errorf("broken: %+v", broken)
				}
				return
			}
			if len(broken) != 1 {
				t.Fatal("the facts pass")
			}
			var got []string
			for name, value := range broken[0].Values {
				got = append(got, name+"="+value)
			}
			if !same(got, want) {
				t.Errorf("values %q, want %q", got, want)
			}
			if (broken[0].Err != nil) != (strings.Contains(expression, "missing") || expression == "record.tests.rssi") {
				t.Errorf("error %v", broken[0].Err)
			}
		})
	}
}

func same(got []string, want string) bool {
	for _, g := range got {
		if !strings.Contains(want, g) {
			return false
		}
	}
	return len(strings.Join(got, " ")) == len(want)
}

func TestBadRules(t *testing.T) {
	for expression, want := range map[string]string{
		`record.`:             "Syntax error",
		`record.sreial == ""`: "undefined field 'sreial'",
		`device.serial == ""`: "undeclared reference to 'device'",
		`record.serial`:       "must be a bool",
		`record.serial == 5`:  "no matching overload",
		`record.tests.a.all(x, record.tests.a.all(y, record.tests.a.all(z, x == y && y == z)))`:                                                   "can cost up to",
		`[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, a+b+c+d > 0))))`: "can cost up to",
		strings.Repeat("(", 500) + "true" + strings.Repeat(")", 500):                                                                              "",
		`"` + strings.Repeat("a", 100) + `".matches("(a+)+b")`:                                                                                    "",
	} {
		set, err := rules.Compile(rule(expression))
		if want == "" {
			if err == nil {
				set.Broken(facts()) // it ends, that is all
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `rule "it"`) {
			t.Errorf("%s: %v, want %q", expression, err, want)
		}
	}
}

func TestLooks(t *testing.T) {
	for expression, want := range map[string]vetting.Looks{
		`record.serial != ""`:                          {},
		`history.attempts < 3`:                         {Attempts: true},
		`history.order_last_day < 3`:                   {Pace: true},
		`history.refusals + history.rig_last_hour < 3`: {Pace: true, Attempts: true},
		`claim.proof != "code" || claim.on_site`:       {Site: true},
		`claim.code && history.attempts < 3`:           {Attempts: true},
	} {
		set, err := rules.Compile(rule(expression))
		if err != nil || set.Looks() != want {
			t.Errorf("%s: %+v, %v", expression, set.Looks(), err)
		}
	}
}

// Rules can want a code and another proof together.
func TestCombinedProofs(t *testing.T) {
	key := vetting.Fingerprint{1}
	for expression, want := range map[string][]string{ // what passes, of the cases below
		`claim.proof != "code" || claim.on_site`:   {"key", "code at the site"},
		`claim.code && claim.bootstrap_key`:        {"code and key"},
		`claim.code && claim.rig != ""`:            {},
		`claim.code || claim.bootstrap_key`:        {"code", "code and key", "key", "code at the site"},
		`claim.proof == "code" && claim.code`:      {"code", "code and key", "code at the site"},
		`claim.proof == "bootstrap-key"`:           {"key"},
		`!claim.bootstrap_key && claim.code`:       {"code", "code at the site"},
		`claim.on_site == (claim.proof == "code")`: {"key", "code at the site"},
	} {
		set, err := rules.Compile(rule(expression))
		if err != nil {
			t.Fatal(err)
		}
		var passed []string
		for _, c := range []struct {
			name   string
			auth   vetting.Auth
			onSite bool
		}{
			{"code", vetting.Auth{Proof: vetting.ProofCode, Code: 7, Key: vetting.Fingerprint{2}}, false},
			{"code and key", vetting.Auth{Proof: vetting.ProofCode, Code: 7, Key: key}, false},
			{"key", vetting.Auth{Proof: vetting.ProofBootstrapKey, Key: key}, false},
			{"code at the site", vetting.Auth{Proof: vetting.ProofCode, Code: 7}, true},
		} {
			f := facts()
			f.Claim.Auth, f.Record.BootstrapKey, f.OnSite = c.auth, key, c.onSite
			if len(set.Broken(f)) == 0 {
				passed = append(passed, c.name)
			}
		}
		if !slices.Equal(passed, want) {
			t.Errorf("%s: %q pass, want %q", expression, passed, want)
		}
	}
}

// A rule that no record can be judged by is not met.
func TestRecordWithoutAnything(t *testing.T) {
	f := facts()
	f.Record.Made = vetting.Manufacturing{}
	set, err := rules.Compile(rule(`record.tests.rssi > -70.0`))
	if err != nil {
		t.Fatal(err)
	}
	if b := set.Broken(f); len(b) != 1 || b[0].Err == nil {
		t.Errorf("%+v", b)
	}
}

// What no rig tested has not passed.
func TestUntested(t *testing.T) {
	f := facts()
	for _, d := range []*vetting.Device{nil, {}} {
		f.Device = d
		for expression, want := range map[string]string{`test.passed`: "false", `test.rig != ""`: "", `test.values.rssi > -70.0`: "no such key"} {
			set, err := rules.Compile(rule(expression))
			if err != nil {
				t.Fatal(err)
			}
			if b := set.Broken(f); len(b) != 1 || !strings.Contains(b[0].Text("lamp", 0), want) {
				t.Errorf("%s: %+v", expression, b)
			}
		}
	}
}

func BenchmarkTenRules(b *testing.B) {
	var list []vetting.Rule
	for range 5 {
		list = append(list, rule(`history.order_last_hour < 100 && record.line in ["L1", "L2"]`)...)
		list = append(list, rule(`record.tests.rssi > -70.0 && claim.site == order.site`)...)
	}
	set, err := rules.Compile(list)
	if err != nil {
		b.Fatal(err)
	}
	f := facts()
	for b.Loop() {
		if len(set.Broken(f)) > 0 {
			b.Fatal("broken")
		}
	}
}

// What a TPM is found to lie about, and a device without one, tell no rule
// anything.
func TestRulesWithoutATPM(t *testing.T) {
	set, err := rules.Compile(rule(`tpm.attested || tpm.pcrs.size() > 0 || tpm.manufacturer != ""`))
	if err != nil {
		t.Fatal(err)
	}
	for name, tpm := range map[string]*vetting.TPM{"none": nil, "untrue": {Untrue: "another key", Manufacturer: "id:49465800", PCRs: map[string]string{"7": "beef"}}} {
		f := facts()
		f.Claim.TPM = tpm
		if len(set.Broken(f)) != 1 {
			t.Errorf("%s: the rule sees a TPM", name)
		}
	}
}
