package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/touchmark/touchmark/ocsp/ocsptest"
	"github.com/touchmark/touchmark/vetting"
)

// told is a server with certificates of every kind, as files for tools that
// others wrote: NAME.pem, and issuer.pem, root.pem.
type told struct {
	*works
	dir string
	url string
}

func newTold(t *testing.T) *told {
	w := opened(t)
	d := &told{works: w, dir: t.TempDir(), url: "http://" + w.server.Addrs()["status"] + "/ocsp"}
	device := w.server.authorities.Device.Certificate
	d.file("issuer", device)
	d.file("root", w.server.authorities.Root)
	issued := map[string]*x509.Certificate{"held": w.inState("held", vetting.DeviceSuspended).cert}
	for _, name := range []string{"good", "lost"} {
		issued[name] = w.enrol(v13, w.build(name, w.now().Add(time.Hour)), "simpleenroll", nil).cert
	}
	for name, cert := range issued {
		d.file(name, cert)
	}
	d.revoke(issued["lost"])
	w.comes(w.server, device, issued["good"], "good", 0)
	w.comes(w.server, device, issued["lost"], "revoked", 1)
	w.comes(w.server, device, issued["held"], "revoked", 6)
	d.forge()

	return d
}

func (d *told) revoke(cert *x509.Certificate) {
	d.t.Helper()
	d.ask(fmt.Sprintf("/certificates/%x/revoke", cert.SerialNumber.Bytes()), map[string]string{"reason": "keyCompromise", "note": "test"}, 200, nil)
}

// forge makes a certificate that the device CA's key did sign, but this
// server never issued: the key was copied.
func (d *told) forge() {
	d.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		d.t.Fatal(err)
	}
	device := d.server.authorities.Device
	template := &x509.Certificate{SerialNumber: new(big.Int).Lsh(big.NewInt(77), 128), NotBefore: d.now().Add(-time.Hour), NotAfter: d.now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, device.Certificate, &key.PublicKey, device.Signer)
	if err != nil {
		d.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		d.t.Fatal(err)
	}
	d.file("forged", cert)
}

