package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/smallstep/pkcs7"
)

// What is sealed, openssl opens with the recipient's key, with the signer's
// certificate inside, and gets the same private key out.
func TestSealedKeyByOpenSSL(t *testing.T) {
	root := makePerson(t, "root", ecKey(t, elliptic.P384()), nil, ca)
	middle := makePerson(t, "middle", ecKey(t, elliptic.P256()), root, ca)
	server := makePerson(t, "server", ecKey(t, elliptic.P256()), middle, nil)
	by := Signatory{server.cert, []*x509.Certificate{middle.cert}, server.key}
	secret, err := x509.MarshalPKCS8PrivateKey(ecKey(t, elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	id := sha1.Sum([]byte("any name"))
	for name, key := range map[string]crypto.Signer{
		"RSA": rsaKey(t, 2048), "P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "P-521": ecKey(t, elliptic.P521()),
	} {
		device := makePerson(t, "device", key, nil, func(c *x509.Certificate) { c.SubjectKeyId, c.KeyUsage = id[:], 0 })
		other := makePerson(t, "other", key, nil, func(c *x509.Certificate) { c.SubjectKeyId, c.KeyUsage = []byte("another name"), 0 })
		sealed, err := SealKey(secret, by, now, Recipient{key.Public(), id[:]})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if bytes.Contains(sealed, secret[len(secret)-32:]) {
			t.Errorf("%s: the key is readable", name)
		}
		file, opened := write(t, "sealed", sealed), filepath.Join(t.TempDir(), "opened")
		openssl(t, "cms", "-decrypt", "-inform", "DER", "-in", file, "-inkey", device.keyFile, "-out", opened)
		openssl(t, "cms", "-decrypt", "-inform", "DER", "-in", file, "-inkey", device.keyFile, "-recip", device.certFile, "-out", opened)
		if err := exec.Command("openssl", "cms", "-decrypt", "-inform", "DER", "-in", file, "-inkey", device.keyFile, "-recip", other.certFile, "-out", os.DevNull).Run(); err == nil {
			t.Errorf("%s: the recipient is not named by its identifier", name)
		}
		signed, err := os.ReadFile(opened)
		if err != nil {
			t.Fatal(err)
		}
		if got := verifiedKey(t, signed, root.certFile); !bytes.Equal(got, secret) {
			t.Errorf("%s: got %x, sealed %x", name, got, secret)
		}
	}
}

// verifiedKey lets openssl verify the SignedData and takes the private key
// out of its AsymmetricKeyPackage.
func verifiedKey(t *testing.T, signed []byte, root string) []byte {
	t.Helper()
	info, err := asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}{pkcs7.OIDSignedData, asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: signed}})
	if err != nil {
		t.Fatal(err)
	}
	checkKeyPackage(t, signed)
	out := filepath.Join(t.TempDir(), "package")
	openssl(t, "cms", "-verify", "-binary", "-inform", "DER", "-in", write(t, "signed", info), "-CAfile", root, "-purpose", "any",
		"-attime", strconv.FormatInt(now.Unix(), 10), "-out", out)
	pack, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var keys []asn1.RawValue
	if rest, err := asn1.Unmarshal(pack, &keys); err != nil || len(rest) > 0 || len(keys) != 1 {
		t.Fatalf("the key package %x: %v", pack, err)
	}
	return keys[0].FullBytes
}

// checkKeyPackage checks what openssl does not mind: the version and the
// content's type, also where it is signed (RFC 5652 §5.1, §11.1).
func checkKeyPackage(t *testing.T, signed []byte) {
	t.Helper()
	var data struct {
		Version int
		Digests asn1.RawValue
		Content struct {
			Type    asn1.ObjectIdentifier
			Content asn1.RawValue
		}
		Certificates asn1.RawValue
		Signers      []signerInfo `asn1:"set"`
	}
	if _, err := asn1.Unmarshal(signed, &data); err != nil {
		t.Fatal(err)
	}
	var kind asn1.ObjectIdentifier
	for _, a := range data.Signers[0].Attributes {
		if a.Type.Equal(pkcs7.OIDAttributeContentType) {
			if _, err := asn1.Unmarshal(a.Value.Bytes, &kind); err != nil {
				t.Fatal(err)
			}
		}
	}
	const want = "2.16.840.1.101.2.1.2.78.5"
	if data.Version != 3 || data.Content.Type.String() != want || kind.String() != want {
		t.Errorf("version %d, content %s, signed as %s", data.Version, data.Content.Type, kind)
	}
}

func TestSealKeyRefuses(t *testing.T) {
	server := makePerson(t, "server", ecKey(t, elliptic.P256()), nil, nil)
	by := Signatory{Certificate: server.cert, Key: server.key}
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.PublicKey{
		"Ed25519": pub, "X25519": x.PublicKey(), "none": nil, "P-224": ecKey(t, elliptic.P224()).Public(),
	} {
		if sealed, err := SealKey([]byte{5, 0}, by, now, Recipient{key, []byte("id")}); err == nil {
			t.Errorf("%s: %x", name, sealed)
		}
	}
}

// The first test vector for 256 bits wrapped by 256 bits (RFC 3394 §4.6).
func TestKeyWrap(t *testing.T) {
	kek, _ := hex.DecodeString("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F")
	key, _ := hex.DecodeString("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
	want, _ := hex.DecodeString("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21")
	if got, err := wrapKey(kek, key); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v", got, err)
	}
}
