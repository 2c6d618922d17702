package webhook

import (
	"encoding/base64"
	"strings"
	"testing"
)

// TestSecretsNeedTheKey has secrets follow from seed and key, both.
func TestSecretsNeedTheKey(t *testing.T) {
	seed := NewSeed()
	a, b := NewSecrets([]byte("one server's key")), NewSecrets([]byte("another's"))
	if a.Text(seed) != NewSecrets([]byte("one server's key")).Text(seed) {
		t.Error("two servers with one key make two secrets of a seed")
	}
	if a.Text(seed) == b.Text(seed) || a.Text(seed) == a.Text(NewSeed()) {
		t.Error("another key or seed makes the same secret")
	}
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(a.Text(seed), "whsec_"))
	if err != nil || len(secret) != 32 || strings.Contains(string(secret), string(seed)) {
		t.Errorf("%q, %v", a.Text(seed), err)
	}
}
