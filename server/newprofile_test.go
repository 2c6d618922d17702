package server

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll/mqtt"
	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/internal/mqtttest"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// job has a job planned and confirmed, and waits for its end.
func (w *works) job(task map[string]any) *vetting.Job {
	w.t.Helper()
	var j vetting.Job
	w.ask("/jobs", task, 201, &j)
	w.ask(fmt.Sprintf("/jobs/%d/confirm", j.ID), map[string]string{"digest": j.Digest}, 200, &j)
	for j.State != vetting.JobDone && w.t.Context().Err() == nil {
		_, text := get(w.t, as(w.t, w.config, "admin"), fmt.Sprintf("https://%s/api/v1/jobs/%d", w.server.Addrs()["api"], j.ID))
		if err := json.Unmarshal([]byte(text), &j); err != nil {
			w.t.Fatalf("%v in %s", err, text)
		}
	}
	return &j
}

// A product gets another profile. Devices have it with their next renewal; a
// job asks those that were certified before to renew now, by renewal-info and
// over MQTT, and tells how far it came.
func TestNewProfile(t *testing.T) {
	w := opened(t)
	list := w.units(2)
	unit := w.enrol(v13, list[0], "simpleenroll", nil)
	reader := w.mqtt(unit, "x")
	if code := reader.subscribe(branchOf(unit) + "/notice"); code != 1 {
		t.Fatalf("SUBSCRIBE: %#x", code)
	}
	w.ahead.Add(int64(time.Hour))
	changed := w.now()
	p := *w.world.Product
	p.Profile = vetting.Profile{Validity: "30d", Template: `{"subject": {"commonName": "{{ .Serial }}", "organizationalUnit": "second profile"}, "keyUsage": ["digitalSignature"], "extKeyUsage": ["clientAuth"]}`}
	if _, err := w.server.store.UpdateProduct(t.Context(), storetest.By, &p); err != nil {
		t.Fatal(err)
	}
	w.ahead.Add(int64(time.Hour))
	later := w.enrol(v13, list[1], "simpleenroll", nil)
	profiled := func(what string, p pair) {
		t.Helper()
		if life := p.cert.NotAfter.Sub(p.cert.NotBefore); !slices.Equal(p.cert.Subject.OrganizationalUnit, []string{"second profile"}) || life > 31*24*time.Hour {
			t.Errorf("%s: the certificate is of %s, for %s", what, p.cert.Subject, life)
		}
	}
	profiled("enrolled since", later)
	_, undisturbed := w.renewalWindow(later)
	task := map[string]any{"action": "renew", "spreadSeconds": 7200, "note": "the second profile",
		"selected": map[string]any{"product": p.Name, "certifiedBefore": changed}}
	if j := w.job(task); j.Worked.Changes != 1 || j.Worked.Devices != 1 {
		t.Errorf("the job changed %d of %d devices", j.Worked.Changes, j.Worked.Devices)
	}
	if start, end := w.renewalWindow(unit); start.After(w.now()) || end.After(w.now().Add(2*time.Hour)) {
		t.Errorf("it is to renew from %s to %s, now is %s", start, end, w.now())
	}
	if _, end := w.renewalWindow(later); !end.Equal(undisturbed) {
		t.Errorf("who has the new profile is asked, too: until %s, was %s", end, undisturbed)
	}
	kind, body, err := reader.read()
	m, ok := mqtttest.Published(kind, body)
	if err != nil || !ok {
		t.Fatalf("the notice: %x, %v", kind, err)
	}
	content, _, err := cms.Open(m.Payload, 1<<16)
	var n mqtt.Notice
	if err != nil || json.Unmarshal(content, &n) != nil || n.Notice != mqtt.RenewNow {
		t.Errorf("the notice is %s, %v", content, err)
	}
	renewed := w.enrol(v13, unit, "simplereenroll", unit.cert)
	profiled("renewed", renewed)
	var left vetting.Job
	if w.ask("/jobs", task, 201, &left); left.Found.Devices != 0 {
		t.Errorf("once renewed, %d are left", left.Found.Devices)
	}
	storetest.Verify(t, w.server.store)
}
