package swtpm

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Vendor is a maker of TPMs: swtpm_localca with files of its own. Its
// certificates are there once it made its first TPM.
type Vendor struct {
	// Root is its root, Intermediate what signs the certificates of
	// endorsement keys.
	Root, Intermediate *x509.Certificate

	dir string
	mu  sync.Mutex // swtpm_localca counts serial numbers in a file
}

// NewVendor makes a vendor for a test.
func NewVendor(tb testing.TB) *Vendor {
	tb.Helper()
	v, err := MakeVendor(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// MakeVendor makes a vendor with its files in dir, which must be there.
func MakeVendor(dir string) (*Vendor, error) {
	localca, err := exec.LookPath("swtpm_localca")
	if err != nil {
		return nil, fmt.Errorf("install Debian's package swtpm-tools: %w", err)
	}
	for name, text := range map[string]string{
		"localca.conf": fmt.Sprintf("statedir = %[1]s\nsigningkey = %[1]s/key.pem\nissuercert = %[1]s/intermediate.pem\ncertserial = %[1]s/serial\n", dir),
		// Required of the tool, for platform certificates, which nobody makes.
		"localca.options": "--platform-manufacturer Example\n--platform-version 1.0\n--platform-model Example\n",
		"setup.conf": fmt.Sprintf("create_certs_tool = %[2]s\ncreate_certs_tool_config = %[1]s/localca.conf\n"+
			"create_certs_tool_options = %[1]s/localca.options\nactive_pcr_banks = sha256\n", dir, localca),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return &Vendor{dir: dir}, nil
}

// read reads the certificates that swtpm_localca made with its first TPM.
func (v *Vendor) read() (err error) {
	if v.Root != nil {
		return nil
	}
	if v.Intermediate, err = readCertificate(filepath.Join(v.dir, "intermediate.pem")); err != nil {
		return err
	}
	v.Root, err = readCertificate(filepath.Join(v.dir, "swtpm-localca-rootca-cert.pem"))
	return err
}

func readCertificate(name string) (*x509.Certificate, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New(name + " is not PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}
