package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/device/devicetest"
	"github.com/touchmark/touchmark/device/tpm"
	"github.com/touchmark/touchmark/internal/swtpm"
)

func store(t *testing.T, dir string, chip *tpm.TPM) *device.FileStore {
	t.Helper()
	s, err := device.OpenFileStoreOn(dir, chip)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newDevice(s *devicetest.Server, keys device.KeyStore) *device.Device {
	roots := x509.NewCertPool()
	roots.AddCert(s.Root)
	return &device.Device{Serial: "SN-1", Store: keys, Root: s.Root, Client: &device.Client{URL: s.URL, Roots: roots}}
}

// TestTPM is what one TPM bears.
func TestTPM(t *testing.T) {
	soft := swtpm.New(t)
	for name, test := range map[string]func(*testing.T, *swtpm.TPM){
		"life": testLife, "authorization": testAuthorization, "left-overs": testLeftOvers, "proof": testProof,
		"bad challenges": testBadChallenges, "bad blocks": testBadBlocks,
	} {
		t.Run(name, func(t *testing.T) { test(t, soft) })
	}
}

// testLife has a device enrol, renew and re-key with all its keys in a TPM,
// which restarts before each step, in order and by the plug.
func testLife(t *testing.T, soft *swtpm.TPM) {
	server, dir := devicetest.New(t), t.TempDir()
	open := func() *device.Device {
		return newDevice(server, store(t, dir, &tpm.TPM{Path: soft.Socket, Auth: []byte("secret")}))
	}
	made, err := device.MakeBootstrap(open().Store, "SN-1", device.P256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	restarts := []func() error{soft.Reboot, soft.PowerCycle}
	for i, step := range []func(*device.Device) (*device.Credential, error){
		func(d *device.Device) (*device.Credential, error) { return d.PowerOn(t.Context()) },
		func(d *device.Device) (*device.Credential, error) { return d.Renew(t.Context(), false) },
		func(d *device.Device) (*device.Credential, error) { return d.Renew(t.Context(), true) },
	} {
		if err := restarts[i%2](); err != nil {
			t.Fatal(err)
		}
		d := open()
		official, err := step(d)
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if err := d.Use(t.Context()); err != nil || !server.Used(official.Leaf()) {
			t.Errorf("step %d: the certificate could not be used: %v", i, err)
		}
	}
	again, err := open().Store.Load(device.Bootstrap)
	if err != nil || !again.Leaf().Equal(made.Leaf()) {
		t.Errorf("the bootstrap key is another one: %v", err)
	}
	if server.Keys() != 2 {
		t.Errorf("%d keys were certified", server.Keys())
	}
	noPrivateKey(t, dir)
}

// noPrivateKey looks that files hold keys that only their TPM opens.
func noPrivateKey(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no slots in %s: %v", dir, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(text), "-----BEGIN TSS2 PRIVATE KEY-----\n") || bytes.Contains(text, []byte("BEGIN PRIVATE KEY")) {
			t.Errorf("%s does not begin with a wrapped key, or holds another: %v", file, err)
		}
		if _, err := device.ParseCredential(text); err == nil {
			t.Errorf("%s can be used without the TPM", file)
		}
	}
}

func TestStrangeTPM(t *testing.T) {
	v := swtpm.NewVendor(t)
	mine, other, dir := v.New(t), v.New(t), t.TempDir()
	made, err := store(t, dir, &tpm.TPM{Path: mine.Socket}).Create(device.Official, device.P384)
	if err != nil {
		t.Fatal(err)
	}
	digest := make([]byte, 64)
	if _, err := made.Key.Sign(rand.Reader, digest, crypto.SHA512); err != nil {
		t.Errorf("a P-384 key does not sign a long digest: %v", err)
	}
	strange := func(what, socket string) {
		t.Helper()
		c, err := store(t, dir, &tpm.TPM{Path: socket}).Load(device.Official)
		if err != nil {
			t.Fatal(err)
		}
		var lost *tpm.StrangeKeyError
		if _, err := c.Key.Sign(rand.Reader, digest, crypto.SHA256); !errors.As(err, &lost) || !strings.Contains(err.Error(), "enrol anew") {
			t.Errorf("%s: %v", what, err)
		}
	}
	strange("another TPM", other.Socket)
	if err := mine.Clear(); err != nil {
		t.Fatal(err)
	}
	strange("a TPM that was cleared", mine.Socket)
	if _, err := store(t, dir, &tpm.TPM{Path: filepath.Join(dir, "none")}).Create(device.Pending, device.P256); err == nil || !strings.Contains(err.Error(), "there is no TPM") {
		t.Errorf("no TPM: %v", err)
	}
	if _, err := store(t, dir, &tpm.TPM{Path: mine.Socket}).Create(device.Pending, device.RSA2048); err == nil || !strings.Contains(err.Error(), "take P-256 or P-384") {
		t.Errorf("an RSA key: %v", err)
	}
}

