package server

import (
	"testing"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// A device whose hardware attests its key gets its certificate over ACME:
// through vetting, on one unit of the order, with a leaf in the log.
func TestACMEEnrolment(t *testing.T) {
	w := opened(t)
	m := w.attesting()
	w.keyless("GW-1")
	c := w.opens()
	p := attestedKey(t, m, "GW-1")
	o, a := c.enrol(m, "GW-1", p)
	if a.status != 200 || a.json(t)["status"] != "valid" {
		t.Fatalf("finalize: %d %s", a.status, a.body)
	}
	cert := o.certificate()
	if !p.Key.PublicKey.Equal(cert.PublicKey) || cert.Subject.SerialNumber != "GW-1" {
		t.Errorf("the certificate is %s's, on %v", cert.Subject, cert.PublicKey)
	}
	d := w.device("GW-1")
	if d.State != vetting.DeviceIssued {
		t.Errorf("the device is %s", d.State)
	}
	list, err := w.server.store.Registrations(t.Context(), vetting.RegistrationFilter{}, vetting.Page{})
	if err != nil || len(list) != 1 || list[0].Claim.Transport != "acme" || list[0].Claim.Auth.Proof != vetting.ProofAttestation || list[0].Claim.Auth.Vendor != "chips" {
		t.Errorf("registrations %+v, %v", list, err)
	}
	storetest.Verify(t, w.server.store)
}
