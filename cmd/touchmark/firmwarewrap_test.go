package main

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/mcuboot"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// client of the EST door with a certificate.
func (w *world) est(t *testing.T, path, contentType, body string, by tls.Certificate) {
	t.Helper()
	root, err := os.ReadFile(filepath.Join(w.dir, "ca", "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{by}}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Post("https://"+w.server.Addr["est"]+path, contentType, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %s %s %v", path, resp.Status, answer, err)
	}
}

// inService enrols a device and has it use its official key.
func (w *world) inService(t *testing.T, d *device) tls.Certificate {
	t.Helper()
	key, _ := newKey(t)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: d.serial}}, key)
	if err != nil {
		t.Fatal(err)
	}
	w.est(t, "/.well-known/est/thermostat/simpleenroll", "application/pkcs10", base64.StdEncoding.EncodeToString(csr), d.bootstrap)
	have := decodeAs[vetting.Device](t, w.admin(t, "device", "show", d.serial, "--json").want(t, 0).out)
	block, _ := pem.Decode([]byte(w.admin(t, "certificate", "show", have.Certificate, "--pem").want(t, 0).out))
	issuer, err := os.ReadFile(filepath.Join(w.dir, "ca", "device-ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	ca, _ := pem.Decode(issuer)
	official := tls.Certificate{Certificate: [][]byte{block.Bytes, ca.Bytes}, PrivateKey: key}
	w.est(t, "/device/v1/activation", "application/json", "", official)
	return official
}

// recipientKey makes a key that a device decrypts firmware with, and the file of
// its public half.
func recipientKey(t *testing.T, curve ecdh.Curve) (*ecdh.PrivateKey, string) {
	t.Helper()
	key, err := curve.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "recipient.pem")
	if err := os.WriteFile(file, pemOf("PUBLIC KEY", spki), 0o600); err != nil {
		t.Fatal(err)
	}
	return key, file
}

// unwrap is what a bootloader does with the end of an image to get the content
// key (MCUboot's encrypted.c).
func unwrap(end []byte, key *ecdh.PrivateKey, length int) ([]byte, error) {
	var last []byte
	for rest := end[4:]; len(rest) > 0; {
		n := 4 + int(binary.LittleEndian.Uint16(rest[2:]))
		last, rest = rest[:n], rest[n:]
	}
	point := map[uint16]int{0x32: 65, 0x33: 32}[binary.LittleEndian.Uint16(last)]
	if point == 0 {
		return nil, errors.New("there is no wrapped key")
	}
	ephemeral, err := key.Curve().NewPublicKey(last[4 : 4+point])
	if err != nil {
		return nil, err
	}
	shared, err := key.ECDH(ephemeral)
	if err != nil {
		return nil, err
	}
	derived, err := hkdf.Key(sha256.New, shared, nil, "MCUBoot_ECIES_v1", length+32)
	if err != nil {
		return nil, err
	}
	mac, sealed := last[4+point:][:32], last[4+point+32:]
	h := hmac.New(sha256.New, derived[length:])
	h.Write(sealed)
	if !hmac.Equal(h.Sum(nil), mac) {
		return nil, errors.New("it is wrapped for another key")
	}
	block, err := aes.NewCipher(derived[:length])
	if err != nil {
		return nil, err
	}
	out := make([]byte, length)
	cipher.NewCTR(block, make([]byte, 16)).XORKeyStream(out, sealed)
	return out, nil
}

// wrapWorld has a release with an encrypted image that was approved, and
// devices in service.
type wrapWorld struct {
	*firmwareWorld
	berta, carla string
	sign         []string
}

const wrapRelease = "thermostat@1.4.0"

