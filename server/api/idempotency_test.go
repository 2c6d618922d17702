package api_test

import (
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

func TestIdempotency(t *testing.T) {
	w := newWorld(t)
	site := map[string]any{"name": "third"}
	key := header("Idempotency-Key", "k-1")
	first := w.as("planner", "POST", "/sites", site, key)
	again := w.as("planner", "POST", "/sites", site, key)
	if first.status != 201 || again.status != 201 || first.body != again.body || again.header.Get("Location") != "/api/v1/sites/third" {
		t.Errorf("first %v, again %v", first, again)
	}
	if n := len(w.store.sites); n != 3 {
		t.Errorf("%d sites, want 3", n)
	}
	// The key stands for this request only: method, path and body.
	refused(t, w.as("planner", "POST", "/sites", map[string]any{"name": "fourth"}, key), 422, "another request")
	refused(t, w.as("planner", "POST", "/registrations/31/decision", map[string]any{"admit": true, "note": "x"}, key), 422, "another request")
	// Another operator's key of the same text is another key.
	decode[vetting.Site](t, w.as("admin", "POST", "/sites", map[string]any{"name": "fifth"}, key), 201)
	// Without a key each request is an act of its own.
	decode[vetting.Site](t, w.as("planner", "POST", "/sites", map[string]any{"name": "sixth"}), 201)
	decode[vetting.Site](t, w.as("planner", "POST", "/sites", map[string]any{"name": "sixth"}), 201)

	acts := w.store.acted
	if a, b := acts[0], acts[1]; a != b || a.Operator != "planner" || a.Key != "k-1" || a.Request == [32]byte{} {
		t.Errorf("acts %+v and %+v", a, b)
	}
	if acts[0].Request == acts[2].Request || acts[2].Request == acts[3].Request {
		t.Error("different requests have the same digest")
	}
}

func TestEveryPostTakesAKey(t *testing.T) {
	w := newWorld(t)
	for i, r := range w.api.Routes() {
		if r.Method != "POST" || r.ID == "handInManifest" || r.ID == "registerDevice" || r.ID == "tryRules" || r.ID == "verifyDevice" || r.ID == "reportObservations" || r.ID == "testWebhook" || r.ID == "makeOfflineFile" || r.ID == "makeCRLs" || r.ID == "importTUFRoot" || // the last four change nothing that could be done twice
			r.ID == "reportFirmware" || r.Permission == access.AnswerStatus { // what a responder does twice does no harm
			continue
		}
		a := attempts(t)[r.ID]
		key := "key-" + r.ID
		who := "admin"
		if r.Permission == access.TestDevices || r.Permission == access.LicenseChips {
			who = "rig"
		}
		w.as(who, r.Method, a.near, a.body, append(a.options, header("Idempotency-Key", key))...)
		acts := append(append([]access.Act(nil), w.store.acted...), w.importer.acts...)
		found := false
		for _, act := range acts {
			found = found || act.Key == key && act.Operator == who
		}
		if !found {
			t.Errorf("route %d, %s, did nothing under its key", i, r.ID)
		}
	}
}

// TestRegistrationIgnoresTheKey: enrolment is idempotent by itself, and the
// answer to a repetition may rightly differ, as when a hold was lifted.
func TestRegistrationIgnoresTheKey(t *testing.T) {
	w := newWorld(t)
	csr, _ := newCSR(t, "x")
	w.enroller.out.Verdict = vetting.Held
	for range 2 {
		w.as("rig", "POST", "/registrations", map[string]any{"serial": "1", "csr": csr}, header("Idempotency-Key", "k"))
	}
	if n := len(w.enroller.got); n != 2 {
		t.Errorf("the enroller was asked %d times, want 2", n)
	}
}

func TestBadKeys(t *testing.T) {
	w := newWorld(t)
	site := map[string]any{"name": "third"}
	for name, o := range map[string]option{
		"empty":    header("Idempotency-Key", ""),
		"too long": header("Idempotency-Key", strings.Repeat("k", 256)),
		"twice":    header("Idempotency-Key", "a", "b"),
		"space":    header("Idempotency-Key", "a b"),
		"not text": header("Idempotency-Key", "a\xffb"),
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, w.as("planner", "POST", "/sites", site, o), 400, "Idempotency-Key")
		})
	}
	decode[vetting.Site](t, w.as("planner", "POST", "/sites", site, header("Idempotency-Key", strings.Repeat("k", 255))), 201)
	// Other methods have no use for it.
	decode[any](t, w.as("planner", "GET", "/sites", nil, header("Idempotency-Key", "")), 200)
}
