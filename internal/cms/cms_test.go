package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// person is a key with a certificate, in files for openssl too.
type person struct {
	cert     *x509.Certificate
	key      crypto.Signer
	certFile string
	keyFile  string
}

// make makes a person's certificate under issuer (self-signed if nil).
func makePerson(t testing.TB, name string, key crypto.Signer, issuer *person, change func(*x509.Certificate)) *person {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
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
	p := &person{cert: cert, key: key}
	p.certFile = write(t, name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	p.keyFile = write(t, name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	return p
}

func ca(c *x509.Certificate) {
	c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
}

func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func ecKey(t testing.TB, c elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB, bits int) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pool(p *person) *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(p.cert)
	return roots
}

func digestOf(content []byte) Digest {
	return func(h crypto.Hash) ([]byte, error) {
		d := h.New()
		d.Write(content)
		return d.Sum(nil), nil
	}
}

func openssl(t testing.TB, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}

func (p *person) opensslSign(t testing.TB, content []byte, more ...string) []byte {
	t.Helper()
	in := write(t, "content", content)
	return openssl(t, append([]string{"cms", "-sign", "-binary", "-in", in, "-signer", p.certFile, "-inkey", p.keyFile}, more...)...)
}

func TestOpenSSLSignaturesVerify(t *testing.T) {
	root := makePerson(t, "ca", ecKey(t, elliptic.P256()), nil, ca)
	content := []byte("line one\r\nline two\n\x00\xff")
	keys := map[string]crypto.Signer{
		"P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "P-521": ecKey(t, elliptic.P521()),
		"RSA-2048": rsaKey(t, 2048), "RSA-3072": rsaKey(t, 3072),
	}
	for name, key := range keys {
		anna := makePerson(t, "anna", key, root, nil)
		for _, args := range [][]string{
			{"-outform", "DER"},
			{"-outform", "PEM"},
			{"-outform", "DER", "-md", "sha256"},
			{"-outform", "DER", "-md", "sha384"},
			{"-outform", "DER", "-md", "sha512", "-nosmimecap"},
			{"-outform", "PEM", "-certfile", root.certFile},
		} {
			t.Run(name+" "+strings.Join(args, " "), func(t *testing.T) {
				sig := anna.opensslSign(t, content, args...)
				// openssl writes its own clock into the signature; the
				// certificate is judged by ours.
				signers, err := VerifyDetached(sig, digestOf(content), pool(root), now)
				if err != nil {
					t.Fatal(err)
				}
				if len(signers) != 1 || !signers[0].Certificate.Equal(anna.cert) || signers[0].SigningTime.IsZero() {
					t.Fatalf("signers: %+v", signers)
				}
				if args[1] == "DER" {
					if _, err := VerifyDetached(asBER(t, sig), digestOf(content), pool(root), now); err != nil {
						t.Fatalf("as BER: %v", err)
					}
				}
				if _, err := VerifyDetached(sig, digestOf(append(content, '\n')), pool(root), now); err == nil {
					t.Fatal("the signature verifies over other bytes")
				}
			})
		}
	}
}

// asBER gives every constructed element an indefinite length, the
// certificates' too.
func asBER(t *testing.T, der []byte) (ber []byte) {
	t.Helper()
	for len(der) > 0 {
		var e asn1.RawValue
		rest, err := asn1.Unmarshal(der, &e)
		if err != nil {
			t.Fatal(err)
		}
		if e.IsCompound {
			ber = append(append(ber, der[0], 0x80), asBER(t, e.Bytes)...)
			ber = append(ber, 0, 0)
		} else {
			ber = append(ber, e.FullBytes...)
		}
		der = rest
	}
	return ber
}

func TestRefusedSignatures(t *testing.T) {
	root := makePerson(t, "ca", ecKey(t, elliptic.P256()), nil, ca)
	foreign := makePerson(t, "ca", ecKey(t, elliptic.P256()), nil, ca) // same name, other key
	sub := makePerson(t, "sub", ecKey(t, elliptic.P256()), root, ca)
	content := []byte("content\n")
	der := []string{"-outform", "DER"}
	ec := func() crypto.Signer { return ecKey(t, elliptic.P256()) }
	tests := []struct {
		name string
		who  *person
		args []string
		want string
	}{
		{"attached", makePerson(t, "a", ec(), root, nil), append(der, "-nodetach"), "detached"},
		{"attached and streamed", makePerson(t, "a", ec(), root, nil), append(der, "-nodetach", "-stream"), "detached"},
		{"no certificate", makePerson(t, "a", ec(), root, nil), append(der, "-nocerts"), "-nocerts"},
		{"no attributes", makePerson(t, "a", ec(), root, nil), append(der, "-noattr"), "-noattr"},
		{"SHA-1", makePerson(t, "a", ec(), root, nil), append(der, "-md", "sha1"), "SHA-256"},
		{"SHA-224", makePerson(t, "a", ec(), root, nil), append(der, "-md", "sha224"), "SHA-256"},
		{"by key identifier", makePerson(t, "a", ec(), root, func(c *x509.Certificate) { c.SubjectKeyId = []byte{1, 2, 3} }), append(der, "-keyid"), "-keyid"},
		{"RSA-PSS", makePerson(t, "a", rsaKey(t, 2048), root, nil), append(der, "-keyopt", "rsa_padding_mode:pss"), "PKCS #1 v1.5"},
		{"S/MIME", makePerson(t, "a", ec(), root, nil), nil, "S/MIME"},
		{"RSA-1024", makePerson(t, "a", rsaKey(t, 1024), root, nil), der, "1024 bits"},
		{"self-signed", makePerson(t, "a", ec(), nil, nil), der, "not acceptable"},
		{"of another CA of the same name", makePerson(t, "a", ec(), foreign, nil), der, "not acceptable"},
		{"of a sub-CA, which is inside", makePerson(t, "a", ec(), sub, nil), append(der, "-certfile", sub.certFile), "not acceptable"},
		{"expired", makePerson(t, "a", ec(), root, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }), der, "expired"},
		{"not yet valid", makePerson(t, "a", ec(), root, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }), der, "not yet valid"},
		{"a CA's", makePerson(t, "a", ec(), root, func(c *x509.Certificate) { c.IsCA = true; c.KeyUsage |= x509.KeyUsageCertSign }), der, "person"},
		{"wrong key usage", makePerson(t, "a", ec(), root, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), der, "keyUsage"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sig := tt.who.opensslSign(t, content, tt.args...)
			signers, err := VerifyDetached(sig, digestOf(content), pool(root), now)
			if err == nil || signers != nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("signers %v, error %v; want one that mentions %q", signers, err, tt.want)
			}
		})
	}
}

