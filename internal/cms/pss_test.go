package cms

import (
	"strings"
	"testing"
)

func TestOpenSSLSignaturesByPSSVerify(t *testing.T) {
	root := makePerson(t, "ca", rsaKey(t, 2048), nil, ca)
	anna := makePerson(t, "anna", rsaKey(t, 2048), root, nil)
	content := []byte("content\n")
	pss := []string{"-md", "sha256", "-outform", "DER", "-keyopt", "rsa_padding_mode:pss", "-keyopt"}
	sig := anna.opensslSign(t, content, append(pss, "rsa_pss_saltlen:32")...)
	if _, err := VerifyDetached(sig, digestOf(content), pool(root), now); err != nil {
		t.Fatal(err)
	}
	sig[len(sig)-1] ^= 1
	if _, err := VerifyDetached(sig, digestOf(content), pool(root), now); err == nil {
		t.Fatal("verified with a flipped bit")
	}
	short := anna.opensslSign(t, content, append(pss, "rsa_pss_saltlen:20")...)
	if _, err := VerifyDetached(short, digestOf(content), pool(root), now); err == nil || !strings.Contains(err.Error(), "salt of 32 bytes") {
		t.Fatalf("a salt of 20 bytes: %v", err)
	}
}
