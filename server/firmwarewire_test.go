package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// foundry is a running server with the people who make firmware and programme
// chips, each with a client of their own.
type foundry struct {
	*testing.T
	*Server
	config *Config
	people map[string]*http.Client
	berta  *storetest.Person // approves; one is enough
	world  *storetest.World
}

func newFoundry(t *testing.T) *foundry {
	t.Helper()
	c := initialized(t, Plan{})
	s := started(t, c)
	w := &foundry{T: t, Server: s, config: c, world: storetest.NewWorld(t, s.store, 3)}
	w.people = map[string]*http.Client{"admin": as(t, c, "admin"), "erna": hire(t, c, s, "erna", "release-engineer", ""), "rig": hire(t, c, s, "rig", "rig", "hsinchu"),
		"portal": hire(t, c, s, "portal", "reporter", ""), "anna": hire(t, c, s, "anna", "auditor", "")}
	w.berta = storetest.NewPerson(t, "berta").Employ(t, s.store, access.RoleApprover)
	w.want("admin", "PUT", "/products/thermo/firmware/approvals", map[string]any{"approvals": 1}, 200)
	for name, stage := range map[string]string{"thermo-test": "test", "thermo-1": "production"} {
		w.want("admin", "POST", "/firmware-keys", map[string]any{"name": name, "product": "thermo", "stage": stage, "kind": "P-256"}, 201)
	}
	return w
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	text   string
}

// ask sends bytes as one of the people, under an idempotency key unless it is
// "".
func (w *foundry) ask(who, method, path, key string, body []byte) reply {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), method, apiURL(w.Server, path), bytes.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := w.people[who].Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(text)}
}

// jsonOf is nothing for nil.
func (w *foundry) jsonOf(body any) []byte {
	w.Helper()
	if body == nil {
		return nil
	}
	text, err := json.Marshal(body)
	if err != nil {
		w.Fatal(err)
	}
	return text
}

// want asks and demands a status, and that the answer says something.
func (w *foundry) want(who, method, path string, body any, status int, says ...string) reply {
	w.Helper()
	a := w.ask(who, method, path, "", w.jsonOf(body))
	w.is(a, fmt.Sprint(who, " ", method, " ", path), status, says...)
	return a
}

func (w *foundry) is(a reply, what string, status int, says ...string) {
	w.Helper()
	if a.status != status {
		w.Errorf("%s: %d, want %d: %s", what, a.status, status, a.text)
	}
	if a.status >= 400 && a.header.Get("Content-Type") != "application/problem+json" {
		w.Errorf("%s: an error of type %s", what, a.header.Get("Content-Type"))
	}
	for _, s := range says {
		if !strings.Contains(a.text, s) {
			w.Errorf("%s: no %q in %s", what, s, a.text)
		}
	}
}

// draft makes a release.
func (w *foundry) draft(version string, counter uint32) (id int64) {
	w.Helper()
	return into[release.Release](w.T, []byte(w.want("erna", "POST", "/releases", releaseInput(version, counter), 201).text)).ID
}

func releaseInput(version string, counter uint32) map[string]any {
	return map[string]any{"product": "thermo", "version": version, "counter": counter, "supportEnd": "2031-12-31"}
}

// image asks for a signature over a content.
func (w *foundry) image(name, content, key string, stage release.Stage) map[string]any {
	w.Helper()
	k := into[release.Key](w.T, []byte(w.want("erna", "GET", "/firmware-keys/"+key, nil, 200).text))
	public, err := k.Public()
	if err != nil {
		w.Fatal(err)
	}
	sum := sha256.Sum256([]byte(content))
	want, err := firmwaresign.NewDigestToSign(firmwaresign.ECDSAP256SHA256, public, sum[:])
	if err != nil {
		w.Fatal(err)
	}
	return map[string]any{"stage": stage, "name": name, "format": "raw", "source": release.File{Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])},
		"keys": []string{key}, "toSign": []firmwaresign.ToSign{want}}
}

