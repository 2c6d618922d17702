// Package signtest has keys, certificates and files for tests of signatures,
// and runs the programs that check them.
package signtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Now is within the validity of the certificates.
var Now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// Opaque hides the type of a key, as an HSM does.
type Opaque struct{ crypto.Signer }

// Key makes a key: p256, p384, rsa2048, rsa3072 or ed25519.
func Key(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "p256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa2048":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "rsa3072":
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("no kind of key is called %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Certificate makes a certificate for firmware: self-signed without issuer,
// and then of a CA.
func Certificate(t testing.TB, name string, key crypto.Signer, issuer *x509.Certificate, by crypto.Signer) *x509.Certificate {
	t.Helper()
	template := template(name)
	if issuer == nil {
		return authority(t, template, key, template, key)
	}
	return create(t, template, key, issuer, by)
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: Now.AddDate(-10, 0, 0), NotAfter: Now.AddDate(10, 0, 0), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
}

// Authority makes a certificate for a CA that another one issued.
func Authority(t testing.TB, name string, key crypto.Signer, issuer *x509.Certificate, by crypto.Signer) *x509.Certificate {
	t.Helper()
	return authority(t, template(name), key, issuer, by)
}

func authority(t testing.TB, template *x509.Certificate, key crypto.Signer, issuer *x509.Certificate, by crypto.Signer) *x509.Certificate {
	t.Helper()
	template.IsCA, template.KeyUsage, template.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
	return create(t, template, key, issuer, by)
}

func create(t testing.TB, template *x509.Certificate, key crypto.Signer, issuer *x509.Certificate, by crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Reader is bytes as the formats read files.
func Reader(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

// Random is so many random bytes.
func Random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// File writes a file of its own, and returns its path.
func File(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// PublicFile writes a public key (PEM).
func PublicFile(t testing.TB, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return File(t, "public.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// PrivateFile writes a private key (PEM).
func PrivateFile(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return File(t, "private.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// CertificateFile writes a certificate (PEM).
func CertificateFile(t testing.TB, cert *x509.Certificate) string {
	t.Helper()
	return File(t, "certificate.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

// leftBehind is how long the processes of a program may outlive it.
const leftBehind = 10 * time.Second

// Run runs a program, and returns what it printed and whether it succeeded.
// swupdate 2022.12 sometimes leaves a process behind that never ends, and holds
// the pipe open: then what came until [leftBehind] counts, and it is killed.
func Run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr, cmd.WaitDelay = &syscall.SysProcAttr{Setpgid: true}, leftBehind
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrWaitDelay) {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		err = nil // the program itself succeeded
	}
	if err != nil {
		err = fmt.Errorf("%s %q: %w\n%s", name, args, err, out)
	}
	return string(out), err
}
