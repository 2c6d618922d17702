package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// posts makes one attempt at a POST as one of the operators; out gets the
// answer.
func (w *world) posts(t *testing.T, dir, path, key string, in, out any) error {
	t.Helper()
	a := newApp(strings.NewReader(""), new(bytes.Buffer), new(bytes.Buffer))
	a.getenv = func(string) string { return "" }
	a.dir, a.profile.Server = dir, "https://"+w.server.Addr["api"]
	c, err := a.client()
	if err != nil {
		t.Fatal(err)
	}
	defer c.http.CloseIdleConnections()
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.attempt(t.Context(), http.MethodPost, c.base+"/api/v1"+path, key, bytesBody("application/json", text), out)
	return err
}

// asks submits a release, and gives the number of what waits.
func (w *firmwareWorld) asks(t *testing.T, name string) string {
	t.Helper()
	w.as(t, w.erna, "release", "submit", name, "--note", "it is ready").want(t, 0)
	list := decodeAs[struct{ Items []api.Proposal }](t, w.admin(t, "approval", "list", "--json").want(t, 0).out)
	for _, p := range list.Items {
		if p.Subject == name && p.State == approval.Pending {
			return strconv.FormatInt(p.ID, 10)
		}
	}
	t.Fatalf("nothing waits about %s: %+v", name, list.Items)
	return ""
}

// An approval of a release by who asked for it, of one that was withdrawn, or
// of a draft that was changed since, counts for nothing; no production key
// signs.
func TestFirmwareApprovalsThatDoNotCount(t *testing.T) {
	w := newFirmwareWorld(t)
	berta := w.operator(t, "berta")
	const name = "thermostat@1.4.0"
	w.as(t, w.erna, "release", "create", name, "--counter", "3", "--support-end", "2031-12-31").want(t, 0)
	part := decodeAs[release.Artefact](t, w.as(t, w.erna, "sign", w.file("app.bin"), "--format", "raw", "--stage", "production", "--release", name, "--json").want(t, exitHeld).out)
	w.put(t, "sbom.json", []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6"}`))
	w.put(t, "sbom2.json", []byte(`{"bomFormat":"CycloneDX","specVersion":"1.5"}`))
	w.provenance(t, "provenance.json", "app.bin")
	attach := func(file string) {
		t.Helper()
		w.as(t, w.erna, "release", "attach", name, w.file(file)).want(t, 0)
	}
	approve := func(dir, id string, code int) {
		t.Helper()
		touchmark(t, "--dir", dir, "approval", "approve", id, "--yes").want(t, code)
	}
	attach("sbom.json")
	attach("provenance.json")
	withdrawn := w.asks(t, name)
	approve(w.erna, withdrawn, exitFailed)
	approve(berta, withdrawn, 0)
	touchmark(t, "--dir", w.erna, "approval", "withdraw", withdrawn, "--note", "not yet").want(t, 0)
	approve(w.operator(t, "carla"), withdrawn, exitFailed)
	changed := w.asks(t, name)
	attach("sbom2.json")
	approve(berta, changed, exitFailed)
	last := w.asks(t, name) // what was approved before counts for nothing here
	approve(berta, last, 0)
	w.as(t, w.erna, "release", "show", name).want(t, 0, "draft")
	w.as(t, w.erna, "collect", strconv.FormatInt(part.ID, 10), w.file("app.bin")).want(t, exitHeld)
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}

// Who asks for a floor is told how many devices it would touch, and is refused
// with their number where no published release reaches it.
func TestFirmwareFloorTellsOfDevices(t *testing.T) {
	w := newFirmwareWorld(t)
	portal := filepath.Join(t.TempDir(), "portal")
	w.admin(t, "operator", "add", "portal", "--role", "reporter", "--out", portal).want(t, 0)
	one, two, three := newDevice(t, "A-0001"), newDevice(t, "A-0002"), newDevice(t, "A-0003")
	w.handIn(t, one, two, three)
	for d, counter := range map[*device]int{one: 1, two: 2, three: 5} {
		id := decodeAs[vetting.Device](t, w.admin(t, "device", "show", d.serial, "--json").want(t, 0).out).ID
		if err := w.posts(t, portal, "/firmware-reports", "report-"+d.serial, map[string]any{"device": id, "version": "1." + strconv.Itoa(counter), "counter": counter, "at": time.Now().Add(-time.Hour)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	w.as(t, w.erna, "floor", "thermostat", "3", "--note", "a hole").want(t, exitUsage, "Of 3 devices seen, 2 run")
	w.as(t, w.erna, "floor", "thermostat", "3", "--note", "a hole", "--yes").want(t, exitFailed, "a floor of 3 would strand 2 devices")
	w.as(t, w.erna, "key", "revoke", "thermo-1", "--note", "stolen").want(t, exitUsage, "0 run what it is about")
}
