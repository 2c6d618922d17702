//go:build pkcs11

package main

import (
	"path/filepath"
	"testing"
)

// The key that secrets of encrypted firmware are sealed for is made in the HSM,
// which unwraps them, also after a restart.
func TestEncryptedFirmwareInAnHSM(t *testing.T) {
	data, r := initHSM(t, softHSM(t, "1234")+"?pin-value=1234")
	r.want(t, 0)
	w := &firmwareWorld{world: newWorldIn(t, data), build: t.TempDir()}
	w.erna = w.operator(t, "erna")
	w.admin(t, "firmware", "key", "create", "thermo-test", "--product", "thermostat", "--stage", "test").want(t, 0)
	w.write(t, "app.bin", 70_000)
	ticket, key := w.testImage(t)
	w.wrapsFor(t, ticket, key)
	if found, err := filepath.Glob(filepath.Join(data, "keys", "content*")); err != nil || len(found) > 0 {
		t.Errorf("the key is in a file: %q, %v", found, err)
	}
	w.server.stop(t)
	w.server = serve(t, data)
	w.wrapsFor(t, ticket, key)
	w.becomes(t, 200) // to try a hash that the token does not know has not lost it
}
