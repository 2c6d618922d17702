// Package keys opens and makes private keys by URI, always as crypto.Signer:
// the rest of the program never sees key material, so a key may sit in a
// file, an HSM or a cloud's KMS.
//
//	file:PATH                    PKCS#8 PEM, readable by its owner only
//	pkcs11:token=…;id=…;object=… an HSM; needs the build with PKCS#11
//	awskms:… cloudkms:… azurekms:…   a cloud's KMS
//
// Everything goes through go.step.sm/crypto/kms.
package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.step.sm/crypto/kms"
	"go.step.sm/crypto/kms/apiv1"
	_ "go.step.sm/crypto/kms/awskms"   // awskms:
	_ "go.step.sm/crypto/kms/azurekms" // azurekms:
	_ "go.step.sm/crypto/kms/cloudkms" // cloudkms:
	_ "go.step.sm/crypto/kms/softkms"  // file:
)

// Kind is a kind of key to make.
type Kind string

const (
	P256    Kind = "P-256"
	P384    Kind = "P-384"
	Ed25519 Kind = "Ed25519"
)

// Ring opens keys. Relative file: paths are below Dir.
type Ring struct {
	Dir string
}

// Open returns the signer that a URI names.
func (r Ring) Open(ctx context.Context, uri string) (crypto.Signer, error) {
	if path, ok := r.file(uri); ok {
		if err := checkPrivate(path); err != nil {
			return nil, err
		}
		uri = path
	}
	m, err := manager(ctx, uri)
	if err != nil {
		return nil, err
	}
	s, err := m.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: uri})
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", Redact(uri), redacted(err))
	}
	return s, nil
}

// Create makes a key where the URI says. It never overwrites a file.
func (r Ring) Create(ctx context.Context, uri string, kind Kind) (crypto.Signer, error) {
	if path, ok := r.file(uri); ok {
		return createFile(path, kind)
	}
	m, err := manager(ctx, uri)
	if err != nil {
		return nil, err
	}
	algorithm, ok := map[Kind]apiv1.SignatureAlgorithm{P256: apiv1.ECDSAWithSHA256, P384: apiv1.ECDSAWithSHA384, Ed25519: apiv1.PureEd25519}[kind]
	if !ok {
		return nil, fmt.Errorf("make key %s: unknown kind %q", Redact(uri), kind)
	}
	made, err := m.CreateKey(&apiv1.CreateKeyRequest{Name: uri, SignatureAlgorithm: algorithm})
	if err != nil {
		return nil, fmt.Errorf("make key %s: %w", Redact(uri), redacted(err))
	}
	s, err := m.CreateSigner(&made.CreateSignerRequest)
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", Redact(uri), redacted(err))
	}
	return s, nil
}

// file returns the path of a file: URI.
func (r Ring) file(uri string) (string, bool) {
	path, ok := strings.CutPrefix(uri, "file:")
	if !ok {
		return "", false
	}
	path = strings.TrimPrefix(path, "//")
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.Dir, path)
	}
	return path, true
}

// manager opens the key manager of a URI's kind. What the URI holds beyond
// the key's name (module, token, PIN) tells the manager where to look.
func manager(ctx context.Context, uri string) (apiv1.KeyManager, error) {
	scheme, _, found := strings.Cut(uri, ":")
	if !found || strings.ContainsAny(scheme, "/.") {
		return kms.New(ctx, apiv1.Options{Type: apiv1.SoftKMS})
	}
	if scheme == "pkcs11" && !havePKCS11 {
		return nil, errors.New("this build has no PKCS#11: use touchmark-pkcs11, which `make build` puts beside touchmark")
	}
	m, err := kms.New(ctx, apiv1.Options{URI: uri})
	if err != nil {
		return nil, fmt.Errorf("open key manager of %s: %w", Redact(uri), redacted(err))
	}
	return m, nil
}

// checkPrivate refuses a key file that others may read.
func checkPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("key file %s is open to others (mode %04o): run chmod 600 on it, and consider the key as known if others share this machine", path, mode)
	}
	return nil
}

func createFile(path string, kind Kind) (crypto.Signer, error) {
	s, err := generate(kind)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(s)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return s, WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// WriteFile writes a secret to a new file that only its owner can read, and
// sees it to the disk. It never overwrites.
func WriteFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already: a key is never overwritten; remove the file if you are sure", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func generate(kind Kind) (crypto.Signer, error) {
	switch kind {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	default:
		return nil, fmt.Errorf("unknown kind of key %q", kind)
	}
}

var secretAttribute = regexp.MustCompile(`(?i)((?:pin-value|pin-source|pin|password|passphrase|secret|client-secret)=)[^;?&\s]*`)

// Redact hides the secrets that a key URI may carry.
func Redact(uri string) string { return secretAttribute.ReplaceAllString(uri, "${1}…") }

// redacted keeps secrets out of a library's error text.
func redacted(err error) error { return errors.New(Redact(err.Error())) }
