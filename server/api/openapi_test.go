package api_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/server/api"
)

type document struct {
	OpenAPI    string
	Info       struct{ Title, Version, Description string }
	Servers    []struct{ URL string }
	Security   []map[string][]string
	Tags       []struct{ Name string }
	Paths      map[string]map[string]operation
	Components struct {
		Schemas         map[string]schema
		SecuritySchemes map[string]struct{ Type string }
	}
}

type operation struct {
	OperationID, Summary, Description string
	Tags                              []string
	Parameters                        []struct {
		Name, In, Description string
		Required              bool
	}
	RequestBody *struct {
		Required bool
		Content  map[string]any
	}
	Responses map[string]struct {
		Description string
		Content     map[string]struct{ Schema schema }
	}
	Permission string                 `json:"x-touchmark-permission"`
	Security   *[]map[string][]string // nil is the document's
}

type schema struct {
	Ref                  string `json:"$ref"`
	Type                 any
	Description          string
	Properties           map[string]schema
	AdditionalProperties any
}

func openDocument(t *testing.T) (document, []byte) {
	t.Helper()
	b, err := api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	return d, b
}

// TestDocumentIsServed compares what the server serves with what the package
// gives, byte by byte, and twice, for it is compared with a file elsewhere.
func TestDocumentIsServed(t *testing.T) {
	w := newWorld(t)
	_, b := openDocument(t)
	_, again := openDocument(t)
	got := w.do(w.client(""), "GET", api.Base+"/openapi.json", nil)
	if got.status != 200 || got.body != string(b) || !bytes.Equal(b, again) || got.header.Get("Content-Type") != "application/openapi+json" {
		t.Errorf("status %d, type %s, the same %v and %v", got.status, got.header.Get("Content-Type"), got.body == string(b), bytes.Equal(b, again))
	}
	if !bytes.HasSuffix(b, []byte("}\n")) {
		t.Error("no line break at the end")
	}
}

func TestDocumentIsComplete(t *testing.T) {
	d, _ := openDocument(t)
	if !strings.HasPrefix(d.OpenAPI, "3.1.") || d.Info.Title == "" || d.Info.Version == "" || len(d.Servers) != 1 || d.Servers[0].URL != api.Base ||
		len(d.Security) != 1 || d.Components.SecuritySchemes["clientCertificate"].Type != "mutualTLS" {
		t.Errorf("openapi %s, info %+v, servers %+v, security %+v", d.OpenAPI, d.Info, d.Servers, d.Security)
	}
	known := map[string]bool{}
	for _, tag := range d.Tags {
		known[tag.Name] = true
	}
	ids := map[string]bool{}
	for _, r := range newWorld(t).api.Routes() {
		op, ok := d.Paths[r.Path][strings.ToLower(r.Method)]
		if !ok || op.OperationID != r.ID || ids[r.ID] || op.Permission != string(r.Permission) {
			t.Errorf("%s %s is not documented as %s", r.Method, r.Path, r.ID)
			continue
		}
		ids[r.ID] = true
		if op.Summary == "" || strings.HasSuffix(op.Summary, ".") || len(op.Tags) != 1 || !known[op.Tags[0]] {
			t.Errorf("%s: summary %q, tags %v", r.ID, op.Summary, op.Tags)
		}
		checkOperation(t, r, op)
	}
	n := 0
	for _, ops := range d.Paths {
		n += len(ops)
	}
	// One is open to those who have no certificate yet.
	if login := d.Paths["/logins"]["post"]; n != len(ids)+1 || login.OperationID != "logIn" || login.Permission != "" || login.Security == nil || len(*login.Security) != 0 {
		t.Errorf("%d operations are documented, %d exist, the login is %+v", n, len(ids), login)
	}
}

func checkOperation(t *testing.T, r api.Route, op operation) {
	t.Helper()
	want := []string{"401", "403", "422", "500"}
	if strings.Contains(r.Path, "{") {
		want = append(want, "404")
	}
	if r.Method != "GET" {
		want = append(want, "400", "409", "413")
	}
	for _, code := range want {
		if _, ok := op.Responses[code]; !ok {
			t.Errorf("%s does not document status %s", r.ID, code)
		}
	}
	good := 0
	for code, res := range op.Responses {
		if res.Description == "" {
			t.Errorf("%s: status %s has no description", r.ID, code)
		}
		if code[0] == '2' {
			good++
			if _, ok := res.Content["application/json"]; !ok {
				t.Errorf("%s: status %s has no JSON", r.ID, code)
			}
		} else if res.Content["application/problem+json"].Schema.Ref != "#/components/schemas/Problem" {
			t.Errorf("%s: status %s is no Problem", r.ID, code)
		}
	}
	if good != 1 {
		t.Errorf("%s documents %d good outcomes", r.ID, good)
	}
	inPath, key := 0, false
	for _, p := range op.Parameters {
		if p.Description == "" || p.In == "path" && !strings.Contains(r.Path, "{"+p.Name+"}") {
			t.Errorf("%s: parameter %+v", r.ID, p)
		}
		if p.In == "path" {
			inPath++
		}
		key = key || p.Name == "Idempotency-Key" && p.In == "header"
	}
	if inPath != strings.Count(r.Path, "{") || key != (r.Method == "POST") {
		t.Errorf("%s: parameters %+v", r.ID, op.Parameters)
	}
}

var refs = regexp.MustCompile(`"\$ref": "#/components/schemas/([^"]+)"`)

func TestSchemasAreDescribed(t *testing.T) {
	d, b := openDocument(t)
	used := map[string]bool{}
	for _, m := range refs.FindAllSubmatch(b, -1) {
		name := string(m[1])
		used[name] = true
		if _, ok := d.Components.Schemas[name]; !ok {
			t.Errorf("$ref to %s, which is not there", name)
		}
	}
	for name, s := range d.Components.Schemas {
		if !used[name] {
			t.Errorf("nothing refers to the schema %s", name)
		}
		for field, p := range s.Properties {
			if p.Description == "" {
				t.Errorf("%s.%s is not described", name, field)
			}
		}
		closed := s.AdditionalProperties == false
		request := strings.HasSuffix(name, "Input") || name == "ProductUpdate" || name == "SiteUpdate" || name == "OrderPatch"
		if request && !closed {
			t.Errorf("%s would let a misspelt field pass", name)
		}
		if (name == "Problem" || name == "Order" || strings.HasPrefix(name, "List")) && closed {
			t.Errorf("%s could never grow a field", name)
		}
	}
}
