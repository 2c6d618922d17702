package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/manifest"
)

func TestRoutesThatAreNone(t *testing.T) {
	w := newWorld(t)
	c := w.client("admin")
	for _, path := range []string{"/", "/api", "/api/v1", "/api/v1/", "/api/v2/orders", "/api/v1/orders/", "/api/v1//orders", "/api/v1/x/../orders", "/api/v1/orders/a/b/c"} {
		got := w.do(c, "GET", path, nil)
		refused(t, got, http.StatusNotFound, "openapi.json")
	}
	for _, x := range []struct{ method, path, allow string }{
		{"DELETE", "/orders", "GET, HEAD, POST"}, {"PUT", "/orders/order-near", "GET, HEAD, PATCH"},
		{"GET", "/operators/support/revoke", "POST"}, {"POST", "/whoami", "GET, HEAD"}, {"OPTIONS", "/sites", "GET, HEAD, POST"},
		{"POST", "/openapi.json", "GET, HEAD"}, {"BREW", "/orders", "GET, HEAD, POST"},
	} {
		got := w.as("admin", x.method, x.path, nil)
		refused(t, got, http.StatusMethodNotAllowed, x.method)
		if a := got.header.Get("Allow"); a != x.allow {
			t.Errorf("%s %s: Allow is %q, want %q", x.method, x.path, a, x.allow)
		}
	}
}

// TestBadBodies sends what cannot be an order; nothing may come of it.
func TestBadBodies(t *testing.T) {
	w := newWorld(t)
	order := func(more string) string {
		return `{"name":"o","product":"lamp","site":"near","quantity":1` + more + `}`
	}
	for name, c := range map[string]struct {
		body   string
		status int
		words  string
	}{
		"empty":               {"", 400, "required"},
		"not JSON":            {"{", 400, "JSON"},
		"two values":          {order("") + order(""), 400, "body"},
		"field twice":         {order(`,"quantity":2`), 400, "twice"},
		"two spellings":       {order(`,"Quantity":-5`), 400, "twice"},
		"Unicode's spelling":  {order(`,"\u017fite":"far"`), 400, "twice"},
		"twice deep inside":   {order(`,"identifiers":{"serials":["A"],"serials":["B"]}`), 400, "twice"},
		"a list":              {"[]", 422, "object"},
		"null":                {"null", 422, "object"},
		"field missing":       {`{"name":"o"}`, 422, "quantity"},
		"unknown field":       {order(`,"quantty":3`), 422, "quantty"},
		"wrong type":          {strings.Replace(order(""), ":1", `:"1"`, 1), 422, "body.quantity"},
		"quantity zero":       {strings.Replace(order(""), ":1", `:0`, 1), 422, "body.quantity"},
		"quantity huge":       {strings.Replace(order(""), ":1", `:1e30`, 1), 422, "quantity"},
		"fraction":            {strings.Replace(order(""), ":1", `:1.5`, 1), 422, "quantity"},
		"bad name":            {strings.Replace(order(""), `"o"`, `"o o"`, 1), 422, "o o"},
		"NUL":                 {strings.Replace(order(""), `"near"`, `"ne\u0000ar"`, 1), 422, "control character"},
		"escape":              {strings.Replace(order(""), `"near"`, `"ne\u001b[2Jar"`, 1), 422, "body.site"},
		"NUL in a list":       {order(`,"identifiers":{"serials":["A","\u0000"]}`), 422, "body.identifiers.serials[1]"},
		"bad range":           {order(`,"identifiers":{"serials":["B..A"]}`), 422, "ends before it begins"},
		"unknown state":       {order(`,"state":"closed"`), 422, "body.state"},
		"bad time":            {order(`,"notAfter":"tomorrow"`), 422, "body.notAfter"},
		"window inside out":   {order(`,"notBefore":"2026-02-01T00:00:00Z","notAfter":"2026-01-01T00:00:00Z"`), 422, "window"},
		"too many signatures": {order(`,"manifestSignatures":9`), 422, "manifestSignatures"},
	} {
		t.Run(name, func(t *testing.T) {
			p := refused(t, w.as("planner", "POST", "/orders", c.body), c.status, c.words)
			if p.Reference != "" {
				t.Error("a client's mistake has a reference into the log")
			}
		})
	}
	refused(t, w.as("planner", "POST", "/orders", order(""), header("Content-Type", "application/xml")), 415, "application/xml")
	refused(t, w.as("planner", "GET", "/orders?sit=near", nil), 422, "query.sit")
	refused(t, w.as("planner", "GET", "/orders?site=%00", nil), 422, "control character")
	refused(t, w.as("planner", "GET", "/orders?site=%ff", nil), 422, "UTF-8")
	refused(t, w.as("planner", "GET", "/orders/%ff", nil), 422, "UTF-8")
	refused(t, w.as("planner", "GET", "/orders/%2e%2e%2f", nil), 404)
	refused(t, w.as("planner", "GET", "/devices/x", nil), 422, "path.id")
	refused(t, w.as("planner", "GET", "/devices/0", nil), 422, "path.id")
	refused(t, w.as("planner", "GET", "/devices/99999999999999999999", nil), 422, "path.id")
	refused(t, w.as("planner", "GET", "/devices?mac=zz", nil), 422, "MAC address")
	refused(t, w.as("planner", "GET", "/certificates/xyz", nil), 404, "hexadecimal")
	if n := len(w.store.acted); n != 0 {
		t.Errorf("%d acts were done", n)
	}
}

