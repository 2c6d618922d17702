//go:build !pkcs11

package token

import (
	"errors"

	"github.com/touchmark/touchmark/device"
)

// Open fails: this build has no PKCS#11.
func Open(Place) (device.Keyring, error) {
	return nil, errors.New("keys: this program was built without PKCS#11; take touchmark-agent-pkcs11")
}