func newWrapWorld(t *testing.T) *wrapWorld {
	t.Helper()
	w := &wrapWorld{firmwareWorld: newFirmwareWorld(t)}
	w.berta, w.carla = w.operator(t, "berta"), w.operator(t, "carla")
	w.as(t, w.erna, "release", "create", wrapRelease, "--counter", "3", "--support-end", "2031-12-31").want(t, 0)
	w.sign = []string{"sign", w.file("app.bin"), "--format", "mcuboot", "--stage", "production", "--release", wrapRelease, "--set", "pad-header=true", "--set", "encrypt=aes256"}
	w.as(t, w.erna, append(w.sign, "--set", "pad=true", "--set", "slot-size=0x60000")...).want(t, exitFailed, "leave out pad")
	w.as(t, w.erna, w.sign...).want(t, exitHeld)
	if err := os.WriteFile(w.file("sbom.json"), []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.provenance(t, "provenance.json", "app.bin")
	for _, document := range []string{"sbom.json", "provenance.json"} {
		w.as(t, w.erna, "release", "attach", wrapRelease, w.file(document)).want(t, 0)
	}
	w.as(t, w.erna, "release", "submit", wrapRelease, "--note", "it is ready").want(t, 0)
	w.approve(t, wrapRelease, w.berta, w.carla)
	return w
}

// wrapped has the image wrapped, and returns the whole file and its end.
func (w *wrapWorld) wrapped(t *testing.T, args ...string) (image, end []byte) {
	t.Helper()
	w.as(t, w.erna, slices.Concat([]string{"wrap", wrapRelease, "--in", w.file("app.bin.encrypted"), "--out", w.file("wrapped")}, args)...).want(t, 0, "wrapped for")
	image = w.read(t, "wrapped")
	return image, image[len(w.read(t, "app.bin.encrypted")):]
}

// opens demands that a key opens an image, which is genuine.
func (w *wrapWorld) opens(t *testing.T, image, end []byte, key *ecdh.PrivateKey) []byte {
	t.Helper()
	contentKey, err := unwrap(end, key, 32)
	if err != nil {
		t.Fatal(err)
	}
	k := w.key(t, "thermo-1")
	public, err := k.Public()
	if err != nil {
		t.Fatal(err)
	}
	info, err := mcuboot.Verify(reader(image), mcuboot.Trust{Keys: []crypto.PublicKey{public}, ContentKey: contentKey})
	if err != nil || !info.Encrypted || info.Version.String() != "1.4.0+0" {
		t.Errorf("the image is %+v, %v", info, err)
	}
	return contentKey
}

// An image is encrypted once; each device opens it by what is wrapped for it,
// and nobody else can. The content key is nowhere to be read.
func TestEncryptedFirmware(t *testing.T) {
	w := newWrapWorld(t)
	one, two, three := newDevice(t, "A-0001"), newDevice(t, "A-0002"), newDevice(t, "A-0003")
	w.handIn(t, one, two, three)
	w.inService(t, one)
	w.inService(t, two)
	key1, file1 := recipientKey(t, ecdh.X25519())
	key2, file2 := recipientKey(t, ecdh.P256())
	family, fileF := recipientKey(t, ecdh.X25519())
	add := []string{"recipient", "add", file1, "--product", "thermostat"}
	w.as(t, w.erna, append(add, "--device", "A-0001")...).want(t, 0, "X25519", "A-0001")
	w.as(t, w.erna, append(add, "--device", "A-0002")...).want(t, exitFailed, "exists") // one key, one device
	w.as(t, w.erna, append(add, "--device", "B-0001")...).want(t, exitFailed, "no device with the serial number B-0001")
	w.as(t, w.erna, "recipient", "add", file2, "--product", "thermostat", "--device", "A-0002").want(t, 0, "P-256")
	w.as(t, w.erna, "recipient", "add", fileF, "--product", "thermostat", "--family", "thermo-family").want(t, exitFailed, "manage firmware keys")
	w.admin(t, "firmware", "recipient", "add", fileF, "--product", "thermostat", "--family", "thermo-family").want(t, 0, "family thermostat")
	w.as(t, w.erna, "recipient", "list", "thermostat").want(t, 0, "A-0001", "thermo-family")

	wrap := []string{"wrap", wrapRelease, "--end-only", "--out", w.file("end"), "--device"}
	w.as(t, w.erna, append(wrap, "A-0001")...).want(t, exitFailed, "no signed file yet")
	w.as(t, w.erna, w.sign...).want(t, 0, "verified by")
	w.as(t, w.erna, "release", "publish", wrapRelease).want(t, 0, "published")
	w.as(t, w.erna, w.sign...).want(t, exitFailed, "another one comes too late") // it would be other bytes
	shared := w.read(t, "app.bin.encrypted")
	if payload := w.read(t, "app.bin"); bytes.Contains(shared, payload[1000:1064]) {
		t.Fatal("the image is not encrypted")
	}

	image1, end1 := w.wrapped(t, "--device", "A-0001")
	contentKey := w.opens(t, image1, end1, key1)
	image2, end2 := w.wrapped(t, "--device", "A-0002")
	if got := w.opens(t, image2, end2, key2); !bytes.Equal(got, contentKey) || !bytes.Equal(image1[:len(shared)], image2[:len(shared)]) {
		t.Error("devices do not share the encrypted image")
	}
	imageF, endF := w.wrapped(t, "--family")
	w.opens(t, imageF, endF, family)
	for name, open := range map[string]func() ([]byte, error){
		"the second device what is for the first": func() ([]byte, error) { return unwrap(end1, key2, 32) },
		"the first what is for the family":        func() ([]byte, error) { return unwrap(endF, key1, 32) },
		"the family what is for the first":        func() ([]byte, error) { return unwrap(end1, family, 32) },
	} {
		if key, err := open(); err == nil && bytes.Equal(key, contentKey) {
			t.Errorf("%s opens", name)
		}
	}
	w.as(t, w.erna, "wrap", wrapRelease, "--end-only", "--out", w.file("end-{serial}"), "--device", "A-0001", "--device", "A-0002").want(t, 0, "A-0001", "A-0002")
	if end := w.read(t, "end-A-0002"); len(end) != len(end2) || len(end) > 400 {
		t.Errorf("the end alone has %d bytes, want %d", len(end), len(end2))
	}
	w.as(t, w.erna, "wrap", wrapRelease, "--device", "A-0001", "--in", w.file("app.bin"), "--out", w.file("wrong")).want(t, exitFailed, "is not the encrypted file")

	w.refusesWraps(t, wrap)
	for _, file := range []string{"touchmark.db", "touchmark.db-wal"} {
		text, err := os.ReadFile(filepath.Join(w.dir, file))
		if err == nil && bytes.Contains(text, contentKey) {
			t.Errorf("the content key is in %s", file)
		}
	}
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
	if log := w.server.stop(t); strings.Contains(log, base64.StdEncoding.EncodeToString(contentKey)) {
		t.Error("the content key is in the server's log")
	}
}

// refusesWraps goes through whom nothing is wrapped for.
func (w *wrapWorld) refusesWraps(t *testing.T, wrap []string) {
	t.Helper()
	to := func(serial string) []string { return append(slices.Clone(wrap), serial) }
	w.as(t, w.erna, to("A-0003")...).want(t, exitFailed, "is manufactured", "active devices alone")
	w.as(t, w.erna, to("Z-9999")...).want(t, exitFailed, "no device with the serial number Z-9999")
	w.admin(t, append([]string{"firmware"}, to("A-0001")...)...).want(t, 0)
	site := []string{"firmware", "recipient", "list", "thermostat"}
	w.site(t, site...).want(t, exitFailed, "site-operator")

	w.admin(t, "device", "suspend", "A-0002", "--note", "lost", "--yes").want(t, 0)
	before := len(w.wraps(t))
	w.as(t, w.erna, to("A-0002")...).want(t, exitFailed, "is suspended")
	w.as(t, w.erna, "wrap", wrapRelease, "--end-only", "--out", w.file("both-{serial}"), "--device", "A-0001", "--device", "A-0002").want(t, exitFailed, "is suspended")
	if _, err := os.Stat(w.file("both-A-0001")); err == nil {
		t.Error("one of two got its end although the other may not")
	}
	w.admin(t, "device", "resume", "A-0002", "--note", "found", "--yes").want(t, 0)
	w.as(t, w.erna, to("A-0002")...).want(t, 0)
	w.admin(t, "device", "quarantine", "A-0002", "--note", "strange", "--yes").want(t, 0)
	w.as(t, w.erna, to("A-0002")...).want(t, exitFailed, "is quarantined")
	w.admin(t, "device", "revoke", "A-0001", "--reason", "keyCompromise", "--note", "leaked", "--yes").want(t, 0)
	w.as(t, w.erna, to("A-0001")...).want(t, exitFailed, "is revoked")
	if after := len(w.wraps(t)); after != before+1 {
		t.Errorf("%d wraps are kept, want %d", after, before+1)
	}

	list := decodeAs[struct{ Items []release.Recipient }](t, w.as(t, w.erna, "recipient", "list", "thermostat", "--json").want(t, 0).out)
	for _, r := range list.Items {
		if r.Name == "thermo-family" {
			w.as(t, w.erna, "recipient", "revoke", strconv.FormatInt(r.ID, 10), "--note", "a device was opened").want(t, 0, "a device was opened")
		}
	}
	w.as(t, w.erna, "wrap", wrapRelease, "--end-only", "--out", w.file("end"), "--family").want(t, exitFailed, "no key of the family")
	w.as(t, w.erna, "yank", wrapRelease, "--note", "it burns", "--yes").want(t, 0)
	w.approve(t, wrapRelease, w.berta, w.carla)
	w.as(t, w.erna, to("A-0001")...).want(t, exitFailed, "is yanked")
}

// wraps are for whom the image was wrapped, as an auditor reads it.
func (w *wrapWorld) wraps(t *testing.T) []release.Wrapped {
	t.Helper()
	shown := decodeAs[release.Release](t, w.as(t, w.erna, "release", "show", wrapRelease, "--json").want(t, 0).out)
	out := w.as(t, w.erna, "wraps", strconv.FormatInt(shown.Artefacts[0].ID, 10), "--json", "--limit", "0").want(t, 0).out
	return decodeAs[struct{ Items []release.Wrapped }](t, out).Items
}

// testImage is an image for test that is encrypted, and the key of the one
// device that is in service.
func (w *firmwareWorld) testImage(t *testing.T) (ticket string, key *ecdh.PrivateKey) {
	t.Helper()
	d := newDevice(t, "A-0001")
	w.handIn(t, d)
	w.inService(t, d)
	key, file := recipientKey(t, ecdh.P256())
	w.as(t, w.erna, "recipient", "add", file, "--product", "thermostat", "--device", "A-0001").want(t, 0)
	w.as(t, w.erna, "release", "create", wrapRelease, "--counter", "3", "--support-end", "2031-12-31").want(t, 0)
	part := decodeAs[release.Artefact](t, w.as(t, w.erna, append(w.signForTest(), "--set", "encrypt=aes128")...).want(t, 0).out)
	return w.ticket(part), key
}

func (w *firmwareWorld) signForTest() []string {
	return []string{"sign", w.file("app.bin"), "--format", "mcuboot", "--stage", "test", "--key", "thermo-test", "--release", wrapRelease, "--set", "pad-header=true", "--json"}
}

// wrapsFor has an administrator wrap an image for the device, which opens it.
func (w *firmwareWorld) wrapsFor(t *testing.T, ticket string, key *ecdh.PrivateKey) {
	t.Helper()
	out := w.admin(t, "firmware", "wrap", ticket, "--in", w.file("app.bin.encrypted"), "--out", w.file("wrapped"), "--device", "A-0001", "--json").want(t, 0).out
	made := decodeAs[api.Wraps](t, out)
	image := w.read(t, "wrapped")
	if made.Shared.Size+int64(len(made.Ends[0].End)) != int64(len(image)) || !bytes.HasSuffix(image, made.Ends[0].End) {
		t.Errorf("wrapped: %+v, a file of %d bytes", made, len(image))
	}
	contentKey, err := unwrap(made.Ends[0].End, key, 16)
	if err != nil {
		t.Fatal(err)
	}
	k := w.key(t, "thermo-test")
	public, err := k.Public()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mcuboot.Verify(reader(image), mcuboot.Trust{Keys: []crypto.PublicKey{public}, ContentKey: contentKey}); err != nil {
		t.Error(err)
	}
}

// One for test is wrapped by its ticket. Its secret comes back with a backup
// that has the keys; without them the server says which key it lacks.
func TestEncryptedFirmwareForTest(t *testing.T) {
	w := newFirmwareWorld(t)
	ticket, key := w.testImage(t)
	w.as(t, w.erna, append(w.signForTest(), "--set", "encrypt=aes512")...).want(t, exitFailed, "aes128 or aes256")
	plain := decodeAs[release.Artefact](t, w.as(t, w.erna, w.signForTest()...).want(t, 0).out)
	w.as(t, w.erna, "wrap", w.ticket(plain), "--end-only", "--out", w.file("end"), "--device", "A-0001").want(t, exitFailed, "is not encrypted")
	w.wrapsFor(t, ticket, key)

	to := t.TempDir()
	touchmark(t, "backup", to, "--dir", w.dir, "--with-keys").want(t, 0)
	found, err := filepath.Glob(filepath.Join(to, "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the backup made %v, %v", found, err)
	}
	w.server.stop(t)
	restored := filepath.Join(t.TempDir(), "restored")
	touchmark(t, "restore", found[0], restored, "--database", "sqlite:touchmark.db").want(t, 0, "nothing is wrong")
	there := *w
	there.world = &world{dir: restored, server: serve(t, restored)}
	there.wrapsFor(t, ticket, key)
	there.server.stop(t)
	if err := os.Remove(filepath.Join(restored, "keys", "content.key")); err != nil {
		t.Fatal(err)
	}
	there.server = serve(t, restored)
	there.admin(t, "firmware", "wrap", ticket, "--end-only", "--out", w.file("end"), "--device", "A-0001").want(t, exitFailed)
	if log := there.server.stop(t); !strings.Contains(log, "give the server the key from before back") {
		t.Errorf("the log does not say which key is missing:\n%s", log)
	}
}

func (w *firmwareWorld) ticket(part release.Artefact) string { return strconv.FormatInt(part.ID, 10) }
