//go:build pkcs11

package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/enroll/acme/acmetest"
	"github.com/touchmark/touchmark/server"
)

// opensACME has the server that is made in a data directory serve ACME.
func opensACME(t *testing.T, data string) {
	t.Helper()
	file := filepath.Join(data, "touchmark.yaml")
	c, err := server.LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	c.Dir, c.ACME.Listen, c.ACME.Bound = ".", "127.0.0.1:0", false
	if err := os.WriteFile(file, []byte(server.Sample(c)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// attesting makes a device whose chip attests its key, with its record.
func (w *world) attesting(t *testing.T) acmetest.Device {
	t.Helper()
	m, err := acmetest.NewMaker()
	if err != nil {
		t.Fatal(err)
	}
	devices, err := m.Devices(1)
	if err != nil {
		t.Fatal(err)
	}
	w.admin(t, "product", "update", "thermostat", "--proof", "bootstrap-key", "--proof", "attestation").want(t, 0)
	w.admin(t, "vendor", "set", "thermostat", "chips", "--anchors", written(t, []byte(m.PEM()))).want(t, 0)
	manifest := filepath.Join(t.TempDir(), "units.jsonl")
	if err := os.WriteFile(manifest, acmetest.Manifest(devices), 0o600); err != nil {
		t.Fatal(err)
	}
	w.site(t, "manifest", "upload", "PO-1", manifest, "--sign").want(t, 0, "loaded")
	return devices[0]
}

// interrupted is an enrolment over ACME that the server could not finish.
type interrupted struct {
	again chan struct{}
	ended chan error
}

// asksOverACME orders, proves itself and finalizes, which the server cannot do
// now. It returns what the server answered, and asks the same once more when
// it is told to.
func (w *world) asksOverACME(t *testing.T, d acmetest.Device) (status int, later *interrupted) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, "ca", "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	refused := make(chan int, 1)
	later = &interrupted{again: make(chan struct{}), ended: make(chan error, 1)}
	c := &acmetest.Client{Directory: "https://" + w.server.Addr["acme"] + "/acme/directory",
		HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}},
		Again: func(err error) bool {
			r := new(acmetest.Refused)
			if !errors.As(err, &r) || r.Status != http.StatusServiceUnavailable {
				return false
			}
			select {
			case refused <- r.Status:
				<-later.again
			default:
			}
			return true
		}}
	go func() {
		err := c.Open(t.Context())
		if err == nil {
			var chain []byte
			chain, err = c.Enrol(t.Context(), d)
			if block, _ := pem.Decode(chain); err == nil && block == nil {
				err = fmt.Errorf("no certificate in %q", chain)
			}
		}
		later.ended <- err
	}()
	select {
	case status = <-refused:
	case err := <-later.ended:
		t.Fatalf("over ACME a device is answered %v", err)
	}
	return status, later
}

// finishes lets it be asked once more, and demands a certificate.
func (i *interrupted) finishes(t *testing.T) {
	t.Helper()
	close(i.again)
	if err := <-i.ended; err != nil {
		t.Errorf("over ACME, after the HSM is back: %v", err)
	}
}
