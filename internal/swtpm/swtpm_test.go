package swtpm

import (
	"bytes"
	"crypto/x509"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Where the TCG EK Credential Profile (2.5, §2.2.1) puts certificates: RSA-2048
// (template L-1) and P-384 (H-3).
const (
	certRSA  tpm2.TPMHandle = 0x01c00002
	certP384 tpm2.TPMHandle = 0x01c00016
)

func TestEKCertificates(t *testing.T) {
	v := NewVendor(t)
	a, b := v.New(t), v.New(t)
	seen := map[string]bool{}
	for _, tpm := range []*TPM{a, b} {
		for _, index := range []tpm2.TPMHandle{certRSA, certP384} {
			cert := readNV(t, tpm, index)
			seen[cert.SerialNumber.String()] = true
			checkChain(t, v, cert)
		}
	}
	if len(seen) != 4 {
		t.Errorf("the certificates of two TPMs have %d serial numbers, want 4", len(seen))
	}
}

func checkChain(t *testing.T, v *Vendor, cert *x509.Certificate) {
	t.Helper()
	if err := cert.CheckSignatureFrom(v.Intermediate); err != nil {
		t.Errorf("EK certificate: %v", err)
	}
	if err := v.Intermediate.CheckSignatureFrom(v.Root); err != nil {
		t.Errorf("intermediate: %v", err)
	}
	if err := v.Root.CheckSignatureFrom(v.Root); err != nil {
		t.Errorf("root: %v", err)
	}
}

func readNV(t *testing.T, tpm *TPM, index tpm2.TPMHandle) *x509.Certificate {
	t.Helper()
	conn := open(t, tpm)
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(conn)
	if err != nil {
		t.Fatal(err)
	}
	contents, err := public.NVPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	var der []byte
	for len(der) < int(contents.DataSize) {
		read, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: index, Name: public.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: public.NVName},
			Size:       min(512, contents.DataSize-uint16(len(der))), Offset: uint16(len(der)),
		}.Execute(conn)
		if err != nil {
			t.Fatal(err)
		}
		der = append(der, read.Data.Buffer...)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func open(t *testing.T, tpm *TPM) transport.TPM {
	t.Helper()
	conn, err := tpm.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestReboot shows what a restart keeps, in order or not: what is in NV memory
// and below the hierarchies' seeds, but no transient object; and what
// TPM2_Clear takes away.
func TestReboot(t *testing.T) {
	tpm := New(t)
	before, handle := storageRoot(t, tpm)
	for what, restart := range map[string]func() error{"in order": tpm.Reboot, "by the plug": tpm.PowerCycle} {
		if err := restart(); err != nil {
			t.Fatal(err)
		}
		if _, err := (tpm2.ReadPublic{ObjectHandle: handle}).Execute(open(t, tpm)); err == nil {
			t.Errorf("a transient object outlived a restart %s", what)
		}
		after, _ := storageRoot(t, tpm)
		if !bytes.Equal(before, after) {
			t.Errorf("the storage hierarchy is another one after a restart %s", what)
		}
	}
	readNV(t, tpm, certRSA)
	if err := tpm.Clear(); err != nil {
		t.Fatal(err)
	}
	if after, _ := storageRoot(t, tpm); bytes.Equal(before, after) {
		t.Error("TPM2_Clear left the storage hierarchy as it was")
	}
	readNV(t, tpm, certRSA)
}

// storageRoot makes the storage root key, which is a function of the
// hierarchy's seed, and gives its name and handle.
func storageRoot(t *testing.T, tpm *TPM) ([]byte, tpm2.TPMHandle) {
	t.Helper()
	key, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(open(t, tpm))
	if err != nil {
		t.Fatal(err)
	}
	return key.Name.Buffer, key.ObjectHandle
}
