package server

import (
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// A device that changes hands: what it had counts no more, but for coming to
// its new owner with, and what it gets there is as the owner wants it.
func TestTransfer(t *testing.T) {
	w := opened(t)
	s, ctx := w.server.store, t.Context()
	boot := w.build("A-1", w.now().Add(time.Hour))
	old := w.enrol(v13, boot, "simpleenroll", nil)
	if code, _, body := w.own(old, "POST", "/device/v1/activation"); code != 200 {
		t.Fatalf("activation: %d %s", code, body)
	}
	template := `{"subject": {"commonName": "{{ .Serial }}", "organization": "Acme Buildings"}, "keyUsage": ["digitalSignature"], "extKeyUsage": ["clientAuth"]}`
	if _, err := s.CreateOwner(ctx, storetest.By, &vetting.Owner{Name: "acme", Profile: &vetting.Profile{Template: template, Validity: "30d"}}); err != nil {
		t.Fatal(err)
	}
	offer, err := s.OfferTransfer(ctx, storetest.By, vetting.Offer{From: vetting.Manufacturer, To: "acme", Serials: []string{"A-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AcceptTransfer(ctx, storetest.By, offer.ID, "received"); err != nil {
		t.Fatal(err)
	}

	if _, end := w.renewalWindow(old); end.After(w.now()) {
		t.Errorf("the device is not told to come to its owner at once, but until %s", end)
	}
	_, fresh := w.request(nil)
	if code, _, body := w.own(old, "POST", "/device/v1/activation"); code != 403 || !strings.Contains(body, "revoked") {
		t.Errorf("activation with the certificate from before: %d %s", code, body)
	}
	if code, _, body := w.est(v13, old, "simpleenroll", fresh); code != 403 {
		t.Errorf("first enrolment with it: %d %s", code, body)
	}
	w.getsCACerts(v13, old, "transferred") // which is no use of it
	if d := w.device("A-1"); d.State != vetting.DeviceManufactured || d.Owner != "acme" {
		t.Errorf("the device is %+v", d)
	}
	moved := w.enrol(v13, old, "simplereenroll", old.cert) // it repeats the names, as RFC 7030 §4.2.2 has it
	if got := moved.cert.Subject.Organization; len(got) != 1 || got[0] != "Acme Buildings" {
		t.Errorf("the subject is %s", moved.cert.Subject)
	}
	if end := w.now().Add(30 * 24 * time.Hour); moved.cert.NotAfter.After(end.Add(time.Minute)) || moved.cert.NotAfter.Before(end.Add(-time.Hour)) {
		t.Errorf("it ends at %s", moved.cert.NotAfter)
	}
	if code, _, body := w.own(moved, "POST", "/device/v1/activation"); code != 200 {
		t.Fatalf("activation: %d %s", code, body)
	}
	if start, _ := w.renewalWindow(moved); start.Before(w.now()) {
		t.Errorf("a device that came to its owner is told to renew from %s", start)
	}
	// Whoever else holds the old key shows it by using it.
	if code, _, body := w.est(v13, old, "simplereenroll", w.sameKey(old)); code != 403 || !strings.Contains(body, "two hold the device's key") {
		t.Errorf("the certificate from before, once more: %d %s", code, body)
	}
	if d := w.device("A-1"); d.State != vetting.DeviceQuarantined {
		t.Errorf("the device is %+v", d)
	}
	storetest.Verify(t, s)
}

// A request with which a device comes to its owner may repeat the names that
// it had, or leave them out; it may not ask for others.
func TestTransferredNames(t *testing.T) {
	w := opened(t)
	s, ctx := w.server.store, t.Context()
	if _, err := s.CreateOwner(ctx, storetest.By, &vetting.Owner{Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	old := w.enrol(v13, w.build("A-1", w.now().Add(time.Hour)), "simpleenroll", nil)
	offer, err := s.OfferTransfer(ctx, storetest.By, vetting.Offer{From: vetting.Manufacturer, To: "acme", Serials: []string{"A-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AcceptTransfer(ctx, storetest.By, offer.ID, ""); err != nil {
		t.Fatal(err)
	}
	stranger := w.issued("Somebody Else", pair{}, w.now().Add(time.Hour))
	_, csr := w.request(stranger.cert)
	if code, _, body := w.est(v13, old, "simplereenroll", csr); code != 400 || !strings.Contains(body, "Somebody Else") {
		t.Errorf("another's names: %d %s", code, body)
	}
	_, csr = w.request(nil)
	if code, _, body := w.est(v13, old, "simplereenroll", csr); code != 200 {
		t.Errorf("no names: %d %s", code, body)
	}
}