func testAuthorization(t *testing.T, soft *swtpm.TPM) {
	dir := t.TempDir()
	if _, err := store(t, dir, &tpm.TPM{Path: soft.Socket, Auth: []byte("right")}).Create(device.Official, device.P256); err != nil {
		t.Fatal(err)
	}
	for auth, good := range map[string]bool{"right": true, "wrong": false, "": false} {
		c, err := store(t, dir, &tpm.TPM{Path: soft.Socket, Auth: []byte(auth)}).Load(device.Official)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Key.Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
		if good != (err == nil) || !good && (!strings.Contains(err.Error(), "another authorization value") || strings.Contains(err.Error(), "right")) {
			t.Errorf("with the value %q: %v", auth, err)
		}
	}
}

// testLeftOvers: what a process that was killed left in a TPM without a
// resource manager is not in the way.
func testLeftOvers(t *testing.T, soft *swtpm.TPM) {
	conn, err := soft.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 3 {
		if _, err := (tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}).Execute(conn); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store(t, t.TempDir(), &tpm.TPM{Path: soft.Socket}).Create(device.Official, device.P256); err != nil {
		t.Error(err)
	}
}

// testProof answers challenges by each EK, with a restart in between, and
// looks at what the TPM said as the standard has it.
func testProof(t *testing.T, soft *swtpm.TPM) {
	for _, kind := range append(tpm.EKs(), "") {
		chip := &tpm.TPM{Path: soft.Socket, EK: kind}
		made, err := store(t, t.TempDir(), chip).Create(device.Pending, device.P256)
		if err != nil {
			t.Fatal(err)
		}
		prover, err := chip.Identify()
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		m := prover.Message()
		checkEK(t, soft, kind, m.EK.Certificates)
		secret := bytes.Repeat([]byte{7}, 32)
		ch := challenge(t, soft, m, secret)
		ch.PCRs = []uint{0, 7, 16}
		if err := soft.Reboot(); err != nil {
			t.Fatal(err)
		}
		proof, err := prover.Prove(ch, made.Key)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		nonce := sha256.Sum256(secret)
		if !bytes.Equal(proof.Answer, secret) {
			t.Errorf("%s: the answer is %x", kind, proof.Answer)
		}
		ak := public(t, m.AK.Public)
		checkSaid(t, ak, m.AK.CreateAttestation, m.AK.CreateSignature, tpm2.TPMSTAttestCreation, nil)
		checkSaid(t, ak, proof.Key.Attestation, proof.Key.Signature, tpm2.TPMSTAttestCertify, nonce[:])
		checkSaid(t, ak, proof.Quote.Attestation, proof.Quote.Signature, tpm2.TPMSTAttestQuote, nonce[:])
		if !public(t, proof.Key.Public).Equal(made.Key.Public()) || len(proof.Quote.PCRs) != 3 || len(proof.Quote.PCRs[16]) != 32 {
			t.Errorf("%s: the proof is of another key, or quotes %x", kind, proof.Quote.PCRs)
		}
	}
}

func checkEK(t *testing.T, soft *swtpm.TPM, kind string, certs [][]byte) {
	t.Helper()
	want := 1
	if kind == "p-256" { // which swtpm has no certificate for
		want = 0
	}
	if len(certs) != want {
		t.Fatalf("%s: %d certificates", kind, len(certs))
	}
	if want == 0 {
		return
	}
	cert, err := x509.ParseCertificate(certs[0])
	if err != nil || cert.CheckSignatureFrom(soft.Vendor.Intermediate) != nil {
		t.Errorf("%s: the certificate is not the vendor's: %v", kind, err)
	}
	if _, rsa := cert.PublicKey.(*ecdsa.PublicKey); rsa == (kind == "rsa-2048") {
		t.Errorf("%s: the certificate is for a %T", kind, cert.PublicKey)
	}
}