func TestEveryFlippedByteIsNoticed(t *testing.T) {
	root := makePerson(t, "ca", ecKey(t, elliptic.P256()), nil, ca)
	anna := makePerson(t, "anna", ecKey(t, elliptic.P256()), root, nil)
	content := []byte("content\n")
	sig, err := SignDetached(bytes.NewReader(content), anna.cert, anna.key, now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range sig {
		broken := bytes.Clone(sig)
		broken[i] ^= 0x01
		signers, err := VerifyDetached(broken, digestOf(content), pool(root), now)
		// What is not signed (versions, the list of digests) may change, but
		// never who signed.
		if err == nil && !signers[0].Certificate.Equal(anna.cert) {
			t.Fatalf("byte %d flipped: verified as %s", i, signers[0].Certificate.Subject)
		}
	}
}

func TestOwnSignaturesAreGoodForOpenSSL(t *testing.T) {
	root := makePerson(t, "ca", ecKey(t, elliptic.P256()), nil, ca)
	content := []byte("a manifest\n")
	in := write(t, "content", content)
	for name, key := range map[string]crypto.Signer{
		"P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "P-521": ecKey(t, elliptic.P521()), "RSA-2048": rsaKey(t, 2048),
	} {
		t.Run(name, func(t *testing.T) {
			anna := makePerson(t, "anna", key, root, nil)
			sig, err := SignDetached(bytes.NewReader(content), anna.cert, opaque{key}, now)
			if err != nil {
				t.Fatal(err)
			}
			got := openssl(t, "cms", "-verify", "-binary", "-inform", "DER", "-in", write(t, "sig", sig), "-content", in,
				"-CAfile", root.certFile, "-purpose", "any", "-attime", "1795262400")
			if !bytes.Equal(got, content) {
				t.Fatalf("openssl verified %q", got)
			}
			signers, err := VerifyDetached(sig, digestOf(content), pool(root), now)
			if err != nil {
				t.Fatal(err)
			}
			if !signers[0].SigningTime.Equal(now) {
				t.Fatalf("signing time %v, want %v", signers[0].SigningTime, now)
			}
		})
	}
}

// opaque hides the key's type, as an HSM does.
type opaque struct{ crypto.Signer }

func TestSignRefusesAForeignKey(t *testing.T) {
	anna := makePerson(t, "anna", ecKey(t, elliptic.P256()), nil, nil)
	if _, err := SignDetached(strings.NewReader("x"), anna.cert, ecKey(t, elliptic.P256()), now); err == nil {
		t.Fatal("signed with a key that is not the certificate's")
	}
}

func TestTwoSignersInOneMessage(t *testing.T) {
	root := makePerson(t, "ca", ecKey(t, elliptic.P256()), nil, ca)
	anna := makePerson(t, "anna", ecKey(t, elliptic.P256()), root, nil)
	bert := makePerson(t, "bert", rsaKey(t, 2048), root, nil)
	stranger := makePerson(t, "stranger", ecKey(t, elliptic.P256()), nil, nil)
	content := []byte("content\n")
	sig := anna.opensslSign(t, content, "-outform", "DER", "-signer", bert.certFile, "-inkey", bert.keyFile)
	signers, err := VerifyDetached(sig, digestOf(content), pool(root), now)
	if err != nil || len(signers) != 2 {
		t.Fatalf("signers %v, error %v; want two", signers, err)
	}
	sig = anna.opensslSign(t, content, "-outform", "DER", "-signer", stranger.certFile, "-inkey", stranger.keyFile)
	if _, err := VerifyDetached(sig, digestOf(content), pool(root), now); err == nil {
		t.Fatal("one bad signer among two went unnoticed")
	}
}

func TestAttributesAreHeldToRFC5652(t *testing.T) {
	root := makePerson(t, "ca", ecKey(t, elliptic.P256()), nil, ca)
	anna := makePerson(t, "anna", ecKey(t, elliptic.P256()), root, nil)
	content := []byte("content\n")
	sum, err := digestOf(content)(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	good, err := makeAttributes(pkcs7.OIDData, sum, now)
	if err != nil {
		t.Fatal(err)
	}
	otherType, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 3, 4})
	if err != nil {
		t.Fatal(err)
	}
	set := func(content []byte) asn1.RawValue {
		return asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: content}
	}
	tests := []struct {
		name  string
		attrs []attribute
		want  string
	}{
		{"good", good, ""},
		{"no content type", good[1:], "content-type"},
		{"another content type", []attribute{{good[0].Type, set(otherType)}, good[1]}, "1.2.3.4"},
		{"no digest", []attribute{good[0], good[2]}, "message-digest"},
		{"two digests", []attribute{good[0], good[1], good[1]}, "twice"},
		{"two values", []attribute{good[0], {good[1].Type, set(append(bytes.Clone(good[1].Value.Bytes), good[1].Value.Bytes...))}}, "more than one value"},
		{"no signing time", good[:2], ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := VerifyDetached(signAttributes(t, anna, tt.attrs), digestOf(content), pool(root), now)
			switch {
			case tt.want == "" && err != nil:
				t.Fatal(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Fatalf("error %v, want one that mentions %q", err, tt.want)
			}
		})
	}
}

