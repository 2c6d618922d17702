package api_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func TestProducts(t *testing.T) {
	w := newWorld(t)
	in := api.ProductInput{Name: "fan", ProductSettings: api.ProductSettings{Profile: vetting.Profile{Validity: "forever", Template: "{\n\t\"subject\": {}\n}"}, Proofs: []vetting.Proof{vetting.ProofBootstrapKey}}}
	got := w.as("planner", "POST", "/products", in)
	if p := decode[vetting.Product](t, got, 201); p.Revision != 1 || p.Profile.Template != in.Profile.Template || got.header.Get("Location") != "/api/v1/products/fan" {
		t.Errorf("got %+v, %v", p, got.header)
	}
	refused(t, w.as("planner", "POST", "/products", in), 409, "already")

	change := api.ProductUpdate{ProductSettings: api.ProductSettings{Description: "new", Profile: in.Profile, Proofs: []vetting.Proof{vetting.ProofRig}}, Revision: 1}
	if p := decode[vetting.Product](t, w.as("planner", "PUT", "/products/fan", change), 200); p.Revision != 2 || p.Description != "new" || !slices.Equal(p.Proofs, change.Proofs) {
		t.Errorf("got %+v", p)
	}
	refused(t, w.as("planner", "PUT", "/products/fan", change), 409, "revision")
	change.ServerKeys, change.Revision = vetting.ServerKeysEncrypted, 2
	if p := decode[vetting.Product](t, w.as("planner", "PUT", "/products/fan", change), 200); p.ServerKeys != vetting.ServerKeysEncrypted {
		t.Errorf("got %+v", p)
	}
	change.ServerKeys, change.Revision = "", 3
	if p := decode[vetting.Product](t, w.as("planner", "PUT", "/products/fan", change), 200); p.ServerKeys != vetting.ServerKeysOff {
		t.Errorf("what is not said is off, got %+v", p)
	}
	change.ServerKeys = "always"
	refused(t, w.as("planner", "PUT", "/products/fan", change), 422, "body.serverKeys")
	change.ServerKeys = ""
	refused(t, w.as("planner", "PUT", "/products/none", change), 404, "none")

	w.profileErr = errors.New("e_sub_cert_aia_missing: no AIA")
	for _, r := range []reply{w.as("planner", "POST", "/products", in), w.as("planner", "PUT", "/products/fan", change)} {
		if p := refused(t, r, 422, "e_sub_cert_aia_missing"); len(p.Errors) != 1 || p.Errors[0].Location != "body.profile" {
			t.Errorf("got %+v", p)
		}
	}
	w.profileErr = nil
	in.Name = "cacerts"
	refused(t, w.as("planner", "POST", "/products", in), 422, "EST operation")
	in.Name, in.Proofs = "x", []vetting.Proof{"official-certificate"}
	refused(t, w.as("planner", "POST", "/products", in), 422, "body.proofs")
	in.Proofs = []vetting.Proof{}
	refused(t, w.as("planner", "POST", "/products", in), 422, "body.proofs")
}

func TestOrders(t *testing.T) {
	w := newWorld(t)
	end := today.AddDate(0, 1, 0)
	in := api.OrderInput{Name: "o", Product: "lamp", Site: "far", Quantity: 10, Identifiers: vetting.Identifiers{Serials: []string{"A-1..A-9"}}, NotAfter: end}
	o := decode[vetting.Order](t, w.as("planner", "POST", "/orders", in), 201)
	if o.State != vetting.OrderDraft || o.ManifestSignatures != 1 || !o.NotAfter.Equal(end) || !o.NotBefore.IsZero() || !slices.Equal(o.Identifiers.Serials, in.Identifiers.Serials) {
		t.Errorf("got %+v", o)
	}
	in.Name, in.State, in.ManifestSignatures = "p", vetting.OrderOpen, 2
	if o := decode[vetting.Order](t, w.as("planner", "POST", "/orders", in), 201); o.State != vetting.OrderOpen || o.ManifestSignatures != 2 {
		t.Errorf("got %+v", o)
	}
}

func TestChangeOrder(t *testing.T) {
	w := newWorld(t)
	w.store.orders[0].NotAfter = today
	change := func(body string) vetting.Order {
		return decode[vetting.Order](t, w.as("planner", "PATCH", "/orders/order-near", body), 200)
	}
	if o := change(`{"state":"closed"}`); o.State != vetting.OrderClosed || o.Quantity != 5 || !o.NotAfter.Equal(today) {
		t.Errorf("got %+v", o)
	}
	if o := change(`{"notAfter":null}`); !o.NotAfter.IsZero() || o.State != vetting.OrderOpen {
		t.Errorf("got %+v", o)
	}
	if o := change(`{"notAfter":"2027-01-01T00:00:00+01:00","notBefore":"2026-01-01T00:00:00Z"}`); !o.NotAfter.Equal(time.Date(2026, 12, 31, 23, 0, 0, 0, time.UTC)) || o.NotBefore.Year() != 2026 {
		t.Errorf("got %+v", o)
	}
	refused(t, w.as("planner", "PATCH", "/orders/order-near", "{}"), 422, "changes nothing")
	refused(t, w.as("planner", "PATCH", "/orders/order-near", `{"quantity":0}`), 422, "quantity")
	refused(t, w.as("planner", "PATCH", "/orders/order-near", `{"site":"far"}`), 422, "site")
	refused(t, w.as("planner", "PATCH", "/orders/none", `{"quantity":1}`), 404, "none")

	// The types say the same to programs that use them.
	for want, p := range map[string]api.OrderPatch{
		`{}`:                                   {},
		`{"notAfter":null}`:                    {NotAfter: api.OptionalTime{Set: true}},
		`{"notBefore":"2026-11-21T12:00:00Z"}`: {NotBefore: api.OptionalTime{Set: true, Time: today}},
	} {
		if b, err := json.Marshal(p); err != nil || string(b) != want {
			t.Errorf("%+v gives %s, %v; want %s", p, b, err, want)
		}
	}
}

func TestCertificates(t *testing.T) {
	w := newWorld(t)
	kept := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.store.certificates[0].DER}))
	for _, serial := range []string{"0a11", "0A11", "0a:11", "0A:11"} {
		c := decode[api.IssuedCertificate](t, w.as("support", "GET", "/certificates/"+serial, nil), 200)
		if c.Serial != "0a11" || c.PEM != kept || c.DER != nil {
			t.Errorf("got %+v", c)
		}
	}
	if w.store.certificates[0].DER == nil {
		t.Error("the store's own certificate was changed")
	}
	if p := decode[audit.Proof](t, w.as("support", "GET", "/certificates/0a11/proof", nil), 200); p.Index != 7 {
		t.Errorf("proof of leaf %d, want 7", p.Index)
	}
	w.prover.err = audit.ErrNotPublished
	got := w.as("support", "GET", "/certificates/0a11/proof", nil)
	refused(t, got, 409, "checkpoint")
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestDeviceState(t *testing.T) {
	w := newWorld(t)
	d := decode[vetting.Device](t, w.as("admin", "POST", "/devices/11/state", api.DeviceStateInput{State: vetting.DeviceQuarantined, Note: "a clone was seen"}), 200)
	if d.State != vetting.DeviceQuarantined {
		t.Errorf("got %+v", d)
	}
	refused(t, w.as("admin", "POST", "/devices/11/state", map[string]any{"state": "quarantined"}), 422, "note")
	refused(t, w.as("admin", "POST", "/devices/11/state", map[string]any{"state": "lost", "note": "x"}), 422, "body.state")
}
