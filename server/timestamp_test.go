package server

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/timestamp"
)

// stamped is a server with a file to stamp, for the tools that others wrote.
type stamped struct {
	t    *testing.T
	c    *Config
	s    *Server
	dir  string
	file string
	open string // where anybody may ask
}

func newStamped(t *testing.T, change func(*Config)) *stamped {
	t.Helper()
	c := initialized(t, Plan{})
	change(c)
	d := &stamped{t: t, c: c, s: started(t, c), dir: t.TempDir()}
	d.file, d.open = filepath.Join(d.dir, "firmware.bin"), "http://"+d.s.Addrs()["status"]+timestamp.Path
	if err := os.WriteFile(d.file, bytes.Repeat([]byte("firmware"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *stamped) path(name string) string { return filepath.Join(d.dir, name) }

// tool runs a program.
func (d *stamped) tool(name string, args ...string) string {
	d.t.Helper()
	out, err := exec.CommandContext(d.t.Context(), name, args...).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// verify lets openssl verify the reply, with nothing but the root.
func (d *stamped) verify() {
	d.t.Helper()
	d.tool("openssl", "ts", "-verify", "-in", d.path("reply"), "-queryfile", d.path("query"), "-CAfile", filepath.Join(d.c.Dir, "ca", "root.crt"))
}

func (d *stamped) query() {
	d.t.Helper()
	d.tool("openssl", "ts", "-query", "-data", d.file, "-sha384", "-cert", "-out", d.path("query"))
}

// TestTimeStamps: what `openssl ts -query` and curl ask is answered, at the
// open door to anybody and at the API's to operators, and verifies below the root.
func TestTimeStamps(t *testing.T) {
	d := newStamped(t, func(*Config) {})
	d.query()
	curl := []string{"-sSf", "-H", "Content-Type: " + timestamp.QueryType, "--data-binary", "@" + d.path("query"), "-o", d.path("reply")}
	before := d.leaves()
	d.tool("curl", append(curl, d.open)...)
	d.verify()
	if got := d.leaves() - before; got != 2 { // the certificate, the time stamp
		t.Errorf("%d leaves", got)
	}
	api := "https://localhost:" + d.s.Addrs()["api"][strings.LastIndex(d.s.Addrs()["api"], ":")+1:] + timestamp.Path
	in := func(name string) string { return filepath.Join(d.c.Dir, name) }
	curl = append(curl, "--cacert", in("ca/root.crt"))
	d.tool("curl", append(curl, "--cert", in("admin.crt"), "--key", in("admin.key"), api)...)
	d.verify()
	if got := d.leaves() - before; got != 3 {
		t.Errorf("%d leaves", got)
	}
	if code, body := post(t, as(t, d.c, ""), api, d.path("query")); code != http.StatusUnauthorized || !strings.Contains(body, "client certificate") {
		t.Errorf("a stranger at the API: %d %s", code, body)
	}
	_, metrics := get(t, as(t, d.c, ""), "http://"+d.s.Addrs()["ops"]+"/metrics")
	wantContains(t, metrics, `touchmark_timestamps_total{result="granted"} 2`)
}

// post sends a query.
func post(t *testing.T, client *http.Client, url, file string) (int, string) {
	t.Helper()
	query, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer query.Close()
	resp, err := client.Post(url, timestamp.QueryType, query)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body.String()
}

func (d *stamped) leaves() int64 {
	d.t.Helper()
	size, err := d.s.store.LogSize(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return size
}

// TestTimeStampsClosed: not open, without a key, and beyond the rate.
func TestTimeStampsClosed(t *testing.T) {
	d := newStamped(t, func(c *Config) { c.Timestamp.Open = false })
	d.query()
	if code, _ := post(t, http.DefaultClient, d.open, d.path("query")); code != http.StatusNotFound {
		t.Errorf("not open: %d", code)
	}
	d = newStamped(t, func(c *Config) { delete(c.Keys, "timestamp") })
	d.query()
	if code, body := post(t, http.DefaultClient, d.open, d.path("query")); code != http.StatusNotFound || !strings.Contains(body, "keys: timestamp") {
		t.Errorf("without a key: %d %s", code, body)
	}
}

// TestTimeStampRenewal: a year later there is another certificate.
func TestTimeStampRenewal(t *testing.T) {
	c := initialized(t, Plan{})
	now := time.Now()
	s, err := New(t.Context(), c, Environment{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(t.Context())
	by := &timestamper{authorities: s.authorities, key: s.authorities.Own("timestamp"), log: s.store, now: s.env.Now}
	certificate := func() string {
		t.Helper()
		signatory, err := by.signatory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return signatory.Certificate.SerialNumber.String()
	}
	first := certificate()
	now = now.AddDate(0, 11, 0)
	if certificate() != first {
		t.Error("it was renewed after eleven months")
	}
	now = now.AddDate(0, 2, 0)
	if certificate() == first {
		t.Error("it was not renewed after a year")
	}
}

// program is the smallest PE32+ image that tools take for one.
func program() []byte {
	pe := make([]byte, 0x400)
	copy(pe, "MZ")
	pe[0x3c] = 0x80
	copy(pe[0x80:], "PE\x00\x00")
	header := pe[0x84:]
	binary.LittleEndian.PutUint16(header, 0x8664) // machine
	binary.LittleEndian.PutUint16(header[16:], 0xf0)
	binary.LittleEndian.PutUint16(header[18:], 0x22) // executable, large addresses
	optional := header[20:]
	binary.LittleEndian.PutUint16(optional, 0x20b)
	binary.LittleEndian.PutUint32(optional[32:], 0x1000) // alignment of sections, and in the file
	binary.LittleEndian.PutUint32(optional[36:], 0x200)
	binary.LittleEndian.PutUint32(optional[56:], 0x1000) // sizes of the image and of its headers
	binary.LittleEndian.PutUint32(optional[60:], 0x200)
	binary.LittleEndian.PutUint16(optional[68:], 10) // an EFI application
	binary.LittleEndian.PutUint32(optional[108:], 16)
	return pe
}

// TestTimeStampsForAuthenticode: osslsigncode asks for a time stamp as signing
// tools do, and verifies what it got.
func TestTimeStampsForAuthenticode(t *testing.T) {
	d := newStamped(t, func(*Config) {})
	if err := os.WriteFile(d.file, program(), 0o600); err != nil {
		t.Fatal(err)
	}
	d.tool("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=signer", "-days", "30",
		"-addext", "extendedKeyUsage=codeSigning", "-keyout", d.path("key.pem"), "-out", d.path("cert.pem"))
	d.tool("osslsigncode", "sign", "-certs", d.path("cert.pem"), "-key", d.path("key.pem"), "-h", "sha256", "-ts", d.open, "-in", d.file, "-out", d.path("signed.efi"))
	out := d.tool("osslsigncode", "verify", "-in", d.path("signed.efi"), "-CAfile", d.path("cert.pem"), "-TSA-CAfile", filepath.Join(d.c.Dir, "ca", "root.crt"))
	wantContains(t, out, "Timestamp Server Signature verification: ok", "Signature verification: ok")
}
