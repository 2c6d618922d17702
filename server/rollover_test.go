package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.mozilla.org/pkcs7"
)

// The root's key changes under a running installation: clients of either root
// get in through every phase, and the database goes with the new root.
func TestRootRollover(t *testing.T) {
	c := initialized(t, Plan{})
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(c.Dir, "ca", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	old := read("root.crt")
	trusted := func(pem string, want int, phase string) {
		t.Helper()
		for _, f := range Check(t.Context(), c, Environment{}) {
			if f.Err != nil {
				t.Errorf("%s: check of %s: %v", phase, f.Part, f.Err)
			}
		}
		s, err := New(t.Context(), c, Environment{})
		if err != nil {
			t.Fatalf("%s: %v", phase, err)
		}
		defer func() {
			if err := s.Stop(context.WithoutCancel(t.Context())); err != nil {
				t.Errorf("%s: stop: %v", phase, err)
			}
		}()
		if err := s.Start(t.Context()); err != nil {
			t.Fatalf("%s: %v", phase, err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(pem))
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}
		defer transport.CloseIdleConnections()
		_, body := get(t, &http.Client{Transport: transport}, "https://"+s.Addrs()["est"]+"/.well-known/est/cacerts")
		der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		p7, err := pkcs7.Parse(der)
		if err != nil || len(p7.Certificates) != want {
			t.Errorf("%s: %v, %d certificates, want %d", phase, err, len(p7.Certificates), want)
		}
	}
	trusted(old, 4, "before")
	step := func(name string) {
		t.Helper()
		if out, err := exec.Command("../docs/guides/root-rollover-with-openssl.sh", name, c.Dir).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	step("prepare")
	renewed := read("root-new.crt")
	trusted(old, 7, "prepared, old root")
	trusted(renewed, 7, "prepared, new root")
	step("switch")
	trusted(old, 7, "switched, old root")
	trusted(renewed, 7, "switched, new root")
	step("finish")
	trusted(renewed, 4, "finished, new root")
}