// add hands an image in, and gives its number.
func (w *foundry) add(id int64, content, key string, stage release.Stage) (artefact int64) {
	w.Helper()
	path := fmt.Sprintf("/releases/%d/artefacts", id)
	return into[release.Artefact](w.T, []byte(w.want("erna", "POST", path, w.image("app.bin", content, key, stage), 201).text)).ID
}

var sbom = []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6"}`)

func provenanceOf(content string) []byte {
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","subject":[{"digest":{"sha256":"%x"}}]}`, sha256.Sum256([]byte(content)))
}

// complete makes a draft one that can be submitted.
func (w *foundry) complete(version string, counter uint32) (id, artefact int64) {
	w.Helper()
	id = w.draft(version, counter)
	artefact = w.add(id, "image "+version, "thermo-1", release.Production)
	for _, text := range [][]byte{sbom, provenanceOf("image " + version)} {
		w.want("erna", "POST", fmt.Sprintf("/releases/%d/documents", id), map[string]any{"content": text}, 200)
	}
	return id, artefact
}

// agree has berta approve what waits.
func (w *foundry) agree() {
	w.Helper()
	list, err := w.store.Proposals(w.Context(), approval.Filter{State: approval.Pending}, vetting.Page{})
	if err != nil || len(list) != 1 {
		w.Fatalf("%d proposals wait, %v", len(list), err)
	}
	p, err := w.store.Proposal(w.Context(), list[0].ID)
	if err != nil {
		w.Fatal(err)
	}
	if _, err := w.store.ApproveProposal(w.Context(), access.Act{Operator: "berta"}, p.ID, w.berta.Yes(w.T, p.Payload)); err != nil {
		w.Fatal(err)
	}
}

// published goes the whole way.
func (w *foundry) published(version string, counter uint32) (id, artefact int64) {
	w.Helper()
	id, artefact = w.complete(version, counter)
	w.want("erna", "POST", fmt.Sprintf("/releases/%d/submit", id), map[string]any{"note": "ready"}, 200)
	w.agree()
	w.want("erna", "POST", fmt.Sprintf("/artefacts/%d/sign", artefact), nil, 200)
	w.want("erna", "POST", fmt.Sprintf("/artefacts/%d/checks", artefact), checksInput, 200)
	w.want("erna", "POST", fmt.Sprintf("/releases/%d/publish", id), nil, 200)
	return id, artefact
}

var checksInput = map[string]any{"signed": release.File{Size: 9, SHA256: strings.Repeat("0b", 32)}, "checks": []release.Check{{Program: "openssl", Version: "3"}}}

// wireRoute is a route that changes something, and how it is misused.
type wireRoute struct {
	method, path  string
	who, stranger string
	good, other   any    // bodies that are taken; nil for none
	status        int    // of success; 0 is 200
	unknown       string // the path, or the body if that is set, that names nothing
	unknownBody   any
	busy          string // the path of what is in the wrong state; "" is the same
	busyBody      any
	conflict      string // what is said of it; "" if there is no such state
	limit         int    // of the body; 0 is the usual
	unkeyed       bool   // asked again it does no harm, so it takes no idempotency key
}

func reason(text string) map[string]any { return map[string]any{"note": text} }

