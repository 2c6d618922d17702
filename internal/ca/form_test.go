package ca

import (
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// A template that cannot be rendered for a second device leaves everything
// open rather than claim what is not sure.
func TestRequestFormOfACloselyReadingTemplate(t *testing.T) {
	i := NewDeviceIssuer(&Authorities{}, time.Now)
	p := &vetting.Product{ID: 1, Name: "lamp", Revision: 1, Profile: vetting.Profile{Validity: "forever", Template: `{"subject": {"organization": "Acme",
		"commonName": "{{ if hasPrefix "SAMPLE" .Serial }}{{ .Serial }}{{ else }}{{ fail "no sample" }}{{ end }}"}, "keyUsage": ["digitalSignature"]}`}}
	form, err := i.RequestForm(p)
	if err != nil || len(form.Subject) != 2 || form.Key != "P-256" {
		t.Fatalf("%+v, %v", form, err)
	}
	for _, set := range form.Subject {
		if set[0].Value != nil {
			t.Errorf("%s is filled in", set[0].ID)
		}
	}
	p.Revision, p.Profile.Template = 2, `{{ fail "never" }}`
	if form, err := i.RequestForm(p); err == nil {
		t.Errorf("got %+v", form)
	}
}
