package main

import (
	"encoding/csv"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func TestCodeCommands(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	w.admin(t, "code", "create", "--order", "PO-1").want(t, 1, "does not accept the proof")
	w.admin(t, "product", "update", "thermostat", "--proof", "code", "--proof", "bootstrap-key").want(t, 0, "code, bootstrap-key")

	sheet := filepath.Join(dir, "labels.html")
	w.admin(t, "code", "create", "--order", "PO-1", "--count", "3", "--valid", "30d", "--out", sheet, "--est", "est.example.com:443").want(t, 0, "3 codes, batch", "Whoever reads it")
	info, err := os.Stat(sheet)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	text, err := os.ReadFile(sheet)
	if err != nil || strings.Count(string(text), "<svg ") != 3 || strings.Contains(string(text), "src=") || strings.Contains(string(text), "href=") {
		t.Errorf("the sheet is not three labels by themselves: %v\n%.500s", err, text)
	}
	w.admin(t, "code", "create", "--order", "PO-1", "--out", sheet).want(t, 1, "name a new file")
	if again, err := os.ReadFile(sheet); err != nil || string(again) != string(text) {
		t.Error("labels were overwritten")
	}

	table := filepath.Join(dir, "labels.csv")
	w.admin(t, "code", "create", "--order", "PO-1", "--count", "2", "--out", table).want(t, 0)
	file, err := os.Open(table)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil || len(rows) != 3 || strings.Join(rows[0], ",") != "id,code,serial,order,product,site,expires,uri" {
		t.Fatalf("%v, %v", rows, err)
	}
	u, err := url.Parse(rows[1][7])
	_, port, _ := strings.Cut(w.server.Addr["est"], ":")
	if err != nil || u.Scheme != "touchmark" || !strings.HasSuffix(u.Host, ":"+port) || u.Path != "/thermostat" || u.Query().Get("code") != rows[1][1] || u.Query().Get("order") != "PO-1" {
		t.Errorf("%s, %v", rows[1][7], err)
	}
	if _, err := vetting.ParseOneTimeCode(rows[2][1]); err != nil {
		t.Error(err)
	}

	list := w.admin(t, "code", "list", "--order", "PO-1", "--json").want(t, 0)
	for _, row := range rows[1:] {
		if strings.Contains(list.out, row[1]) {
			t.Error("the list shows a code")
		}
	}
	codes := decodeAs[api.List[vetting.EnrolmentCode]](t, list.out).Items
	if len(codes) != 5 || codes[0].State != vetting.CodeUnused {
		t.Fatalf("%+v", codes)
	}
	w.admin(t, "code", "revoke", rows[1][0]).want(t, 0, "code "+rows[1][0]+" is revoked")
	w.admin(t, "code", "revoke", "--batch", rows[1][0]).want(t, 0, "1 codes are revoked")
	w.admin(t, "code", "revoke", "987654").want(t, 1, "there is no enrolment code 987654")
	w.admin(t, "code", "list", "--state", "revoked").want(t, 0, rows[2][0], "any device")
	w.admin(t, "code", "list", "--state", "used").want(t, 0, "no such codes")
}

func TestCodesOfDevices(t *testing.T) {
	w := newWorld(t)
	w.admin(t, "product", "update", "thermostat", "--proof", "code").want(t, 0)
	w.site(t, "--server", "https://"+w.server.Addr["api"], "manifest", "upload", "PO-1", manifestFile(t, 3), "--sign").want(t, 0)
	out := w.admin(t, "code", "create", "--device", "A-000000", "--device", "A-000002").want(t, 0, "A-000000 of order PO-1", "A-000002 of order PO-1").out
	for line := range strings.Lines(out) {
		if _, err := vetting.ParseOneTimeCode(strings.Fields(line)[0]); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
	made := decodeAs[api.CodesCreated](t, w.admin(t, "code", "create", "--device", "A-000001", "--json").want(t, 0).out)
	if len(made.Codes) != 1 || made.Codes[0].Serial != "A-000001" || !strings.Contains(made.Codes[0].URI, "serial=A-000001") {
		t.Errorf("%+v", made)
	}
	w.admin(t, "code", "list").want(t, 0, "A-000000", "A-000001", "A-000002")
	w.admin(t, "code", "create", "--device", "A-000009").want(t, 1, "no device with the serial number")
	w.site(t, "--server", "https://"+w.server.Addr["api"], "code", "create", "--device", "A-000001").want(t, 1, "leaves enrolment codes to the planner")
	w.admin(t, "product", "update", "thermostat", "--site-codes").want(t, 0, "sites may make their own")
	w.site(t, "--server", "https://"+w.server.Addr["api"], "code", "create", "--device", "A-000001").want(t, 0, "A-000001")
}

func TestCodeUsage(t *testing.T) {
	for _, args := range [][]string{
		{"create"}, {"create", "--order", "a", "--device", "b"}, {"create", "--order", "a", "--valid", "soon"}, {"create", "--order", "a", "--valid", "forever"},
		{"create", "--order", "a", "--format", "pdf"}, {"create", "--order", "a", "--out", "x.pdf"}, {"revoke"}, {"revoke", "1", "--batch", "2"},
	} {
		touchmark(t, append([]string{"code"}, args...)...).want(t, 2)
	}
}
