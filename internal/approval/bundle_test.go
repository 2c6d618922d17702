package approval

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var kinds = []string{"P-256", "P-384", "P-521", "Ed25519", "RSA"}

// bundled is a proposal that people with keys of each kind approved.
func bundled(t testing.TB, o *office, names ...string) (*Proposal, *Bundle) {
	t.Helper()
	p := propose(t, len(names))
	for i, name := range names {
		yes := o.person(name, kinds[i%len(kinds)], o.operators).yes(t, p.Payload, monday.Add(time.Duration(i+1)*time.Hour))
		if _, err := p.Approve(yes); err != nil {
			t.Fatal(err)
		}
	}
	b, err := p.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	return p, b
}

func encode(t testing.TB, b *Bundle) []byte {
	t.Helper()
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestBundleVerifies(t *testing.T) {
	o := newOffice(t)
	p, made := bundled(t, o, "berta", "carla", "dora", "emma", "fritzi")
	b, err := ReadBundle(encode(t, made))
	if err != nil {
		t.Fatal(err)
	}
	v, err := b.Verify(o.root)
	if err != nil || len(v.Approvers) != 5 || v.Terms.Subject != p.Subject || v.Approvers[0].Name != "berta" || v.Approvers[0].Role != "approver" {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := b.Verify(newOffice(t).root); err == nil {
		t.Error("it verifies below another root")
	}
}

func TestTamperedBundles(t *testing.T) {
	o := newOffice(t)
	p, _ := bundled(t, o, "berta", "carla")
	replace := func(by Approval) func(*Bundle) {
		return func(b *Bundle) {
			cert, err := x509.ParseCertificate(by.Certificates[0])
			if err != nil {
				t.Fatal(err)
			}
			b.Signers[1], b.Envelope.Signatures[1] = Signer{by.By, by.At, by.Certificates}, Signature{keyID(cert), by.Signature}
		}
	}
	at := monday.Add(time.Hour)
	rig := o.person("rig", "P-256", o.factories)
	elsewhere := newOffice(t)
	long := o.person("emma", "P-256", o.operators)
	for what, c := range map[string]struct {
		change func(*Bundle)
		says   string
	}{
		"a flipped bit": {func(b *Bundle) { b.Envelope.Signatures[0].Sig[9] ^= 1 }, "not over this proposal"},
		"another statement": {func(b *Bundle) {
			b.Envelope.Payload = bytes.Replace(b.Envelope.Payload, []byte(`"aa"`), []byte(`"ab"`), 1)
		}, "digest"},
		"fewer wanted": {func(b *Bundle) {
			b.Envelope.Payload = bytes.Replace(b.Envelope.Payload, []byte(`"wanted":2`), []byte(`"wanted":1`), 1)
		}, "not over this proposal"},
		"a missing signer":         {func(b *Bundle) { b.Signers, b.Envelope.Signatures = b.Signers[:1], b.Envelope.Signatures[:1] }, "1 of 2"},
		"none":                     {func(b *Bundle) { b.Signers, b.Envelope.Signatures = nil, nil }, "0 of 2"},
		"the same twice":           {func(b *Bundle) { b.Signers[1], b.Envelope.Signatures[1] = b.Signers[0], b.Envelope.Signatures[0] }, "twice"},
		"another name":             {func(b *Bundle) { b.Signers[1].By = "dora" }, `that of "carla"`},
		"exchanged certificates":   {func(b *Bundle) { b.Signers[0], b.Signers[1] = b.Signers[1], b.Signers[0] }, "not over this proposal"},
		"another key's name":       {func(b *Bundle) { b.Envelope.Signatures[0].KeyID = b.Envelope.Signatures[1].KeyID }, "not the certificate's"},
		"no certificate":           {func(b *Bundle) { b.Signers[0].Certificates = nil }, "no certificate"},
		"no chain":                 {func(b *Bundle) { b.Signers[0].Certificates = b.Signers[0].Certificates[:1] }, "unknown authority"},
		"before it was asked for":  {func(b *Bundle) { b.Signers[0].At = monday.Add(-time.Second) }, "waited from"},
		"after it expired":         {func(b *Bundle) { b.Signers[0].At = p.Expires }, "waited from"},
		"by who asked":             {replace(o.person("anna", "P-256", o.operators).yes(t, p.Payload, at)), "who asked"},
		"by a rig":                 {replace(rig.yes(t, p.Payload, at)), "not by an operator CA"},
		"before the certificate":   {replace(long.yes(t, p.Payload, monday.AddDate(0, -2, 0))), "not yet valid"},
		"over another proposal":    {replace(long.yes(t, propose(t, 1).Payload, at)), "not over this proposal"},
		"by a stranger's own root": {replace(elsewhere.person("emma", "P-256", elsewhere.operators).yes(t, p.Payload, at)), "unknown authority"},
	} {
		b, err := p.Bundle()
		if err != nil {
			t.Fatal(err)
		}
		if b, err = ReadBundle(encode(t, b)); err != nil { // a copy
			t.Fatal(err)
		}
		c.change(b)
		if v, err := b.Verify(o.root); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, %v; want %q", what, v, err, c.says)
		}
	}
}

func TestDamagedBundles(t *testing.T) {
	_, b := bundled(t, newOffice(t), "berta")
	text := string(encode(t, b))
	for what, damaged := range map[string]string{
		"cut off": text[:len(text)-1], "nothing": "", "something after": text + "{}", "unknown": strings.Replace(text, `"signers"`, `"more":1,"signers"`, 1),
		"too long": text + strings.Repeat(" ", MaxBundle), "another type": strings.Replace(text, PayloadType, "text/plain", 1),
		"signer too few": strings.Replace(text, `"signers":[`, `"signers":[],"signers":[{},`, 1),
	} {
		if _, err := ReadBundle([]byte(damaged)); err == nil {
			t.Errorf("%s: the bundle was read", what)
		}
	}
}

// What a bundle has is verified by openssl, too, from what DSSE says of the
// bytes that are signed.
func TestOpenSSLVerifies(t *testing.T) {
	_, b := bundled(t, newOffice(t), "berta", "carla", "dora", "emma", "fritzi")
	payload := string(b.Envelope.Payload)
	encoded := fmt.Sprintf("DSSEv1 %d %s %d %s", len(b.Envelope.PayloadType), b.Envelope.PayloadType, len(payload), payload)
	digests := []string{"-sha256", "-sha384", "-sha512", "", "-sha256"}
	for i, sig := range b.Envelope.Signatures {
		t.Run(kinds[i], func(t *testing.T) {
			cert, err := x509.ParseCertificate(b.Signers[i].Certificates[0])
			if err != nil {
				t.Fatal(err)
			}
			if out, err := openssl(t, cert, digests[i], encoded, sig.Sig); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if out, err := openssl(t, cert, digests[i], encoded+" ", sig.Sig); err == nil {
				t.Errorf("other bytes verify, too: %s", out)
			}
		})
	}
}

// openssl verifies a signature by a certificate's key; Ed25519 has no digest.
func openssl(t *testing.T, cert *x509.Certificate, digest, signed string, sig []byte) (string, error) {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKIXPublicKey(cert.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"key": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "signed": []byte(signed), "sig": sig} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("openssl", "dgst", digest, "-verify", "key", "-signature", "sig", "signed")
	if digest == "" {
		cmd = exec.Command("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key", "-rawin", "-in", "signed", "-sigfile", "sig")
	}
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Whatever a bundle's bytes are: what is read is written the same again, and
// what verifies is what the people signed. Bundle and root are files, because
// each of the processes that fuzz must know the same people.
func FuzzBundle(f *testing.F) {
	text, root := file(f, "bundle.json"), file(f, "root.pem")
	block, _ := pem.Decode(root)
	office, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		f.Fatal(err)
	}
	signed, err := ReadBundle(text)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := signed.Verify(office); err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(bytes.Replace(text, []byte(`"signers"`), []byte(`"proof":{"index":1},"signers"`), 1))
	f.Add(bytes.Replace(text, []byte(`"by":"carla"`), []byte(`"by":"berta"`), 1))
	f.Add([]byte(`{"envelope":{"payloadType":"` + PayloadType + `","payload":"","signatures":[]},"signers":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := ReadBundle(text)
		if err != nil {
			return
		}
		again, err := ReadBundle(encode(t, b))
		if err != nil || !bytes.Equal(encode(t, again), encode(t, b)) {
			t.Fatalf("written and read again: %v", err)
		}
		v, err := b.Verify(office)
		if err != nil {
			return
		}
		if !bytes.Equal(b.Envelope.Payload, signed.Envelope.Payload) || len(v.Approvers) != 2 {
			t.Fatalf("%s verifies, which nobody signed, by %+v", b.Envelope.Payload, v.Approvers)
		}
	})
}

func file(f *testing.F, name string) []byte {
	f.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		f.Fatal(err)
	}
	return text
}