func (w *foundry) routes() []wireRoute {
	old, oldPart := w.published("1.0.0", 3)
	draft, part := w.complete("1.1.0", 3)
	empty := w.draft("1.2.0", 3)
	test := w.add(empty, "for test", "thermo-test", release.Test)
	at := func(format string, id int64) string { return fmt.Sprintf(format, id) }
	image := func(content string) any { return w.image("b.bin", content, "thermo-test", release.Test) }
	device := w.device(0)
	return []wireRoute{
		{method: "POST", path: "/firmware-keys", who: "admin", stranger: "erna", status: 201, good: keyInput("k-1", "thermo"), other: keyInput("k-2", "thermo"),
			unknownBody: keyInput("k-3", "none"), busyBody: keyInput("thermo-test", "thermo"), conflict: "exists already"},
		{method: "POST", path: "/releases", who: "erna", stranger: "rig", status: 201, good: releaseInput("2.0.0", 3), other: releaseInput("2.1.0", 3),
			unknownBody: map[string]any{"product": "none", "version": "1", "counter": 3, "supportEnd": "2031-12-31"}, busyBody: releaseInput("0.9.0", 3), conflict: "goes back"},
		{method: "POST", path: at("/releases/%d/artefacts", empty), who: "erna", stranger: "rig", status: 201, good: image("one"), other: image("two"),
			unknown: "/releases/99999/artefacts", busy: at("/releases/%d/artefacts", old), busyBody: w.image("c.bin", "x", "thermo-1", release.Production), conflict: "only a draft"},
		{method: "POST", path: at("/releases/%d/documents", empty), who: "erna", stranger: "rig", good: map[string]any{"content": sbom}, other: map[string]any{"content": provenanceOf("x")},
			unknown: "/releases/99999/documents", busy: at("/releases/%d/documents", old), conflict: "only a draft", limit: 5593 << 10},
		{method: "POST", path: at("/releases/%d/submit", draft), who: "erna", stranger: "anna", good: reason("ready"), other: reason("really"),
			unknown: "/releases/99999/submit", busy: at("/releases/%d/submit", empty), conflict: "no artefact"},
		{method: "POST", path: at("/releases/%d/yank", old), who: "erna", stranger: "anna", status: 202, good: reason("it burns"), other: reason("it smells"),
			unknown: "/releases/99999/yank", busy: at("/releases/%d/yank", empty), conflict: "is draft"},
		{method: "POST", path: at("/artefacts/%d/sign", test), who: "erna", stranger: "anna", unknown: "/artefacts/99999/sign", busy: at("/artefacts/%d/sign", part), conflict: "is draft"},
		{method: "POST", path: at("/artefacts/%d/checks", oldPart), who: "erna", stranger: "anna", good: checksInput,
			unknown: "/artefacts/99999/checks", busy: at("/artefacts/%d/checks", part), conflict: "no signatures yet"},
		{method: "POST", path: at("/releases/%d/publish", old), who: "erna", stranger: "anna", status: 409, unknown: "/releases/99999/publish", busy: at("/releases/%d/publish", empty), conflict: "is draft"},
		{method: "POST", path: "/firmware-keys/k-1/revoke", who: "erna", stranger: "anna", good: reason("old"), other: reason("very old"),
			unknown: "/firmware-keys/none/revoke", conflict: "revoked already"},
		{method: "POST", path: "/products/thermo/firmware/floor", who: "erna", stranger: "anna", status: 202, good: map[string]any{"floor": 3, "note": "a hole"}, other: map[string]any{"floor": 2, "note": "a hole"},
			unknown: "/products/none/firmware/floor", busyBody: map[string]any{"floor": 4, "note": "too high"}, conflict: "would strand 0 devices"},
		{method: "PUT", path: "/products/thermo/firmware/approvals", who: "admin", stranger: "erna", good: map[string]any{"approvals": 2}, unkeyed: true,
			unknown: "/products/none/firmware/approvals", busyBody: map[string]any{"approvals": 1}, conflict: "can only grow"},
		{method: "POST", path: "/firmware-reports", who: "portal", stranger: "erna", good: running(device, "1.0.0", 3), unkeyed: true, unknownBody: running(99999, "1.0.0", 3)},
		{method: "POST", path: "/products/thermo/licence-keys", who: "admin", stranger: "rig", status: 201, good: map[string]any{}, other: map[string]any{"algorithm": "P-256"},
			unknown: "/products/none/licence-keys", busy: "/products/lamp/licence-keys", conflict: "declares no licences"},
		{method: "POST", path: "/products/thermo/licence-keys/1/use", who: "admin", stranger: "rig", unknown: "/products/thermo/licence-keys/9/use"},
		{method: "POST", path: "/licences", who: "rig", stranger: "admin", good: chipInput("po-1", 1), unkeyed: true, unknownBody: chipInput("none", 1), busyBody: chipInput("po-2", 7),
			conflict: "order po-2 is", limit: 160 << 10},
		{method: "POST", path: "/licences/confirm", who: "rig", stranger: "admin", good: map[string]any{"uid": chipUID(1)}, unkeyed: true, busyBody: map[string]any{"uid": chipUID(8)},
			conflict: "has no licence of this site", limit: 160 << 10},
	}
}