func TestBodyLimits(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		path  string
		limit int
	}{
		{"/sites", 64 << 10}, {"/products", 256 << 10}, {"/orders", 2 << 20}, {"/operators", 64 << 10},
	} {
		refused(t, w.as("admin", "POST", c.path, strings.Repeat(" ", c.limit+1)), 413, fmt.Sprint(c.limit))
		// As much as is allowed is read, and judged by what it says.
		got := w.as("admin", "POST", c.path, strings.Repeat(" ", c.limit))
		refused(t, got, 400)
	}
}

// TestErrorsOfActs is the mapping of errors, seen from outside.
func TestErrorsOfActs(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		err    error
		status int
		words  string
		retry  string
	}{
		{vetting.Errorf(vetting.NotFound, "no such thing"), 404, "no such thing", ""},
		{vetting.Errorf(vetting.Exists, "the name is taken"), 409, "taken", ""},
		{vetting.Errorf(vetting.Conflict, "the revision is 4"), 409, "revision is 4", ""},
		{vetting.Errorf(vetting.Invalid, "makes no sense"), 422, "makes no sense", ""},
		{fmt.Errorf("internal path: %w", vetting.Errorf(vetting.Conflict, "only this")), 409, "only this", ""},
		{enroll.BadRequest("a weak key"), 400, "weak key", ""},
		{fmt.Errorf("enrol: %w", enroll.ErrStale), 503, "again", "1"},
		{fmt.Errorf("enrol: %w", &enroll.BusyError{Reason: "full, try again", RetryAfter: 1500 * time.Millisecond}), 503, "again", "2"},
		{&enroll.BusyError{Reason: "too many of yours", Share: true}, 429, "too many", "1"},
		{audit.ErrNotPublished, 409, "checkpoint", "5"},
	} {
		w.importer.err = c.err
		got := w.as("admin", "POST", "/manifests/21/signatures", "sig")
		p := refused(t, got, c.status, c.words)
		if strings.Contains(got.body, "internal path") || got.header.Get("Retry-After") != c.retry || p.Reference != "" {
			t.Errorf("%v: %s, Retry-After %q", c.err, got.body, got.header.Get("Retry-After"))
		}
	}
	w.importer.err = &manifest.LineErrors{Total: 12, List: []manifest.LineError{{Line: 3, Text: "serial <A> twice"}, {Line: 9, Text: "no serial"}}}
	p := refused(t, w.as("admin", "POST", "/manifests/21/signatures", "sig"), 422, "12")
	if p.LineCount != 12 || len(p.Lines) != 2 || p.Lines[0] != (api.LineError{Line: 3, Message: "serial <A> twice"}) {
		t.Errorf("got %+v", p)
	}
}

// TestUnknownErrors checks that what is not meant for clients stays inside.
func TestUnknownErrors(t *testing.T) {
	w := newWorld(t)
	check := func(t *testing.T, got reply) {
		t.Helper()
		p := refused(t, got, 500, "reference")
		if strings.Contains(got.body, "secret") || strings.Contains(got.body, "boom") {
			t.Errorf("the answer tells too much: %s", got.body)
		}
		if p.Reference == "" || !strings.Contains(p.Detail, p.Reference) || !strings.Contains(w.log.String(), "reference="+p.Reference) {
			t.Errorf("reference %q is not in the detail and the log %s", p.Reference, w.log)
		}
		if !strings.Contains(w.log.String(), "secret thing") {
			t.Error("the log does not tell what happened")
		}
	}
	t.Run("importer", func(t *testing.T) {
		w.importer.err = errors.New("disk: secret thing")
		check(t, w.as("admin", "POST", "/manifests/21/signatures", "sig"))
	})
	t.Run("authentication", func(t *testing.T) {
		w.store.fail = errors.New("database: secret thing")
		check(t, w.as("admin", "GET", "/orders", nil))
		w.store.fail = nil
	})
	t.Run("panic", func(t *testing.T) {
		w.store.boom = true
		check(t, w.as("admin", "GET", "/orders", nil))
	})
}

// TestNothingLooksLikeHTML sends markup where it comes back.
func TestNothingLooksLikeHTML(t *testing.T) {
	w := newWorld(t)
	const markup = "<script>alert(1)</script>"
	w.store.sites[0].Description = markup
	for _, got := range []reply{
		w.as("admin", "GET", "/sites/near", nil),
		w.as("admin", "GET", "/sites", nil),
		w.as("admin", "GET", "/sites/%3Cscript%3E", nil),
		w.as("admin", "GET", "/nothing%3Cscript%3E", nil),
		w.as("admin", "POST", "/sites", map[string]any{"name": markup}),
		w.as("admin", "POST", "/sites", map[string]any{"name": "x", markup: 1}),
		w.as("admin", "GET", "/sites?"+"%3Cscript%3E=1", nil, header("Accept", "text/html")),
	} {
		if strings.ContainsAny(got.body, "<>") {
			t.Errorf("markup came through: %s", got.body)
		}
		if ct := got.header.Get("Content-Type"); !strings.HasSuffix(ct, "json") {
			t.Errorf("type %q", ct)
		}
		if got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("headers %v", got.header)
		}
	}
}
