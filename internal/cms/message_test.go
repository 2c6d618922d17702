package cms

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"strings"
	"testing"
)

func TestOpenTakesWhatOpenSSLSigns(t *testing.T) {
	content := []byte("{\"operation\":\"enrol\"}\r\n\x00")
	for name, key := range map[string]crypto.Signer{"P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "RSA-2048": rsaKey(t, 2048)} {
		self := makePerson(t, "device", key, nil, nil)
		for _, args := range [][]string{{"-nodetach"}, {"-nodetach", "-nosmimecap", "-md", "sha384"}, {"-nodetach", "-stream"}} {
			message := self.opensslSign(t, content, append(args, "-outform", "DER")...)
			got, by, err := Open(message, 16<<10)
			if err != nil || !bytes.Equal(got, content) || !by.Certificate.Equal(self.cert) || by.SigningTime.IsZero() {
				t.Errorf("%s %v: content %q, by %+v, error %v", name, args, got, by, err)
			}
			if at := bytes.Index(message, content[2:11]); at < 0 {
				t.Fatal("the content is not in the message")
			} else {
				message[at] ^= 1
			}
			if _, _, err := Open(message, 16<<10); err == nil {
				t.Errorf("%s %v: opened with its content changed", name, args)
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	content := []byte("content\n")
	self := makePerson(t, "device", ecKey(t, elliptic.P256()), nil, nil)
	other := makePerson(t, "other", ecKey(t, elliptic.P256()), nil, nil)
	small := makePerson(t, "small", rsaKey(t, 1024), nil, nil)
	der := []string{"-outform", "DER"}
	for name, tt := range map[string]struct {
		message []byte
		want    string
	}{
		"detached":       {self.opensslSign(t, content, der...), "-nodetach"},
		"no certificate": {self.opensslSign(t, content, append(der, "-nodetach", "-nocerts")...), "-nocerts"},
		"no attributes":  {self.opensslSign(t, content, append(der, "-nodetach", "-noattr")...), "-noattr"},
		"SHA-1":          {self.opensslSign(t, content, append(der, "-nodetach", "-md", "sha1")...), "SHA-256"},
		"two signers":    {self.opensslSign(t, content, append(der, "-nodetach", "-signer", other.certFile, "-inkey", other.keyFile)...), "2 signers"},
		"RSA-1024":       {small.opensslSign(t, content, append(der, "-nodetach")...), "1024 bits"},
		"too long":       {self.opensslSign(t, make([]byte, 16<<10), append(der, "-nodetach")...), "at most"},
		"a nesting bomb": {nested(8 << 10), "nested"},
		"garbage":        {[]byte("{}"), "malformed"},
	} {
		if got, _, err := Open(tt.message, 16<<10); err == nil || got != nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: content %q, error %v; want one that mentions %q", name, got, err, tt.want)
		}
	}
}

func TestOpenSSLTakesWhatSignMakes(t *testing.T) {
	root := makePerson(t, "ca", ecKey(t, elliptic.P256()), nil, ca)
	server := makePerson(t, "server", ecKey(t, elliptic.P256()), root, nil)
	content := []byte("{\"status\":200}")
	message, err := Sign(content, Signatory{Certificate: server.cert, Key: opaque{server.key}}, now)
	if err != nil {
		t.Fatal(err)
	}
	got := openssl(t, "cms", "-verify", "-binary", "-inform", "DER", "-in", write(t, "message", message),
		"-CAfile", root.certFile, "-purpose", "any", "-attime", "1795262400")
	if !bytes.Equal(got, content) {
		t.Fatalf("openssl verified %q", got)
	}
	got, by, err := Open(message, 16<<10)
	if err != nil || !bytes.Equal(got, content) || !by.SigningTime.Equal(now) || !by.Certificate.Equal(server.cert) {
		t.Fatalf("content %q, by %+v, error %v", got, by, err)
	}
}

// FuzzOpen: whoever can make a message by a key that they do not hold, or
// change one, has broken the door.
func FuzzOpen(f *testing.F) {
	self := makePerson(f, "device", ecKey(f, elliptic.P256()), nil, nil)
	content := []byte("content\n")
	message, err := Sign(content, Signatory{Certificate: self.cert, Key: self.key}, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message)
	f.Add(self.opensslSign(f, content, "-outform", "DER", "-nodetach", "-stream"))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, by, err := Open(in, 16<<10)
		switch {
		case err != nil && (got != nil || by.Certificate != nil):
			t.Fatal("a content or a signer beside an error")
		case err == nil && by.Certificate.Equal(self.cert) && !bytes.Equal(got, content):
			t.Fatalf("opened with other content %q", got)
		}
	})
}
