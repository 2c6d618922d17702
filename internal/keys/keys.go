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
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"filippo.io/mldsa"
	pkix "filippo.io/mldsa/x509"
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
	RSA2048 Kind = "RSA-2048"
	RSA3072 Kind = "RSA-3072"
	// In files alone: no library for HSMs signs with them.
	MLDSA65 Kind = "ML-DSA-65"
	MLDSA87 Kind = "ML-DSA-87"
)

// KindError says that keys of a kind cannot be made in an HSM.
type KindError struct{ Kind Kind }

func (e *KindError) Error() string {
	return fmt.Sprintf("keys of kind %s cannot be made in an HSM: take P-256, or have the key in a file", e.Kind)
}

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
		if key := openMLDSA(path); key != nil {
			return key, nil
		}
		uri = path
	}
	if inToken(uri) {
		return openTokenKey(ctx, uri)
	}
	m, err := manager(ctx, uri)
	if err != nil {
		return nil, err
	}
	s, err := m.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: uri})
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", Redact(uri), redacted(uri, err))
	}
	return s, nil
}

// Create makes a key where the URI says. It never overwrites one: the error is
// fs.ErrExist then, and a *KindError where keys of the kind cannot be made.
func (r Ring) Create(ctx context.Context, uri string, kind Kind) (crypto.Signer, error) {
	if path, ok := r.file(uri); ok {
		return createFile(path, kind)
	}
	wanted, ok := wantedKeys[kind]
	if !ok {
		return nil, &KindError{kind}
	}
	wanted.Name = uri
	if inToken(uri) {
		if kind == Ed25519 {
			return nil, &KindError{kind}
		}
		return createTokenKey(ctx, &wanted)
	}
	m, err := manager(ctx, uri)
	if err != nil {
		return nil, err
	}
	made, err := m.CreateKey(&wanted)
	if err != nil {
		return nil, fmt.Errorf("make key %s: %w", Redact(uri), redacted(uri, err))
	}
	s, err := m.CreateSigner(&made.CreateSignerRequest)
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", Redact(uri), redacted(uri, err))
	}
	return s, nil
}

// wantedKeys is how a key manager is asked for each kind. The hash of an RSA
// key binds it to nothing.
var wantedKeys = map[Kind]apiv1.CreateKeyRequest{
	P256:    {SignatureAlgorithm: apiv1.ECDSAWithSHA256},
	P384:    {SignatureAlgorithm: apiv1.ECDSAWithSHA384},
	Ed25519: {SignatureAlgorithm: apiv1.PureEd25519},
	RSA2048: {SignatureAlgorithm: apiv1.SHA256WithRSA, Bits: 2048},
	RSA3072: {SignatureAlgorithm: apiv1.SHA256WithRSA, Bits: 3072},
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
	if err := checkURI(uri); err != nil {
		return nil, err
	}
	return openManager(ctx, uri)
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

// openMLDSA reads a file that holds an ML-DSA key (RFC 9881 §6), of which the
// libraries know nothing; nil leaves the file to them.
func openMLDSA(path string) crypto.Signer {
	text, err := os.ReadFile(path)
	block, _ := pem.Decode(text)
	if err != nil || block == nil {
		return nil
	}
	key, err := pkix.ParsePKCS8PrivateKey(block.Bytes)
	if signer, ok := key.(*mldsa.PrivateKey); ok && err == nil {
		return signer
	}
	return nil
}

func createFile(path string, kind Kind) (crypto.Signer, error) {
	s, err := generate(kind)
	if err != nil {
		return nil, err
	}
	der, err := pkix.MarshalPKCS8PrivateKey(s)
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
		return existing(path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// existing is the error about a key that is there; it is fs.ErrExist.
type existing string

func (e existing) Error() string {
	return string(e) + " already exists: a key is never overwritten; remove it if you are sure"
}

func (e existing) Is(target error) bool { return target == fs.ErrExist }

func generate(kind Kind) (crypto.Signer, error) {
	switch kind {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case MLDSA65:
		return mldsa.GenerateKey(mldsa.MLDSA65())
	case MLDSA87:
		return mldsa.GenerateKey(mldsa.MLDSA87())
	default:
		return nil, fmt.Errorf("unknown kind of key %q", kind)
	}
}

// Secrets before the question mark end with their attribute. Those after it
// are taken to run on to the end, whatever signs a PIN is made of.
var (
	secretInPath  = regexp.MustCompile(`(?i)\b(` + secretNames + `)=([^;&]*)`)
	secretInQuery = regexp.MustCompile(`(?is)\b(` + secretNames + `)=(.*)`)
)

const secretNames = `pin-value|pin-source|pin|password|passphrase|secret|client-secret`

// Redact hides the secrets that a key URI may carry.
func Redact(uri string) string {
	path, query, found := strings.Cut(uri, "?")
	path = secretInPath.ReplaceAllString(path, "${1}=…")
	if !found {
		return path
	}
	return path + "?" + secretInQuery.ReplaceAllString(query, "${1}=…")
}

// redacted keeps a URI's secrets out of a library's error text, as they stand
// in the URI and as the library reads them.
func redacted(uri string, err error) error {
	text := strings.ReplaceAll(err.Error(), uri, Redact(uri))
	path, query, _ := strings.Cut(uri, "?")
	for _, part := range append(strings.FieldsFunc(path, func(r rune) bool { return r == ';' || r == '&' }), strings.Split(query, "&")...) {
		m := secretInQuery.FindStringSubmatch(part)
		if m == nil || m[2] == "" {
			continue
		}
		if read, err := url.QueryUnescape(m[2]); err == nil && read != "" {
			text = strings.ReplaceAll(text, read, "…")
		}
		text = strings.ReplaceAll(text, m[2], "…")
	}
	return errors.New(text)
}

// checkURI refuses what a library would quote in pieces.
func checkURI(uri string) error {
	u, err := url.Parse(uri)
	if err == nil {
		_, err = url.ParseQuery(u.RawQuery)
	}
	if err == nil {
		_, err = url.ParseQuery(strings.ReplaceAll(u.Opaque, ";", "&"))
	}
	if err != nil {
		return fmt.Errorf("the key URI %s cannot be read: in what stands after =, write %%25 for %%, %%3B for ;, %%26 for & and %%20 for a space", Redact(uri))
	}
	return nil
}
