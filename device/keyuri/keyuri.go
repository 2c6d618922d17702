// Package keyuri opens a device's key store by a URI, so that a configuration
// can say in a word where private keys are.
package keyuri

import (
	"fmt"
	"strings"

	"github.com/touchmark/touchmark/device"
)

// Open opens the store with its files in dir. URIs are
//
//	file:     keys are in the files, readable by their owner
func Open(uri, dir string) (*device.FileStore, error) {
	scheme, _, _ := strings.Cut(uri, ":")
	switch scheme {
	case "file":
		return device.OpenFileStore(dir)
	default:
		return nil, fmt.Errorf("keys: %q is no URI of keys: want file: and nothing after it", scheme)
	}
}
