package api_test

import (
	"crypto/rand"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func TestCodes(t *testing.T) {
	w := newWorld(t)
	end := today.Add(30 * 24 * time.Hour)
	got := decode[api.CodesCreated](t, w.as("planner", "POST", "/codes", api.CodesInput{Order: "order-far", Count: 3, Expires: end}), 201)
	if len(got.Codes) != 3 || got.Order != "order-far" || got.Product != "lamp" || !got.Expires.Equal(end) || got.EST != "est.example.com:8443" || got.Batch != got.Codes[0].ID {
		t.Fatalf("%+v", got)
	}
	for i, c := range got.Codes {
		code, err := vetting.ParseOneTimeCode(c.Code)
		if err != nil || code.Label() != c.Code || code.Hash() != w.store.hashes[i] {
			t.Errorf("%q is not the code that was kept: %v", c.Code, err)
		}
		if want := "touchmark://est.example.com:8443/lamp?code=" + c.Code + "&order=order-far"; c.URI != want {
			t.Errorf("URI %s, want %s", c.URI, want)
		}
		if c.Device != 0 || c.Serial != "" {
			t.Errorf("%+v", c)
		}
	}
	got = decode[api.CodesCreated](t, w.as("planner", "POST", "/codes", api.CodesInput{Devices: []int64{nearDevice}, Expires: end}), 201)
	u, err := url.Parse(got.Codes[0].URI)
	if err != nil || u.Host != "est.example.com:8443" || u.Query().Get("serial") != "S-11" || u.Query().Get("code") != got.Codes[0].Code || got.Codes[0].Device != nearDevice {
		t.Errorf("%+v, %v", got, err)
	}
	list := w.as("auditor", "GET", "/codes?batch=51", nil)
	if list.status != 200 || !strings.Contains(list.body, `"state":"unused"`) {
		t.Errorf("%d %s", list.status, list.body)
	}
	for _, path := range []string{"/codes?limit=1000", "/devices?limit=100"} {
		if all := w.as("planner", "GET", path, nil); all.status != 200 || strings.Contains(all.body, got.Codes[0].Code) {
			t.Errorf("%d %s", all.status, all.body)
		}
	}
	if strings.Contains(w.log.String(), got.Codes[0].Code[:9]) {
		t.Error("the code is in the log")
	}
}

func TestCodesAreShownOnce(t *testing.T) {
	w := newWorld(t)
	in := api.CodesInput{Order: "order-near", Expires: today.AddDate(0, 1, 0)}
	first := w.as("planner", "POST", "/codes", in, header("Idempotency-Key", "k1"))
	again := w.as("planner", "POST", "/codes", in, header("Idempotency-Key", "k1"))
	if first.status != 201 || again.status != 409 {
		t.Errorf("%d %s, then %d %s", first.status, first.body, again.status, again.body)
	}
}

func TestBadCodes(t *testing.T) {
	w := newWorld(t)
	end := today.AddDate(0, 1, 0)
	for what, c := range map[string]struct {
		in     api.CodesInput
		status int
		want   string
	}{
		"for nothing":       {api.CodesInput{Expires: end}, 422, "order or for devices"},
		"for both":          {api.CodesInput{Order: "order-near", Devices: []int64{nearDevice}, Expires: end}, 422, "order or for devices"},
		"too many":          {api.CodesInput{Order: "order-near", Count: 1001, Expires: end}, 422, "count"},
		"a negative number": {api.CodesInput{Order: "order-near", Count: -1, Expires: end}, 422, "count"},
		"devices and count": {api.CodesInput{Devices: []int64{nearDevice}, Count: 2, Expires: end}, 422, "count"},
		"one twice":         {api.CodesInput{Devices: []int64{nearDevice, nearDevice}, Expires: end}, 422, "twice"},
		"long expired":      {api.CodesInput{Order: "order-near", Expires: today}, 422, "expired already"},
		"never expired":     {api.CodesInput{Order: "order-near", Expires: today.AddDate(3, 0, 0)}, 422, "at most 730 days"},
		"no end":            {api.CodesInput{Order: "order-near"}, 422, "expired already"},
		"an unknown order":  {api.CodesInput{Order: "order-none", Expires: end}, 404, "order-none"},
		"an unknown device": {api.CodesInput{Devices: []int64{999}, Expires: end}, 404, "999"},
	} {
		got := w.as("planner", "POST", "/codes", c.in)
		if got.status != c.status || !strings.Contains(got.body, c.want) {
			t.Errorf("%s: %d %s, want %d %q", what, got.status, got.body, c.status, c.want)
		}
	}
	if len(w.store.hashes) > 0 {
		t.Error("codes were made")
	}
}

// A site makes codes for its own orders, and only where the product lets it.
func TestCodesOfASite(t *testing.T) {
	w := newWorld(t)
	end := today.AddDate(0, 1, 0)
	site := string(access.RoleSiteOperator)
	for _, in := range []api.CodesInput{{Order: "order-far", Expires: end}, {Devices: []int64{farDevice}, Expires: end}, {Devices: []int64{nearDevice, farDevice}, Expires: end}} {
		if got := w.as(site, "POST", "/codes", in); got.status != 404 {
			t.Errorf("%+v: %d %s", in, got.status, got.body)
		}
	}
	if got := w.as(site, "GET", "/codes", nil); strings.Contains(got.body, "order-far") || !strings.Contains(got.body, "order-near") {
		t.Errorf("the site sees %s", got.body)
	}
	near := api.CodesInput{Order: "order-near", Expires: end}
	if got := w.as(site, "POST", "/codes", near); got.status != 201 {
		t.Errorf("%d %s", got.status, got.body)
	}
	w.store.products[0].SiteCodes = false
	for path, in := range map[string]any{"/codes": near, "/codes/51/revoke": nil, "/code-batches/51/revoke": nil} {
		if got := w.as(site, "POST", path, in); got.status != 403 || !strings.Contains(got.body, "planner") {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if got := w.as("planner", "POST", "/codes/51/revoke", nil); got.status != 200 {
		t.Errorf("the planner: %d %s", got.status, got.body)
	}
}

// A rig passes on the code that stands on the device's label, by its hash.
func TestRigWithCode(t *testing.T) {
	w := newWorld(t)
	w.enroller.out.Verdict = vetting.Refused
	csr, _ := newCSR(t, "x")
	code, err := vetting.NewOneTimeCode(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{code.Label(), strings.ToLower(code.Label())} {
		if got := w.as("rig", "POST", "/registrations", map[string]any{"serial": "S-near", "csr": csr, "code": text}); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	for _, r := range w.enroller.got {
		if r.Claim.Auth.Proof != vetting.ProofRig || r.Claim.Auth.CodeHash != code.Hash() || r.Claim.Auth.Code != 0 {
			t.Errorf("%+v", r.Claim.Auth)
		}
	}
	got := w.as("rig", "POST", "/registrations", map[string]any{"serial": "S-near", "csr": csr, "code": code.Label()[:18] + "*"})
	if refused(t, got, 422, "holds the character"); strings.Contains(got.body, code.Label()[:9]) || len(w.enroller.got) != 2 {
		t.Errorf("%s", got.body)
	}
}
