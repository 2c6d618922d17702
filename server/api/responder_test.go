package api_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/server/api"
)

func TestResponderNode(t *testing.T) {
	w := newWorld(t)
	csr, _ := newCSR(t, "node")
	made := decode[api.ResponderCertificate](t, w.as("responder", "POST", "/issuers/acme-ca/responders", map[string]any{"csr": csr}), 200)
	if !strings.Contains(made.Certificate, "BEGIN CERTIFICATE") {
		t.Errorf("%+v", made)
	}
	kept := decode[api.ForgeriesKept](t, w.as("responder", "POST", "/issuers/acme-ca/forgeries", map[string]any{"serials": []string{"0A", "00ff"}, "more": 7}), 200)
	if kept.Kept != 2 {
		t.Errorf("%+v", kept)
	}
	if want := []string{"responder answers for acme-ca", "responder met [0a 00ff] of acme-ca and 7"}; !slices.Equal(w.delegate.told, want) {
		t.Errorf("told %q", w.delegate.told)
	}
	refused(t, w.as("responder", "POST", "/issuers/nobody/responders", map[string]any{"csr": csr}), 404, "nobody")
	refused(t, w.as("responder", "POST", "/issuers/acme-ca/responders", map[string]any{"csr": "AAAA"}), 400)
	for _, bad := range []string{"", "0", "xx", strings.Repeat("ab", 21)} {
		refused(t, w.as("responder", "POST", "/issuers/acme-ca/forgeries", map[string]any{"serials": []string{"0a", bad}}), 422, "no serial number in hexadecimal")
	}
	refused(t, w.as("responder", "POST", "/issuers/acme-ca/forgeries", map[string]any{"serials": make([]string, 1001)}), 422)
	refused(t, w.as("responder", "POST", "/issuers/acme-ca/forgeries", map[string]any{"serials": []string{}, "more": -1}), 422)
	for _, path := range []string{"/issuers", "/devices", "/certificates/0a11", "/evidence", "/operators"} {
		refused(t, w.as("responder", "GET", path, nil), 403, "responder")
	}
	for _, role := range []string{"admin", "planner", "reporter"} {
		refused(t, w.as(role, "POST", "/issuers/acme-ca/responders", map[string]any{"csr": csr}), 403)
	}
}
