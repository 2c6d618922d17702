package e2e

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.step.sm/crypto/tpm"
	"go.step.sm/crypto/tpm/storage"

	"github.com/touchmark/touchmark/devicesim"
	"github.com/touchmark/touchmark/internal/swtpm"
	"github.com/touchmark/touchmark/server"
	"github.com/touchmark/touchmark/vetting"
)

// TestStep has smallstep's own command line, step, enrol a machine by its TPM:
// the attestation CA certifies an AK, that meets device-attest-01, and a key
// in the TPM gets a certificate. Another device's name the AK does not open.
func TestStep(t *testing.T) {
	i := install(t, "sqlite:touchmark.db")
	door := freePort(t)
	i.reconfigure(func(c *server.Config) { c.ACME.Listen, c.ACME.Bound = door, false }) // step has no account keys
	i.start()
	m := newStepMachine(t, i, door)
	i.manifest(2, fmt.Appendf(nil, "{\"serial\":\"GW-1\",\"ekHash\":\"%s\"}\n{\"serial\":\"GW-2\"}\n", m.ek()), 2, "attestation")

	i.changeProduct("thermo", func(p map[string]any) { p["tpm"] = map[string]any{"attestationCA": true} })
	cert, said := m.enrols("GW-1", "app")
	if cert == nil || cert.Subject.SerialNumber != "GW-1" || !m.holds("app", cert) {
		t.Errorf("%+v, and step says %s", cert, said)
	}
	if _, said := m.enrols("GW-2", "other"); !strings.Contains(said, `no permanent-identifier "GW-2"`) {
		t.Errorf("another device's name: %s", said)
	}
	i.stop()
	s := i.store()
	eachDevice(t, s, func(d *vetting.Device) {
		if want := d.Identity.Serial == "GW-1"; (oneValid(t, s, d) == 1) != want {
			t.Errorf("%s: has a certificate: %v", d.Identity, !want)
		}
	})
	verifyLog(t, s)
}

// stepMachine is a machine with a TPM and step.
type stepMachine struct {
	t       *testing.T
	server  *installation
	program string
	dir     string
	door    string
	tpm     *swtpm.TPM
}

func newStepMachine(t *testing.T, i *installation, door string) *stepMachine {
	t.Helper()
	m := &stepMachine{t: t, server: i, dir: t.TempDir(), door: door, tpm: swtpm.New(t)}
	m.program = filepath.Join(m.dir, "step")
	build := exec.Command("go", "build", "-tags", "noazurekms", "-o", m.program, "github.com/smallstep/cli/cmd/step")
	build.Dir = "step"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return m
}

// open is the machine's TPM as step has it.
func (m *stepMachine) open() *tpm.TPM {
	m.t.Helper()
	device, err := tpm.New(tpm.WithDeviceName(m.tpm.Socket), tpm.WithStore(storage.NewDirstore(m.keys())), tpm.WithDisableDownload())
	if err != nil {
		m.t.Fatal(err)
	}
	return device
}

func (m *stepMachine) keys() string { return filepath.Join(m.dir, "tpm") }

// ek is the hash of the endorsement key that step takes, as a record lists it.
func (m *stepMachine) ek() vetting.Fingerprint {
	m.t.Helper()
	eks, err := m.open().GetEKs(m.t.Context())
	if err != nil || len(eks) == 0 {
		m.t.Fatalf("%d EKs: %v", len(eks), err)
	}
	print, err := vetting.PublicKeyFingerprint(eks[0].Public())
	if err != nil {
		m.t.Fatal(err)
	}
	return print
}

// holds reports whether a key in the TPM is a certificate's.
func (m *stepMachine) holds(key string, cert *x509.Certificate) bool {
	m.t.Helper()
	k, err := m.open().GetKey(m.t.Context(), key)
	if err != nil {
		m.t.Fatal(err)
	}
	signer, err := k.Signer(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	own, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && own.Equal(cert.PublicKey)
}

// enrols asks for a certificate for a key that is made in the TPM; nil if step
// failed. said is what step said.
func (m *stepMachine) enrols(serial, key string) (cert *x509.Certificate, said string) {
	m.t.Helper()
	root, file := filepath.Join(m.server.dir, "ca", "root.crt"), filepath.Join(m.dir, key+".crt")
	cmd := exec.Command(m.program, "ca", "certificate", serial, file, "--acme", "https://"+m.door+"/acme/directory", "--root", root,
		"--attestation-uri", "tpmkms:name="+key+";device="+m.tpm.Socket, "--tpm-storage-directory", m.keys(),
		"--attestation-ca-url", m.server.est+"/device/v1/tpm", "--attestation-ca-root", root, "--kty", "EC", "--curve", "P-256")
	cmd.Env = append(os.Environ(), "STEPPATH="+m.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, string(out)
	}
	if cert, err = devicesim.LoadCertificate(file); err != nil {
		m.t.Fatal(err)
	}
	return cert, string(out)
}