// signAttributes signs exactly these attributes.
func signAttributes(t *testing.T, p *person, attrs []attribute) []byte {
	t.Helper()
	signed, err := encodeAttributes(attrs)
	if err != nil {
		t.Fatal(err)
	}
	h := crypto.SHA256.New()
	h.Write(signed)
	sig, err := p.key.Sign(rand.Reader, h.Sum(nil), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	digest, algorithm, err := Detached{Certificate: p.cert}.algorithms()
	if err != nil {
		t.Fatal(err)
	}
	data := signedData{
		Version: 1, DigestAlgorithms: []pkix.AlgorithmIdentifier{{Algorithm: digest}},
		Certificates: asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: p.cert.Raw},
		Signers: []signerInfo{{
			Version: 1, ID: issuerAndSerial{asn1.RawValue{FullBytes: p.cert.RawIssuer}, p.cert.SerialNumber},
			DigestAlgorithm: pkix.AlgorithmIdentifier{Algorithm: digest}, Attributes: attrs,
			SignatureAlgorithm: algorithm, Signature: sig,
		}},
	}
	data.Encapsulated.Type = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	der, err := asn1.Marshal(contentInfo{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, data})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestDigestFailureIsNotTheSignersFault(t *testing.T) {
	root := makePerson(t, "ca", ecKey(t, elliptic.P256()), nil, ca)
	anna := makePerson(t, "anna", ecKey(t, elliptic.P256()), root, nil)
	sig, err := SignDetached(strings.NewReader("x"), anna.cert, anna.key, now)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("disk gone")
	_, err = VerifyDetached(sig, func(crypto.Hash) ([]byte, error) { return nil, broken }, pool(root), now)
	var d *DigestError
	if !errors.As(err, &d) || !errors.Is(err, broken) {
		t.Fatalf("error %v, want a DigestError around %v", err, broken)
	}
}

func TestDecode(t *testing.T) {
	der := []byte{0x30, 0x00}
	armour := func(kind string) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, tt := range map[string]struct {
		in   []byte
		want string // "" if good
	}{
		"DER": {der, ""}, "CMS": {armour("CMS"), ""}, "PKCS7": {armour("PKCS7"), ""},
		"certificate": {armour("CERTIFICATE"), "CERTIFICATE"},
		"two blocks":  {append(armour("CMS"), armour("CMS")...), "by itself"},
		"empty":       {nil, "neither"}, "noise": {[]byte("hello"), "neither"},
	} {
		got, err := Decode(tt.in)
		switch {
		case tt.want == "" && (err != nil || !bytes.Equal(got, der)):
			t.Errorf("%s: %x, %v", name, got, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: error %v, want one that mentions %q", name, err, tt.want)
		}
	}
}
