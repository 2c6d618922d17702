package main

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/licence"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// The way of a planner and of a programming station.
func TestLicenceCommands(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	rig := filepath.Join(dir, "rig")
	w.admin(t, "operator", "add", "rig-7", "--role", "rig", "--site", "penang", "--out", rig).want(t, 0)
	w.admin(t, "licence", "key", "create", "thermostat").want(t, 1, "declares no licences")
	w.admin(t, "product", "update", "thermostat", "--licences", "uid64", "--licence-epoch", "3").want(t, 0, "product 1, UIDs of type uid64, epoch 3")
	touchmark(t, "--dir", rig, "licence", "sign", "PO-1", "0102030405060708").want(t, 1, "licence key create thermostat")
	w.admin(t, "licence", "key", "create", "thermostat", "--algorithm", "P-256").want(t, 0, "P-256", "true")
	w.admin(t, "licence", "key", "create", "thermostat").want(t, 0, "Ed25519", "false")
	w.admin(t, "licence", "key", "use", "thermostat", "two").want(t, 2, "no key's number")
	w.admin(t, "licence", "key", "use", "thermostat", "2").want(t, 0, "true")
	w.admin(t, "licence", "key", "list", "thermostat").want(t, 0, "P-256", "Ed25519")

	touchmark(t, "--dir", rig, "licence", "sign", "PO-1").want(t, 2, "which chips?")
	touchmark(t, "--dir", rig, "licence", "sign", "PO-1", "--file", filepath.Join(dir, "none")).want(t, 1, "no such file")
	w.admin(t, "licence", "sign", "PO-1", "0102030405060708").want(t, 1, "does not include the permission")
	printed := touchmark(t, "--dir", rig, "licence", "sign", "PO-1", "0102030405060708").want(t, 0)
	uids := filepath.Join(dir, "uids.txt")
	if err := os.WriteFile(uids, []byte("01:02:03:04:05:06:07:08\n\n0102030405060709\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "licences")
	touchmark(t, "--dir", rig, "licence", "sign", "PO-1", "--file", uids, "--out", out).want(t, 0)
	file, err := os.ReadFile(filepath.Join(out, "0102030405060708.lic"))
	if err != nil || !strings.Contains(printed.out, hex.EncodeToString(file)) {
		t.Errorf("%x, %v, printed %s", file, err, printed.out)
	}
	if l, err := licence.Parse(file); err != nil || l.Epoch != 3 || l.KeyID != 2 || l.Product != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	bad := touchmark(t, "--dir", rig, "licence", "sign", "PO-1", "0102", "010203040506070a", "--json").want(t, 1, "1 of 2 chips got no licence")
	if a := decodeAs[api.LicencesAnswer](t, bad.out); a.Licences[0].Refused.Code != vetting.RefusedUID || len(a.Licences[1].Licence) != licence.Size {
		t.Errorf("%s", bad.out)
	}

	touchmark(t, "--dir", rig, "licence", "confirm", "--file", uids).want(t, 0, "2 licences are confirmed")
	touchmark(t, "--dir", rig, "licence", "confirm", "0a0a0a0a0a0a0a0a").want(t, 1, "has no licence of this site", "1 of 1")
	w.admin(t, "licence", "list", "--state", "programmed").want(t, 0, "0102030405060708", "rig-7")
	w.admin(t, "licence", "show", "0102030405060708").want(t, 0, "programmed", hex.EncodeToString(file))
	w.admin(t, "licence", "show", "0a0a0a0a0a0a0a0a").want(t, 1, "there is no licence")
	w.admin(t, "order", "show", "PO-1").want(t, 0, "3 chips of")
	w.admin(t, "product", "update", "thermostat", "--licences", "stm32").want(t, 1, "neither can change")
	w.admin(t, "product", "update", "thermostat", "--licence-epoch", "2").want(t, 1, "only grows")
}
