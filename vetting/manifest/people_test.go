package manifest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// person is an operator with a certificate of the factory CA.
type person struct {
	cert              *x509.Certificate
	key               crypto.Signer
	certFile, keyFile string
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newPerson(t testing.TB, name string, key crypto.Signer, ca *person) *person {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	parent, signer := template, key
	if ca == nil {
		template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
	} else {
		parent, signer = ca.cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &person{cert, key,
		writeFile(t, name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		writeFile(t, name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))}
}

func writeFile(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sign signs with this package's own helper.
func (p *person) sign(t testing.TB, content []byte) []byte {
	t.Helper()
	sig, err := SignFile(writeFile(t, "manifest", content), p.cert, p.key, now)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// openssl signs as a site without Touchmark would.
func (p *person) openssl(t testing.TB, content []byte, more ...string) []byte {
	t.Helper()
	args := append([]string{"cms", "-sign", "-binary", "-in", writeFile(t, "manifest", content), "-signer", p.certFile, "-inkey", p.keyFile}, more...)
	cmd := exec.Command("openssl", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	sig, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return sig
}

// factory is an importer with a store and people around it.
type factory struct {
	*Importer
	store *fakeStore
	ca    *person
	anna  *person // site operators of the order's site
	bert  *person // with an RSA key
}

func newFactory(t testing.TB) *factory {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	f := &factory{store: newFakeStore(), ca: newPerson(t, "factory-ca", newKey(t), nil)}
	f.anna = f.hire(t, "anna", newKey(t), access.RoleSiteOperator, "shenzhen")
	f.bert = f.hire(t, "bert", rsaKey, access.RoleSiteOperator, "shenzhen")
	f.Importer = f.importer(t)
	return f
}

// importer makes another server on the same store.
func (f *factory) importer(t testing.TB) *Importer {
	roots := x509.NewCertPool()
	roots.AddCert(f.ca.cert)
	im := &Importer{
		Store: f.store, FactoryCAs: func() *x509.CertPool { return roots }, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return now }, Chunk: 4, Retry: time.Microsecond,
	}
	t.Cleanup(func() {
		if err := im.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return im
}

func (f *factory) hire(t testing.TB, name string, key crypto.Signer, role access.Role, site string) *person {
	t.Helper()
	p := newPerson(t, name, key, f.ca)
	fp, err := vetting.PublicKeyFingerprint(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	f.store.operators[fp] = &access.Operator{Name: name, Role: role, Site: site, Key: fp}
	return p
}

func (f *factory) dismiss(p *person) {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	f.store.operators[vetting.KeyFingerprint(p.cert.RawSubjectPublicKeyInfo)].Revoked = now.Add(-time.Minute)
}

// file makes a JSON Lines manifest of n good records.
func file(n int) []byte {
	var b bytes.Buffer
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, `{"serial":%q,"bootstrapKey":"%064x"}`+"\n", serial(i), i)
	}
	return b.Bytes()
}
