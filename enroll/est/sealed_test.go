package est_test

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/vetting"
)

// curl asks, and openssl opens what comes back: the envelope with the
// device's key, the signature with nothing but the root.
func TestServerKeyEncryptedByCurlAndOpenSSL(t *testing.T) {
	d := open(t, 10)
	d.allow(vetting.ServerKeysEncrypted)
	strong, unused := must(rsa.GenerateKey(rand.Reader, 2048)), newKey(t)
	for n, c := range []struct {
		to crypto.Signer // nil: the bootstrap certificate's key
		id func(crypto.Signer) []byte
	}{
		{newKey(t), sha1of}, {must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), func(k crypto.Signer) []byte { s := sha256.Sum256(bits(k)); return s[:20] }},
		{strong, func(k crypto.Signer) []byte { s := sha256.Sum256(bits(k)); return s[:] }},
		{nil, func(k crypto.Signer) []byte {
			s := sha256.Sum256(must(x509.MarshalPKIXPublicKey(k.Public())))
			return s[:]
		}},
		{nil, func(crypto.Signer) []byte { return []byte("mine") }},
	} {
		serial := "SN-" + strconv.Itoa(n)
		device := d.built(serial, d.bootstrapFor(serial, newKey(t), func(c *x509.Certificate) {
			c.KeyUsage, c.SubjectKeyId = x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement, []byte("mine")
		}))
		signs, opens := crypto.Signer(unused), crypto.Signer(device.key)
		if c.to != nil {
			signs, opens = c.to, c.to
		}
		m := d.curl(device, "serverkeygen", asking(t, serial, signs, decryptKeyID(54, c.id(opens)))).made(t)
		if m.kind != "application/pkcs7-mime; smime-type=server-generated-key" {
			t.Errorf("the first part is %s", m.kind)
		}
		m.belongs(t, d.unseal(m.der, opens))
		if again := d.curl(device, "serverkeygen", asking(t, serial, signs, decryptKeyID(54, c.id(opens)))).made(t); again.cert.Equal(m.cert) {
			t.Error("asking again got the same certificate")
		}
	}
}

// asking adds attributes to a request and signs it.
func asking(t testing.TB, serial string, key crypto.Signer, attributes ...[]byte) []byte {
	t.Helper()
	info := tlv(0x30, []byte{2, 1, 0}, rdn(0x13, serial), must(x509.MarshalPKIXPublicKey(key.Public())), tlv(0xa0, attributes...))
	var digest []byte
	var opts crypto.SignerOpts = crypto.Hash(0)
	oid := asn1.ObjectIdentifier{1, 3, 101, 112}
	if digest = info; !isEdward(key) {
		sum := sha256.Sum256(info)
		digest, opts, oid = sum[:], crypto.SHA256, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	}
	if _, ok := key.(*rsa.PrivateKey); ok {
		oid = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	}
	sig := must(key.Sign(rand.Reader, digest, opts))
	return tlv(0x30, info, must(asn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: oid})), must(asn1.Marshal(asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)})))
}

func isEdward(key crypto.Signer) bool { _, ok := key.(ed25519.PrivateKey); return ok }

// decryptKeyID is an attribute of the kind id-aa (1.2.840.113549.1.9.16.2)
// last, with the OCTET STRINGs given.
func decryptKeyID(last int, values ...[]byte) []byte {
	var set []byte
	for _, v := range values {
		set = append(set, tlv(4, v)...)
	}
	return tlv(0x30, must(asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, last})), tlv(0x31, set))
}

// bits are the subjectPublicKey's, of which key identifiers are made.
func bits(key crypto.Signer) []byte {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	must(asn1.Unmarshal(must(x509.MarshalPKIXPublicKey(key.Public())), &info))
	return info.Key.Bytes
}

func sha1of(key crypto.Signer) []byte { sum := sha1.Sum(bits(key)); return sum[:] }

func must2[A, B any](_ A, b B, err error) B {
	if err != nil {
		panic(err)
	}
	return b
}

// curl posts a request with curl.
func (d *door) curl(by party, path string, csr []byte) answer {
	d.t.Helper()
	dir := d.t.TempDir()
	write := func(name string, b []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			d.t.Fatal(err)
		}
		return name
	}
	out := run(d.t, "curl", "--silent", "--show-error", "--include", "--max-time", "60", "--cacert", write("root", ca.PEM(d.cas.Root.Raw)),
		"--cert", write("crt", ca.PEM(by.cert.Raw)), "--key", write("key", privatePEM(by.key)), "--header", "Content-Type: application/pkcs10",
		"--data-binary", "@"+write("csr", []byte(base64.StdEncoding.EncodeToString(csr))), d.url+path)
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(out)), nil)
	if err != nil {
		d.t.Fatalf("%v in %s", err, out)
	}
	defer res.Body.Close()
	return answer{res, string(must(io.ReadAll(res.Body)))}
}

// unseal opens an encrypted private key with openssl.
func (d *door) unseal(der []byte, key crypto.Signer) []byte {
	d.t.Helper()
	dir := d.t.TempDir()
	write := func(name string, b []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			d.t.Fatal(err)
		}
		return name
	}
	signed := run(d.t, "openssl", "cms", "-decrypt", "-inform", "DER", "-in", write("sealed", der), "-inkey", write("key", privatePEM(key)))
	info := tlv(0x30, must(asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2})), tlv(0xa0, signed))
	pack := run(d.t, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", write("signed", info), "-CAfile", write("root", ca.PEM(d.cas.Root.Raw)), "-purpose", "any")
	var keys []asn1.RawValue
	if rest, err := asn1.Unmarshal(pack, &keys); err != nil || len(rest) > 0 || len(keys) != 1 {
		d.t.Fatalf("the key package %x: %v", pack, err)
	}
	return keys[0].FullBytes
}

func privatePEM(key crypto.Signer) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})
}

func run(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, stderr.Bytes())
	}
	return out
}