func public(t *testing.T, area []byte) *ecdsa.PublicKey {
	t.Helper()
	p, err := tpm2.Unmarshal[tpm2.TPMTPublic](area)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm2.Pub(*p)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*ecdsa.PublicKey)
}

// challenge encrypts a secret to the EK for the AK, as the TPM's own
// MakeCredential does, which needs neither private key.
func challenge(t *testing.T, soft *swtpm.TPM, m device.TPMIdentity, secret []byte) *device.TPMChallenge {
	t.Helper()
	conn, err := soft.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ek, err := tpm2.Unmarshal[tpm2.TPMTPublic](m.EK.Public)
	if err != nil {
		t.Fatal(err)
	}
	ak, err := tpm2.Unmarshal[tpm2.TPMTPublic](m.AK.Public)
	if err != nil {
		t.Fatal(err)
	}
	name, err := tpm2.ObjectName(ak)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := tpm2.LoadExternal{InPublic: tpm2.New2B(*ek), Hierarchy: tpm2.TPMRHNull}.Execute(conn)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}.Execute(conn)
	made, err := tpm2.MakeCredential{Handle: loaded.ObjectHandle, Credential: tpm2.TPM2BDigest{Buffer: secret}, ObjectName: *name}.Execute(conn)
	if err != nil {
		t.Fatal(err)
	}
	return &device.TPMChallenge{Credential: tpm2.Marshal(made.CredentialBlob), Secret: tpm2.Marshal(made.Secret), Challenge: "opaque"}
}

func checkSaid(t *testing.T, ak *ecdsa.PublicKey, said, signature []byte, kind tpm2.TPMST, nonce []byte) {
	t.Helper()
	attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](said)
	if err != nil || attest.Type != kind || !bytes.Equal(attest.ExtraData.Buffer, nonce) {
		t.Fatalf("the TPM said %+v: %v", attest, err)
	}
	s, err := tpm2.Unmarshal[tpm2.TPMTSignature](signature)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := s.Signature.ECDSA()
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(said)
	if !ecdsa.VerifyASN1(ak, digest[:], der(parts)) {
		t.Errorf("the signature over %v does not verify", kind)
	}
}

func testBadChallenges(t *testing.T, soft *swtpm.TPM) {
	chip := &tpm.TPM{Path: soft.Socket}
	made, err := store(t, t.TempDir(), chip).Create(device.Pending, device.P256)
	if err != nil {
		t.Fatal(err)
	}
	prover, err := chip.Identify()
	if err != nil {
		t.Fatal(err)
	}
	other, err := chip.Identify()
	if err != nil {
		t.Fatal(err)
	}
	good := challenge(t, soft, prover.Message(), make([]byte, 32))
	for what, ch := range map[string]*device.TPMChallenge{
		"for another AK": challenge(t, soft, other.Message(), make([]byte, 32)),
		"cut short":      {Credential: good.Credential[:20], Secret: good.Secret},
		"with a tail":    {Credential: good.Credential, Secret: append(bytes.Clone(good.Secret), 0)},
	} {
		if _, err := prover.Prove(ch, made.Key); err == nil {
			t.Errorf("a challenge %s was answered", what)
		}
	}
	outside, err := new(device.MemoryStore).Create(device.Pending, device.P256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := prover.Prove(good, outside.Key); err == nil || !strings.Contains(err.Error(), "not in the TPM") {
		t.Errorf("a key outside of the TPM: %v", err)
	}
	if _, err := prover.Prove(good, made.Key); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

func testBadBlocks(t *testing.T, soft *swtpm.TPM) {
	chip := &tpm.TPM{Path: soft.Socket}
	_, block, err := chip.Make(device.P256, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range block.Bytes {
		bad := &pem.Block{Type: block.Type, Bytes: bytes.Clone(block.Bytes)}
		bad.Bytes[i] ^= 0x40
		key, err := chip.Open(bad)
		if err != nil || i%16 != 0 {
			continue // each is read, some are tried
		}
		if _, err := key.Sign(rand.Reader, make([]byte, 32), crypto.SHA256); err == nil && i != 14 {
			t.Errorf("a key with another byte %d signs", i)
		}
	}
	if _, err := chip.Open(&pem.Block{Type: "PKCS11 KEY"}); err == nil {
		t.Error("a block of another kind was opened")
	}
}
