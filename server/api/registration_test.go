package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func TestRegisterDevice(t *testing.T) {
	w := newWorld(t)
	text, der := newCSR(t, "S-1")
	csr, err := enroll.ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	w.enroller.out = enroll.Outcome{
		Verdict: vetting.Admitted, Registration: 5, Certificate: []byte("a certificate's DER"),
		Reasons: []vetting.Reason{{Code: vetting.ReasonVetted, Text: "Fine.", Values: map[string]string{"order": "order-near"}}},
	}
	body := map[string]any{"product": "lamp", "serial": " S-1 ", "mac": "02-00-00-00-00-01", "uid": "AB:CD", "csr": text}
	res := decode[api.RegistrationResult](t, w.as("rig", "POST", "/registrations", body), 200)
	block, _ := pem.Decode([]byte(res.Certificate))
	if res.Verdict != vetting.Admitted || res.Registration != 5 || block == nil || string(block.Bytes) != "a certificate's DER" || len(res.Reasons) != 1 || res.Reasons[0].Values["order"] != "order-near" {
		t.Errorf("got %+v", res)
	}
	got := w.enroller.got[0]
	c := got.Claim
	rig := w.store.operators[3]
	if got.CSR == nil || got.Presented != nil || c.Key != vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo) ||
		c.Auth != (vetting.Auth{Proof: vetting.ProofRig, Key: rig.Key, Operator: "rig", Site: "near"}) ||
		c.Asserted != (vetting.Identity{Serial: "S-1", MAC: "02:00:00:00:00:01", UID: "abcd"}) ||
		c.Label != "lamp" || !bytes.Equal(c.Subject, csr.RawSubject) || c.Transport != "api" || c.Remote != "127.0.0.1" || !c.At.Equal(today) {
		t.Errorf("claim %+v", c)
	}

	// The same as base64 of DER, with line breaks.
	b64 := base64.StdEncoding.EncodeToString(der)
	decode[api.RegistrationResult](t, w.as("rig", "POST", "/registrations", map[string]any{"serial": "S-1", "csr": b64[:64] + "\r\n " + b64[64:]}), 200)

	// A held device is told when to come again, in full seconds.
	w.enroller.out = enroll.Outcome{Verdict: vetting.Held, RetryAfter: 1500 * time.Millisecond}
	held := w.as("rig", "POST", "/registrations", body)
	if res := decode[api.RegistrationResult](t, held, 200); res.Verdict != vetting.Held || res.RetryAfter != 2 || res.Certificate != "" || !strings.Contains(held.body, `"reasons":[]`) {
		t.Errorf("got %+v", res)
	}
}

func TestBadRegistrations(t *testing.T) {
	w := newWorld(t)
	text, der := newCSR(t, "S-1")
	forged := bytes.Clone(der)
	forged[len(forged)-1] ^= 1
	b64 := base64.StdEncoding.EncodeToString
	for name, c := range map[string]struct {
		body   map[string]any
		status int
		words  string
	}{
		"no identity":       {map[string]any{"csr": text}, 422, "serial"},
		"bad MAC":           {map[string]any{"serial": "1", "mac": "xyz", "csr": text}, 422, "MAC address"},
		"bad serial":        {map[string]any{"serial": "a b", "csr": text}, 422, "serial"},
		"no CSR":            {map[string]any{"serial": "1"}, 422, "csr"},
		"neither form":      {map[string]any{"serial": "1", "csr": "%%%"}, 400, "neither PEM nor base64"},
		"damaged PEM":       {map[string]any{"serial": "1", "csr": strings.ReplaceAll(text, "\n", "")}, 400, "PEM is damaged"},
		"another PEM":       {map[string]any{"serial": "1", "csr": strings.ReplaceAll(text, "CERTIFICATE REQUEST", "PRIVATE KEY")}, 400, "PRIVATE KEY"},
		"two CSRs":          {map[string]any{"serial": "1", "csr": text + text}, 400, "alone"},
		"not a CSR":         {map[string]any{"serial": "1", "csr": b64([]byte("hello"))}, 400, "PKCS#10"},
		"truncated":         {map[string]any{"serial": "1", "csr": b64(der[:len(der)-9])}, 400, "PKCS#10"},
		"wrong signature":   {map[string]any{"serial": "1", "csr": b64(forged)}, 400, "signature"},
		"too long":          {map[string]any{"serial": "1", "csr": b64(make([]byte, 17<<10))}, 400, "16384"},
		"key of the device": {map[string]any{"serial": "1", "csr": text, "key": "x"}, 422, "key"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, w.as("rig", "POST", "/registrations", c.body), c.status, c.words)
		})
	}
	if n := len(w.enroller.got); n != 0 {
		t.Errorf("the enroller was asked %d times", n)
	}
	w.enroller.err = enroll.BadRequest("the request asks for CA:true")
	refused(t, w.as("rig", "POST", "/registrations", map[string]any{"serial": "1", "csr": text}), 400, "CA:true")
}

func TestDecision(t *testing.T) {
	w := newWorld(t)
	r := decode[vetting.Registration](t, w.as("planner", "POST", "/registrations/31/decision", map[string]any{"admit": true, "note": "saw the unit"}), 200)
	if r.Decision == nil || *r.Decision != (vetting.Decision{Admit: true, By: "planner", At: today, Note: "saw the unit"}) {
		t.Errorf("decision %+v", r.Decision)
	}
	refused(t, w.as("planner", "POST", "/registrations/31/decision", map[string]any{"admit": true}), 422, "note")
	refused(t, w.as("planner", "POST", "/registrations/31/decision", map[string]any{"admit": true, "note": "x", "by": "somebody else"}), 422, "by")
	refused(t, w.as("planner", "POST", "/registrations/99/decision", map[string]any{"admit": true, "note": "x"}), 404)
}

func FuzzCSR(f *testing.F) {
	text, der := newCSR(f, "S-1")
	f.Add(text)
	f.Add(base64.StdEncoding.EncodeToString(der))
	f.Add("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		csr, err := api.ParseCSR(text)
		var bad *enroll.RequestError
		switch {
		case err != nil && !errors.As(err, &bad):
			t.Errorf("%v is not a *enroll.RequestError", err)
		case err == nil && csr.CheckSignature() != nil:
			t.Error("a request with a bad signature was accepted")
		}
	})
}
