package main

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/server/api"
)

// issuerOf is the common name of the CA that issued the certificate in a file.
func issuerOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert.Issuer.CommonName
}

// served is the common name of the CA of the server's own certificate.
func (w *world) served(t *testing.T) string {
	t.Helper()
	conn, err := tls.Dial("tcp", w.server.Addr["api"], &tls.Config{InsecureSkipVerify: true}) // who it is is asked below
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Issuer.CommonName
}

// inTheField is how many operators have certificates of a CA, as the server
// counts them.
func (w *world) inTheField(t *testing.T, name string, want int64) {
	t.Helper()
	if i := decodeAs[api.Issuer](t, w.admin(t, "issuer", "show", name, "--json").want(t, 0).out); i.Count != want {
		t.Errorf("%s has %d in the field, want %d", name, i.Count, want)
	}
}

// Factory, operator and code signing CA get successors with other keys, one of
// them by a ceremony in three steps. Who has a certificate of the former ones
// works on until those are closed, moves over by renewing, and comes back by
// an admin's help if that was too late.
func TestOtherCAsForOperators(t *testing.T) {
	w, rig := rigWorld(t, 4)
	key, cert := w.safe(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	work := func(serial string) {
		t.Helper()
		w.site(t, "operator", "whoami").want(t, 0, "anna")
		rig("register", "--serial", serial, "--csr", request(t, serial)).want(t, 0, "admitted")
		w.admin(t, "operator", "whoami").want(t, 0, "admin")
	}
	work("A-000000")
	w.admin(t, "ca", "request", "factory-2027", "--for", "farms", "-o", at("none")).want(t, exitUsage, "sites")
	w.admin(t, "ca", "request", "factory-ca", "--for", "sites", "-o", at("none")).want(t, exitFailed, "there is a CA factory-ca already")
	w.admin(t, "ca", "request", "factory-2027", "--for", "sites", "-o", at("request")).want(t, 0, "OU=Factory CA")
	touchmark(t, "ca", "sign", at("request"), "--root-key", key, "--root-cert", cert, "-o", at("signed"), "--yes").want(t, 0, "CN=factory-2027")
	w.admin(t, "ca", "import", at("signed"), "--yes").want(t, 0, "factory-2027: the server has the certificate")
	w.admin(t, "issuer", "create", "operator-2027", "--for", "operators", "--root-key", key).want(t, 0, "OU=Operator CA")
	w.admin(t, "issuer", "create", "codesign-2027", "--for", "code-signing", "--root-key", key).want(t, 0, "OU=Code Signing CA")
	w.admin(t, "owner", "create", "acme", "--issuer", "factory-2027").want(t, exitFailed, "issues to sites and not to devices")
	w.admin(t, "issuer", "close", "factory-ca").want(t, exitFailed, "make another the default first")
	w.admin(t, "issuer", "close", "device-ca").want(t, exitFailed)
	for _, name := range []string{"factory-2027", "operator-2027", "codesign-2027"} {
		w.admin(t, "issuer", "default", name).want(t, 0, "issues to", "all")
	}
	if by := w.served(t); by != "operator-2027" {
		t.Errorf("the server's certificate is of %s", by)
	}
	work("A-000001")
	bob := at("bob")
	w.admin(t, "operator", "add", "bob", "--role", "site-operator", "--site", "penang", "--out", bob).want(t, 0, "factory-2027")
	touchmark(t, "--dir", bob, "operator", "whoami").want(t, 0, "bob")
	if by := issuerOf(t, filepath.Join(bob, "bob.crt")); by != "factory-2027" {
		t.Errorf("a new operator's certificate is of %s", by)
	}
	w.inTheField(t, "factory-ca", 2)
	touchmark(t, "--dir", w.rig, "operator", "renew").want(t, 0, "factory-2027")
	w.inTheField(t, "factory-ca", 1)
	w.inTheField(t, "factory-2027", 2)
	if by := issuerOf(t, filepath.Join(w.rig, "rig-7.crt")); by != "factory-2027" {
		t.Errorf("the rig's renewed certificate is of %s", by)
	}
	work("A-000002")
	w.admin(t, "ca", "list").want(t, 0, "issues nothing now; what it issued counts", "operators and rigs of sites")

	w.admin(t, "issuer", "close", "operator-ca").want(t, exitFailed, "your own certificate is of operator-ca", "operator renew")
	w.admin(t, "operator", "renew").want(t, 0, "operator-2027")
	for _, name := range []string{"operator-ca", "factory-ca", "codesign-ca"} {
		w.admin(t, "issuer", "close", name).want(t, 0, "nobody; refused")
		if err := os.Remove(filepath.Join(w.dir, "keys", name+".key")); err != nil {
			t.Fatal(err)
		}
	}
	w.admin(t, "issuer", "default", "factory-ca").want(t, exitFailed, "closed")
	refused := func() {
		t.Helper()
		w.site(t, "operator", "whoami").want(t, exitFailed, "factory-ca was closed")
		w.site(t, "operator", "renew").want(t, exitFailed, "factory-ca was closed")
	}
	refused()
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
	w.server.stop(t)
	touchmark(t, "serve", "--check", "--dir", w.dir).want(t, 0, "database")
	w.server = serve(t, w.dir) // without the keys of those that are closed
	w.admin(t, "ca", "list").want(t, 0, "closed", "codesign-2027")

	w.site(t, "--server", "https://"+w.server.Addr["api"], "operator", "whoami").want(t, exitFailed, "factory-ca was closed")
	w.admin(t, "operator", "renew", "anna").want(t, exitUsage, "--csr")
	w.admin(t, "operator", "renew", "anna", "--csr", request(t, "other"), "--out", at("none")).want(t, exitFailed, "renewed on the same key")
	w.admin(t, "operator", "renew", "anna", "--csr", w.requestOf(t, "anna"), "--out", filepath.Join(w.anna, "anna.crt")).want(t, 0, "factory-2027")
	w.site(t, "--server", "https://"+w.server.Addr["api"], "operator", "whoami").want(t, 0, "anna")
	w.admin(t, "issuer", "reopen", "factory-ca").want(t, 0, "nobody")
	w.admin(t, "issuer", "close", "factory-ca").want(t, 0, "refused")

	// The root's key can be changed without those whose keys are lost.
	touchmark(t, "ca", "root-rollover", "begin", "--root-key", key, "--root-cert", cert, "--new-key", key+"-new", "-o", at("rollover"), "--yes").want(t, 0)
	w.admin(t, "ca", "import", at("rollover"), "--yes").want(t, 0)
	w.server.stop(t)
	w.server = serve(t, w.dir)
	w.admin(t, "ca", "request", "--all", "-o", at("all")).want(t, 0, "factory-2027")
	touchmark(t, "ca", "sign", at("all"), "--root-key", key+"-new", "--root-cert", at("rollover"), "-o", at("resigned"), "--yes").want(t, 0)
	w.admin(t, "ca", "import", at("resigned"), "--yes").want(t, 0)
	w.admin(t, "ca", "root-rollover", "switch", "--yes").want(t, 0)
	w.server.stop(t)
	w.server = serve(t, w.dir)
	w.admin(t, "ca", "root-rollover", "finish", "--yes").want(t, 0)
	w.server.stop(t)
	w.server = serve(t, w.dir)
	w.admin(t, "operator", "whoami").want(t, 0, "admin")
}

// requestOf is a request on the key that anna has.
func (w *world) requestOf(t *testing.T, name string) (file string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(w.anna, name+".crt"), filepath.Join(w.anna, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := requestFor(pair.PrivateKey.(crypto.Signer), name)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), name+".csr")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
