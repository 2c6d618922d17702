package foreign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The client passes on a private key that was encrypted for the request's
// key; openssl opens it.
func TestGlobalSignClientGetsSealedServerKey(t *testing.T) {
	w := newWorld(t)
	w.admin("order", "open", "po-1")
	w.admin("product", "update", "thermo", "--server-keys", "encrypted")
	boot, own := w.build("SN-1"), newKey(t)
	cert, sealed, err := w.client(&boot).ServerKeyGen(context.Background(), &x509.CertificateRequest{Raw: sealedRequest(t, own)})
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(w.unseal(sealed, own))
	if err != nil || !key.(*ecdsa.PrivateKey).PublicKey.Equal(cert.PublicKey) {
		t.Errorf("the private key is not the certificate's own: %v", err)
	}
}

// sealedRequest is a PKCS #10 request that names its own key by an
// AsymmetricDecryptKeyIdentifier (RFC 7030 §4.4.1.2).
func sealedRequest(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	type attribute struct {
		Type   asn1.ObjectIdentifier
		Values [][]byte `asn1:"set"`
	}
	id := sha256.Sum256(spki)
	info := marshal(t, struct {
		Version    int
		Subject    pkix.RDNSequence
		Key        asn1.RawValue
		Attributes []attribute `asn1:"tag:0,set"`
	}{0, pkix.Name{CommonName: "SN-1"}.ToRDNSequence(), asn1.RawValue{FullBytes: spki},
		[]attribute{{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 54}, [][]byte{id[:]}}}})
	sum := sha256.Sum256(info)
	sig, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return marshal(t, struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: info}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
		asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
}

// unseal opens the envelope with the key, checks the signature in it with
// nothing but the root, and takes the key out of its package (RFC 5958 §2).
func (w *world) unseal(sealed []byte, key *ecdsa.PrivateKey) []byte {
	w.t.Helper()
	dir := w.t.TempDir()
	write := func(name string, b []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			w.t.Fatal(err)
		}
		return name
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	signed := w.openssl("cms", "-decrypt", "-inform", "DER", "-in", write("sealed", sealed),
		"-inkey", write("key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	message := marshal(w.t, struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: signed}})
	pack := w.openssl("cms", "-verify", "-binary", "-inform", "DER", "-in", write("signed", message),
		"-CAfile", filepath.Join(w.dir, "ca", "root.crt"), "-purpose", "any")
	var keys []asn1.RawValue
	if rest, err := asn1.Unmarshal(pack, &keys); err != nil || len(rest) > 0 || len(keys) != 1 {
		w.t.Fatalf("the key package %x: %v", pack, err)
	}
	return keys[0].FullBytes
}

func (w *world) openssl(args ...string) []byte {
	w.t.Helper()
	var complaints bytes.Buffer
	cmd := exec.Command("openssl", args...)
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("openssl %s: %v: %s", args[:2], err, complaints.Bytes())
	}
	return out
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
