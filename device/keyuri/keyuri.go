// Package keyuri opens a device's key store by a URI, so that a configuration
// can say in a word where private keys are.
package keyuri

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/device/token"
	"github.com/touchmark/touchmark/device/tpm"
)

// Store is an open key store.
type Store struct {
	*device.FileStore
	// TPM is where the keys are, or nil.
	TPM *tpm.TPM
}

// Open opens the store with its files in dir. URIs are
//
//	file:                        keys are in the files, readable by their owner
//	tpmkms:[device=PATH][;auth-file=PATH][;ek=KIND]
//	                             keys are in a TPM: a device file, /dev/tpmrm0 by
//	                             default, or the Unix socket of a software TPM;
//	                             with an authorization value from a file; proved
//	                             by an endorsement key of that kind
//	pkcs11:…                     keys are in a token, see [token.ParsePlace]
func Open(uri, dir string) (*Store, error) {
	scheme, rest, _ := strings.Cut(uri, ":")
	switch scheme {
	case "file":
		if rest != "" {
			return nil, errors.New("keys: nothing stands after file: (the directory is dir)")
		}
		files, err := device.OpenFileStore(dir)
		return &Store{FileStore: files}, err
	case "tpmkms":
		return openTPM(rest, dir)
	case "pkcs11":
		return openToken(uri, dir)
	default:
		return nil, fmt.Errorf("keys: %q is no URI of keys; want file:, tpmkms: or pkcs11:, with what is needed after it", scheme)
	}
}

func openTPM(settings, dir string) (*Store, error) {
	t := &tpm.TPM{Path: tpm.DefaultPath}
	for _, s := range strings.FieldsFunc(settings, func(r rune) bool { return r == ';' }) {
		name, value, _ := strings.Cut(s, "=")
		switch name {
		case "device":
			t.Path = value
		case "ek":
			t.EK = value
		case "auth-file":
			auth, err := os.ReadFile(value)
			if err != nil {
				return nil, fmt.Errorf("keys: auth-file: %w", err)
			}
			t.Auth = bytes.TrimRight(auth, "\r\n")
		default:
			return nil, fmt.Errorf("keys: a TPM has no %q; want device, auth-file or ek", name)
		}
	}
	files, err := device.OpenFileStoreOn(dir, t)
	return &Store{FileStore: files, TPM: t}, err
}

func openToken(uri, dir string) (*Store, error) {
	place, err := token.ParsePlace(uri)
	if err != nil {
		return nil, err
	}
	ring, err := token.Open(place)
	if err != nil {
		return nil, err
	}
	files, err := device.OpenFileStoreOn(dir, ring)
	return &Store{FileStore: files}, err
}
