package api_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/licence"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// One chip that gets no licence is an error; of several each has its own
// answer.
func TestLicencesRefused(t *testing.T) {
	w := newWorld(t)
	w.desk.refused = map[string]*vetting.LicenceRefusal{
		"00": vetting.RefuseLicence(vetting.RefusedUID, "blank"), "01": vetting.RefuseLicence(vetting.RefusedQuota, "none left"),
	}
	of := func(uid string) map[string]any { return map[string]any{"order": "order-near", "uid": uid} }
	refused(t, w.as("rig", "POST", "/licences", of("00")), http.StatusUnprocessableEntity, "blank")
	refused(t, w.as("rig", "POST", "/licences", of("01")), http.StatusConflict, "none left")
	a := decode[api.LicencesAnswer](t, w.as("rig", "POST", "/licences", map[string]any{"order": "order-near", "uids": []string{"00", "02", "01"}}), 200)
	if len(a.Licences) != 3 || a.Licences[0].Refused.Code != vetting.RefusedUID || len(a.Licences[1].Licence) != 80 || a.Licences[2].Refused.Code != vetting.RefusedQuota {
		t.Errorf("%+v", a)
	}
	refused(t, w.as("rig", "POST", "/licences/confirm", map[string]any{"uid": "01"}), http.StatusConflict, "none left")
	c := decode[api.ConfirmationAnswer](t, w.as("rig", "POST", "/licences/confirm", map[string]any{"uids": []string{"01", "02"}}), 200)
	if c.Confirmed != 1 || len(c.Refused) != 1 || c.Refused[0].UID != "01" {
		t.Errorf("%+v", c)
	}
}

func TestLicencesBadRequests(t *testing.T) {
	w := newWorld(t)
	many := make([]string, vetting.MaxLicences+1)
	for i := range many {
		many[i] = "01"
	}
	for _, c := range []struct {
		body   any
		status int
		text   string
	}{
		{map[string]any{"order": "order-near"}, 422, "no chip is named"},
		{map[string]any{"order": "order-near", "uid": "01", "uids": []string{"02"}}, 422, "not both"},
		{map[string]any{"order": "order-near", "uids": many}, 422, "<= 1000"},
		{map[string]any{"order": "order-near", "uid": strings.Repeat("0", 129)}, 422, "<= 128"},
		{map[string]any{"order": "order-near", "uid": 7}, 422, "string"},
		{map[string]any{"order": "order-far", "uid": "01"}, 404, "there is no order"},
		{`{"order": "order-near", "uid": `, 400, ""},
		{"\x00\xff", 400, ""},
		{strings.Repeat(" ", 170<<10), 413, "too large"},
	} {
		refused(t, w.as("rig", "POST", "/licences", c.body), c.status, c.text)
	}
	if len(w.store.acted) != 0 {
		t.Errorf("something was done: %+v", w.store.acted)
	}
}

// A key that is out of reach is no defect, and says nothing of where it is.
func TestLicenceKeyOutOfReach(t *testing.T) {
	w := newWorld(t)
	w.desk.err = &vetting.KeyError{Key: "licence-lamp-1", Err: errors.New("pkcs11 says CKR_DEVICE_REMOVED")}
	got := w.as("rig", "POST", "/licences", map[string]any{"order": "order-near", "uid": "01"})
	refused(t, got, http.StatusServiceUnavailable, "licence-lamp-1", "again")
	if got.header.Get("Retry-After") == "" || strings.Contains(got.body, "CKR") {
		t.Errorf("%v %s", got.header, got.body)
	}
}

// What the API takes as a type of UID is what licences know.
func TestLicenceUIDTypes(t *testing.T) {
	w := newWorld(t)
	spec := w.as("planner", "GET", "/openapi.json", nil).body
	for kind := licence.UIDType(1); !strings.HasPrefix(kind.String(), "unknown"); kind++ {
		if !strings.Contains(spec, `"`+kind.String()+`"`) {
			t.Errorf("the API does not know %s", kind)
		}
	}
}

// Who only looks devices up sees that a chip is licensed, and not by what.
func TestSupportSeesNoLicence(t *testing.T) {
	w := newWorld(t)
	if l := decode[vetting.Licence](t, w.as("support", "GET", "/licences/a1", nil), 200); l.Bytes != nil || l.By != "" || l.Order == "" {
		t.Errorf("%+v", l)
	}
	if l := decode[vetting.Licence](t, w.as("planner", "GET", "/licences/A1", nil), 200); len(l.Bytes) != 80 || l.By != "rig" {
		t.Errorf("%+v", l)
	}
	refused(t, w.as("planner", "GET", "/licences/xyz", nil), 422, "not hexadecimal")
	refused(t, w.as("planner", "GET", "/licences/a9", nil), 404, "there is no licence")
}
