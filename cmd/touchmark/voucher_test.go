package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// TestVoucher hands a device out, and looks at its voucher as the next owner
// does, with openssl.
func TestVoucher(t *testing.T) {
	w := newWorld(t)
	d := newDevice(t, "A-0001")
	w.handIn(t, d)
	if code := d.enrol(t, w); code != 200 {
		t.Fatalf("enrolment: %d", code)
	}
	dir := t.TempDir()
	pinned, file, again := filepath.Join(w.dir, "admin.crt"), filepath.Join(dir, "A-0001.vcj"), filepath.Join(dir, "again.vcj")
	voucher := func(out string, more ...string) ran {
		return w.admin(t, append([]string{"transfer", "voucher", "A-0001", "--pinned-domain-cert", pinned, "--out", out}, more...)...)
	}
	voucher(file).want(t, exitUsage, "leaves this server's care", "--yes")
	voucher(file, "--yes", "--for", "1s").want(t, exitFailed)
	voucher(file, "--yes", "--nonce", "AAAAAAAAAAA=", "--for", "2h").want(t, exitFailed, "no lifetime")
	voucher(file, "--yes", "--note", "sold").want(t, 0, "handed-out", "elsewhere", "sold")
	voucher(again, "--yes").want(t, 0, "handed-out")
	voucher(again, "--yes", "--for", "3h").want(t, exitFailed, "other terms")
	first, second := readFile(t, file), readFile(t, again)
	if !bytes.Equal(first, second) {
		t.Error("asked for again, the voucher is another")
	}
	content := filepath.Join(dir, "voucher.json")
	if text, err := exec.Command("openssl", "cms", "-verify", "-inform", "DER", "-in", file, "-CAfile", filepath.Join(w.dir, "ca", "root.crt"), "-out", content).CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, text)
	}
	var v map[string]vetting.Voucher
	if err := json.Unmarshal(readFile(t, content), &v); err != nil {
		t.Fatal(err)
	}
	if got := v["ietf-voucher:voucher"]; len(v) != 1 || got.SerialNumber != "A-0001" || got.Assertion != "verified" || len(got.IDevIDIssuer) == 0 || !got.ExpiresOn.After(got.CreatedOn) {
		t.Errorf("the voucher says %+v", v)
	}
	w.admin(t, "device", "list", "--owner", "elsewhere").want(t, 0, "A-0001")
	if code := d.enrol(t, w); code == 200 {
		t.Error("a device that was handed out got a certificate")
	}
	list := decodeAs[api.List[vetting.Transfer]](t, w.admin(t, "transfer", "list", "--state", "handed-out", "--json").want(t, 0).out)
	if len(list.Items) != 1 || list.Items[0].To != vetting.Elsewhere {
		t.Fatalf("the transfers are %+v", list)
	}
	w.admin(t, "transfer", "reverse", fmt.Sprint(list.Items[0].ID), "--note", "never arrived", "--yes").want(t, 0, "reversed")
	w.admin(t, "device", "list", "--owner", "manufacturer").want(t, 0, "A-0001")
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