func keyInput(name, product string) map[string]any {
	return map[string]any{"name": name, "product": product, "stage": "test", "kind": "P-256"}
}

func running(device int64, version string, counter uint32) map[string]any {
	return map[string]any{"device": device, "version": version, "counter": counter, "at": time.Now().Add(-time.Hour)}
}

func chipUID(n int) string { return hex.EncodeToString(storetest.Chip(n)) }

func chipInput(order string, n int) map[string]any {
	return map[string]any{"order": order, "uid": chipUID(n)}
}

// device is the number of the n-th unit's record.
func (w *foundry) device(n int) int64 {
	w.Helper()
	list, err := w.store.Devices(w.Context(), vetting.DeviceFilter{Identity: vetting.Identity{Serial: storetest.Unit(n).Serial}}, vetting.Page{})
	if err != nil || len(list) != 1 {
		w.Fatalf("%d devices, %v", len(list), err)
	}
	return list[0].ID
}

// Every route that changes something about firmware or licences: what is too
// large, cut off or no JSON, who may not, what is not there or in the wrong
// state, and the same once more.
func TestFirmwareAndLicenceRoutes(t *testing.T) {
	w := newFoundry(t)
	w.world.Load(t, storetest.Unit(0))
	storetest.Licensed(t, w.store, "thermo")
	ctx := t.Context()
	if _, err := w.store.CreateProduct(ctx, storetest.By, &vetting.Product{Name: "lamp", Profile: vetting.Profile{Validity: "1y"}, Proofs: []vetting.Proof{vetting.ProofRig}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.CreateOrder(ctx, storetest.By, &vetting.Order{Name: "po-2", Product: "thermo", Site: "hsinchu", Quantity: 1, State: vetting.OrderPaused, ManifestSignatures: 1}); err != nil {
		t.Fatal(err)
	}
	for i, r := range w.routes() {
		name := r.method + " " + r.path
		good := w.jsonOf(r.good)
		ask := func(who, path, key string, body []byte) reply { return w.ask(who, r.method, path, key, body) }
		w.is(ask(r.stranger, r.path, "", good), name+" by "+r.stranger, 403)
		if r.good != nil {
			limit := max(r.limit, api.DefaultMaxBody)
			w.is(ask(r.who, r.path, "", bytes.Repeat([]byte(" "), limit+2048)), name+", too large", 413, "at most")
			w.is(ask(r.who, r.path, "", good[:len(good)-1]), name+", cut off", 400)
			w.is(ask(r.who, r.path, "", []byte("\x00\xff")), name+", no JSON", 400)
			if string(good) != "{}" {
				w.is(ask(r.who, r.path, "", []byte("{}")), name+", empty", 422)
			}
		}
		if r.unknown != "" || r.unknownBody != nil {
			path, body := r.unknown, good
			if r.unknownBody != nil {
				path, body = r.path, w.jsonOf(r.unknownBody)
			}
			w.is(ask(r.who, path, "", body), name+", unknown", 404, "there is no")
		}
		leaves := w.leaves()
		status := max(r.status, 200)
		key := fmt.Sprint("wire-", i)
		if r.unkeyed {
			key = ""
		}
		first := ask(r.who, r.path, key, good)
		w.is(first, name, status)
		then := w.leaves()
		if !r.unkeyed && status < 300 {
			again := ask(r.who, r.path, key, good)
			if again.status != first.status || again.text != first.text || w.leaves() != then {
				t.Errorf("%s, repeated: %d %s\nfirst %s, and %d further leaves", name, again.status, again.text, first.text, w.leaves()-then)
			}
			if r.other != nil {
				w.is(ask(r.who, r.path, key, w.jsonOf(r.other)), name+", another under the key", 409, "another request")
			}
		}
		if r.conflict != "" {
			path, body := r.busy, good
			if path == "" {
				path = r.path
			}
			if r.busyBody != nil {
				body = w.jsonOf(r.busyBody)
			}
			w.is(ask(r.who, path, "", body), name+", in the wrong state", 409, r.conflict)
		}
		if status >= 300 && w.leaves() != leaves {
			t.Errorf("%s was refused, but is in the log", name)
		}
	}
	storetest.Verify(t, w.store)
}

func (w *foundry) leaves() int64 {
	w.Helper()
	head, err := w.store.Head(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return head.Size()
}

// Every route that shows something about firmware or licences: who may not
// see it, and what is not there.
func TestFirmwareAndLicenceReads(t *testing.T) {
	w := newFoundry(t)
	storetest.Licensed(t, w.store, "thermo")
	id, part := w.complete("1.0.0", 3)
	w.want("admin", "POST", "/products/thermo/licence-keys", map[string]any{}, 201)
	w.want("rig", "POST", "/licences", chipInput("po-1", 1), 200)
	sum := sha256.Sum256(sbom)
	for _, c := range []struct{ good, unknown, stranger string }{
		{"/firmware-keys", "/firmware-keys?product=none", "rig"},
		{"/firmware-keys/thermo-1", "/firmware-keys/none", "rig"},
		{"/firmware-keys/thermo-1/impact", "/firmware-keys/none/impact", "rig"},
		{"/releases", "/releases?product=none", "rig"},
		{fmt.Sprintf("/releases/%d", id), "/releases/99999", "rig"},
		{fmt.Sprintf("/releases/%d/yank-impact", id), "/releases/99999/yank-impact", "rig"},
		{fmt.Sprintf("/releases/%d/documents/%x", id, sum), fmt.Sprintf("/releases/%d/documents/00", id), "rig"},
		{fmt.Sprintf("/artefacts/%d", part), "/artefacts/99999", "rig"},
		{"/products/thermo/firmware", "/products/none/firmware", "rig"},
		{"/products/thermo/firmware/floor-impact?floor=4", "/products/none/firmware/floor-impact?floor=4", "rig"},
		{"/products/thermo/licence-keys", "/products/none/licence-keys", "erna"},
		{"/licences", "", "erna"},
		{"/licences/" + chipUID(1), "/licences/" + chipUID(2), "erna"},
	} {
		w.want("anna", "GET", c.good, nil, 200)
		w.want(c.stranger, "GET", c.good, nil, 403, "permission")
		if c.unknown != "" {
			w.want("anna", "GET", c.unknown, nil, 404, "there is no")
		}
	}
	for _, bad := range []string{"/releases/0", "/releases/x", "/artefacts/-1", "/products/thermo/firmware/floor-impact?floor=-1", "/products/thermo/firmware/floor-impact?floor=4294967296", "/licences/xyz", "/releases?state=none"} {
		w.want("anna", "GET", bad, nil, 422)
	}
	if list := into[api.List[release.Release]](t, []byte(w.want("anna", "GET", "/releases?state=draft", nil, 200).text)); len(list.Items) != 1 ||
		!slices.ContainsFunc(list.Items, func(r *release.Release) bool { return r.ID == id }) {
		t.Errorf("%+v", list)
	}
}