func (d *told) file(name string, cert *x509.Certificate) {
	d.t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	if err := os.WriteFile(filepath.Join(d.dir, name+".pem"), text, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *told) read(name string) []byte {
	d.t.Helper()
	b, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

// TestOCSPByOthers has programs that others wrote ask a server over TCP.
func TestOCSPByOthers(t *testing.T) {
	d := newTold(t)
	d.byOpenssl(t)
	d.byGnuTLS(t)
	d.byCurl(t)
	_, metrics := get(t, http.DefaultClient, "http://"+d.server.Addrs()["ops"]+"/metrics")
	wantContains(t, metrics, `touchmark_ocsp_certificates_total{status="good"}`, "touchmark_status_revoked 3\n", `touchmark_ocsp_errors_total{error="malformed-request"} 0`,
		`touchmark_ocsp_answers_total{from="cache"}`, "touchmark_status_age_seconds", "touchmark_ocsp_cache_bytes")
	if strings.Contains(metrics, `touchmark_ocsp_certificates_total{status="forged"} 0`) {
		t.Error("no forged one was counted")
	}
}

func (d *told) byOpenssl(t *testing.T) {
	for _, hash := range []string{"-sha1", "-sha256"} {
		for _, nonce := range []string{"-nonce", "-no_nonce"} {
			args := []string{"ocsp", "-url", d.url, "-CAfile", "root.pem", "-verify_other", "issuer.pem", "-issuer", "issuer.pem", nonce, "-text"}
			for _, name := range []string{"good", "lost", "held", "forged"} {
				args = append(args, hash, "-cert", name+".pem")
			}
			out := string(tool(t, d.dir, "openssl", append(args, "-serial", "0x1234")...))
			wantContains(t, out, "good.pem: good", "lost.pem: revoked", "Reason: keyCompromise", "held.pem: revoked", "Reason: certificateHold",
				"forged.pem: revoked", "0x1234: revoked", "Jan  1 00:00:00 1970 GMT")
			if strings.Contains(out, "WARNING") || strings.Contains(out, "rror") {
				t.Errorf("%s %s: openssl complains:\n%s", hash, nonce, out)
			}
		}
	}
	// Verified by openssl: the answer, and the delegated certificate to the root.
	tool(t, d.dir, "openssl", "ocsp", "-url", d.url, "-CAfile", "root.pem", "-verify_other", "issuer.pem", "-issuer", "issuer.pem", "-cert", "good.pem", "-respout", "answer.der")
	out := string(tool(t, d.dir, "sh", "-c", "openssl ocsp -respin answer.der -CAfile root.pem -verify_other issuer.pem -issuer issuer.pem -cert good.pem -no_nonce 2>&1"))
	wantContains(t, out, "Response verify OK", "good.pem: good")
}

func (d *told) byGnuTLS(t *testing.T) {
	for name, want := range map[string]string{"good": "Certificate Status: good", "lost": "Certificate Status: revoked", "held": "Certificate Status: revoked", "forged": "Revocation time: Thu Jan 01 00:00:00 UTC 1970"} {
		out := string(tool(t, d.dir, "sh", "-c", "ocsptool --ask="+d.url+" --nonce --load-cert="+name+".pem --load-issuer=issuer.pem --load-trust=issuer.pem --outfile="+name+".der 2>&1 || true"))
		wantContains(t, out, want, "Verifying OCSP Response: Success")
	}
	out := string(tool(t, d.dir, "ocsptool", "-e", "--load-trust=issuer.pem", "--load-response=good.der"))
	wantContains(t, out, "Verifying OCSP Response: Success")
}

// byCurl asks by GET, as a proxy would, and has another reader check what
// comes. At its end the good one is revoked.
func (d *told) byCurl(t *testing.T) {
	device := d.server.authorities.Device.Certificate
	for name, want := range map[string]int{"good": ocsp.Good, "lost": ocsp.Revoked, "held": ocsp.Revoked, "forged": ocsp.Revoked} {
		tool(t, d.dir, "openssl", "ocsp", "-issuer", "issuer.pem", "-cert", name+".pem", "-no_nonce", "-reqout", name+".req")
		text := base64.StdEncoding.EncodeToString(d.read(name + ".req"))
		for _, path := range []string{text, "/" + text, url.QueryEscape(text), url.PathEscape(text)} {
			tool(t, d.dir, "curl", "-sS", "--fail", "--path-as-is", "-D", "header", "-o", "answer", d.url+"/"+path)
			answer := d.read("answer")
			r, err := ocsp.ParseResponseForCert(answer, mustParse(t, d.read(name+".pem")), device)
			if err != nil || r.Status != want {
				t.Fatalf("%s by GET %s: %+v, %v; want status %d", name, path, r, err, want)
			}
			if _, err := ocsptest.Decode(answer, device, d.now()); err != nil {
				t.Fatal(err)
			}
			header := strings.ToLower(string(d.read("header")))
			if cacheable := strings.Contains(header, "etag: \"") && strings.Contains(header, "public, no-transform, must-revalidate"); cacheable != (name != "forged") {
				t.Errorf("%s: %s", name, header)
			}
		}
	}
	// Revalidated with its ETag, an answer is confirmed until it is no longer true.
	tool(t, d.dir, "curl", "-sS", "--etag-save", "etag", "-o", "answer", d.url+"/"+base64.StdEncoding.EncodeToString(d.read("good.req")))
	confirm := []string{"-sS", "--etag-compare", "etag", "-o", "answer", "-w", "%{http_code}", d.url + "/" + base64.StdEncoding.EncodeToString(d.read("good.req"))}
	if code := string(tool(t, d.dir, "curl", confirm...)); code != "304" {
		t.Errorf("unchanged: %s", code)
	}
	d.revoke(mustParse(t, d.read("good.pem")))
	d.comes(d.server, device, mustParse(t, d.read("good.pem")), "revoked", 1)
	if code := string(tool(t, d.dir, "curl", confirm...)); code != "200" {
		t.Errorf("revoked meanwhile: %s", code)
	}
	code := tool(t, d.dir, "curl", "-sS", "-o", "answer", "-w", "%{http_code} %header{cache-control}", d.url+"/"+strings.Repeat("M", 10_000))
	if !bytes.HasPrefix(code, []byte("414 no-store")) {
		t.Errorf("10 kB: %s", code)
	}
}

func mustParse(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
