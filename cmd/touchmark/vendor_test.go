package main

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid/vendoridtest"
)

// A planner has a product trust a vendor, whose chip enrols, and takes the
// trust back.
func TestVendor(t *testing.T) {
	w, maker := newWorld(t), vendoridtest.New(t, "Chips")
	anchors, crl := filepath.Join(t.TempDir(), "root.pem"), filepath.Join(t.TempDir(), "crl.pem")
	for file, text := range map[string]string{anchors: vendoridtest.PEM(maker.Root), crl: maker.CRL(maker.Root)} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.admin(t, "vendor", "set", "thermostat", "chips", "--anchors", anchors, "--serial", "subject.cn").want(t, exitFailed, "unknown place", "subject.commonName")
	w.admin(t, "vendor", "set", "thermostat", "chips", "--anchors", anchors, "--serial-pattern", "x").want(t, exitUsage, "--serial")
	w.admin(t, "vendor", "set", "thermostat", "chips", "--anchors", crl).want(t, exitFailed, "X509 CRL")
	set := []string{"vendor", "set", "thermostat", "chips", "--anchors", anchors, "--crls", crl, "--serial", "subject.commonName", "--serial-pattern", "sn(.*)"}
	w.admin(t, set...).want(t, 0, "does not accept the proof vendor-certificate")
	w.admin(t, "product", "update", "thermostat", "--proof", "vendor-certificate").want(t, 0, "chips")
	w.admin(t, set...).want(t, 0, "Chips Root CA", "SHA-256", "sn(.*)", "1 entry")

	chip := maker.Device(&x509.Certificate{Subject: pkix.Name{CommonName: "snA-0001"}})
	d := &device{"A-0001", tls.Certificate{Certificate: [][]byte{chip.Cert.Raw, maker.Issuing.Cert.Raw}, PrivateKey: chip.Key}, vetting.Fingerprint{}}
	w.handIn(t, d)
	if code := d.enrol(t, w); code != 200 {
		t.Errorf("enrolment: %d", code)
	}
	w.admin(t, "registration", "list").want(t, 0, "admitted")
	w.admin(t, "vendor", "remove", "thermostat", "chips").want(t, 0, "trusts no vendors")
	w.admin(t, "vendor", "remove", "thermostat", "chips").want(t, exitFailed, `no vendor "chips"`)
	w.admin(t, "vendor", "list", "thermostat").want(t, 0, "trusts no vendors")
	w.admin(t, "audit", "verify").want(t, 0)
}
