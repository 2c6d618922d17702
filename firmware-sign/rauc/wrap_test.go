package rauc

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

// device has a key of its own, and a certificate for it that names it.
type device struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func newDevice(t *testing.T, kind string) device {
	t.Helper()
	key := signtest.Key(t, kind)
	made := signtest.Certificate(t, "device", key, nil, nil)
	template := *made
	template.SubjectKeyId = keyIdentifier(t, key.Public())
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return device{key, cert}
}

// keyIdentifier is what openssl calls a key (RFC 5280 §4.2.1.2, method 1).
func keyIdentifier(t *testing.T, pub crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		t.Fatal(err)
	}
	sum := sha1.Sum(info.Key.Bytes)
	return sum[:]
}

func (d device) recipient() Recipient { return Recipient{d.key.Public(), d.cert.SubjectKeyId} }

// opens asks RAUC on a device for a bundle's content. With its certificate the
// device looks for what is for it; without, it tries whatever there is.
func (r release) opens(t *testing.T, d device, bundle []byte, certificate bool) error {
	t.Helper()
	encryption := "[encryption]\nkey=" + signtest.PrivateFile(t, d.key) + "\n"
	if certificate {
		encryption += "cert=" + signtest.CertificateFile(t, d.cert) + "\n"
	}
	conf, file := r.conf(t, encryption), signtest.File(t, "b.raucb", bundle)
	if _, err := signtest.Run("rauc", conf, "info", file); err != nil {
		return err
	}
	_, err := signtest.Run("rauc", conf, "extract", file, filepath.Join(t.TempDir(), "out"))
	return err
}

// What all devices share is the same for all; each opens it with its own end,
// and with nobody else's.
func TestWrappedBundlesAreGoodForRAUC(t *testing.T) {
	r := newRelease(t, "p256")
	signed := r.sign(t, build(t, "crypt", signtest.Random(300_000)), false)
	size, message, err := Split(signtest.Reader(signed))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(signed[:size], message[:100]) {
		t.Fatal("the message is in what all devices share")
	}
	devices := map[string]device{"RSA": newDevice(t, "rsa2048"), "P-256": newDevice(t, "p256"), "P-384": newDevice(t, "p384")}
	stranger := newDevice(t, "p256")
	var all []Recipient
	for name, d := range devices {
		all = append(all, d.recipient())
		end, err := Wrap(message, d.recipient())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(end, []byte("crypt-key")) {
			t.Errorf("%s: the manifest is readable", name)
		}
		bundle := slices.Concat(signed[:size], end)
		for _, certificate := range []bool{true, false} {
			if err := r.opens(t, d, bundle, certificate); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if r.opens(t, stranger, bundle, certificate) == nil {
				t.Errorf("a stranger opens what is for %s", name)
			}
		}
	}
	end, err := Wrap(message, all...)
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range devices {
		if err := r.opens(t, d, slices.Concat(signed[:size], end), true); err != nil {
			t.Errorf("%s, one of several: %v", name, err)
		}
	}
}

func TestWrapRefuses(t *testing.T) {
	r := newRelease(t, "p256")
	verity := r.sign(t, build(t, "verity", signtest.Random(50_000)), false)
	if _, _, err := Split(signtest.Reader(verity)); err == nil || !strings.Contains(err.Error(), "format=crypt") {
		t.Errorf("a bundle that is not encrypted: %v", err)
	}
	_, message, err := Split(signtest.Reader(r.sign(t, build(t, "crypt", signtest.Random(50_000)), false)))
	if err != nil {
		t.Fatal(err)
	}
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	many := slices.Repeat([]Recipient{newDevice(t, "rsa3072").recipient()}, 200)
	for name, to := range map[string][]Recipient{"nobody": nil, "Ed25519": {{pub, []byte{1}}}, "too many": many} {
		if _, err := Wrap(message, to...); err == nil {
			t.Errorf("it is wrapped for %s", name)
		}
	}
	if _, err := Wrap(message[1:], newDevice(t, "p256").recipient()); err == nil {
		t.Error("something else is wrapped")
	}
}
