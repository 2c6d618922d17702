package device

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// FileStore is a [KeyStore] in a directory. Each slot is one PEM file with
// the PKCS#8 key (RFC 5958) and the certificates, readable by its owner
// only: key and certificate change together, by renaming one file.
type FileStore struct {
	dir string
	mu  sync.Mutex
}

// OpenFileStore uses dir, which it makes (mode 0700) if it is not there.
func OpenFileStore(dir string) (*FileStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the key store: %w", err)
	}
	return &FileStore{dir: dir}, nil
}

func (f *FileStore) path(s Slot) string { return filepath.Join(f.dir, string(s)+".pem") }

// Load implements [KeyStore].
func (f *FileStore) Load(s Slot) (*Credential, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.load(s)
}

func (f *FileStore) load(s Slot) (*Credential, error) {
	data, err := os.ReadFile(f.path(s))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrEmpty
	}
	if err != nil {
		return nil, fmt.Errorf("read the %s key: %w", s, err)
	}
	c, err := ParseCredential(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(s), err)
	}
	return c, nil
}

// Create implements [KeyStore].
func (f *FileStore) Create(s Slot, kind KeyKind) (*Credential, error) {
	key, err := kind.generate()
	if err != nil {
		return nil, err
	}
	c := &Credential{Key: key}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.save(s, c); err != nil {
		return nil, err
	}
	return c, nil
}

// Certify implements [KeyStore].
func (f *FileStore) Certify(s Slot, chain []*x509.Certificate) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.load(s)
	if err != nil {
		return err
	}
	if err := checkFits(c.Key, chain); err != nil {
		return err
	}
	c.Chain = chain
	return f.save(s, c)
}

// Promote implements [KeyStore]. It is one rename.
func (f *FileStore) Promote() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.load(Pending)
	if err != nil {
		return err
	}
	if c.Leaf() == nil {
		return errNoPromotion
	}
	if err := os.Rename(f.path(Pending), f.path(Official)); err != nil {
		return fmt.Errorf("make the pending key the official one: %w", err)
	}
	return syncDir(f.dir)
}

// Drop implements [KeyStore].
func (f *FileStore) Drop(s Slot) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range []string{f.path(s), f.path(s) + leftover} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("drop the %s key: %w", s, err)
		}
	}
	return syncDir(f.dir)
}

// save writes a slot so that a power cut leaves the old file or the new one.
func (f *FileStore) save(s Slot, c *Credential) error {
	data, err := c.PEM()
	if err != nil {
		return err
	}
	if err := writeAtomically(f.path(s), data); err != nil {
		return fmt.Errorf("keep the %s key: %w", s, err)
	}
	return nil
}

// leftover ends the name of a file that is being written, and may stay
// behind when power is cut.
const leftover = ".tmp"

// writeAtomically writes beside the target, makes that durable, and only
// then renames. A left-over of an earlier cut is overwritten.
func writeAtomically(path string, data []byte) error {
	tmp := path + leftover
	file, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// PEM is the credential as a file: the key in PKCS#8, then the chain.
func (c *Credential) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	var b bytes.Buffer
	blocks := []*pem.Block{{Type: "PRIVATE KEY", Bytes: der}}
	for _, x := range c.Chain {
		blocks = append(blocks, &pem.Block{Type: "CERTIFICATE", Bytes: x.Raw})
	}
	for _, block := range blocks {
		if err := pem.Encode(&b, block); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// ParseCredential reads a key and certificates from PEM, in any order of
// files joined together; the key may be PKCS#8 or SEC 1. The first
// certificate must be for the key.
func ParseCredential(data []byte) (*Credential, error) {
	c := new(Credential)
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if err := c.add(block); err != nil {
			return nil, err
		}
	}
	if c.Key == nil {
		return nil, errors.New("there is no private key in the PEM data")
	}
	if len(c.Chain) > 0 {
		if err := checkFits(c.Key, c.Chain); err != nil {
			return nil, errors.New("the first certificate is not for the private key beside it")
		}
	}
	return c, nil
}

func (c *Credential) add(block *pem.Block) error {
	switch block.Type {
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("certificate %d: %w", len(c.Chain)+1, err)
		}
		c.Chain = append(c.Chain, cert)
		return nil
	case "PRIVATE KEY", "EC PRIVATE KEY":
		if c.Key != nil {
			return errors.New("there is more than one private key in the PEM data")
		}
		key, err := parseKey(block)
		c.Key = key
		return err
	default:
		return nil // parameters and comments that openssl puts beside a key
	}
}

func parseKey(block *pem.Block) (crypto.Signer, error) {
	if block.Type == "EC PRIVATE KEY" {
		key, err := x509.ParseECPrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("the private key is not a SEC 1 key")
		}
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the private key is not a PKCS#8 key") // the parser's error could quote key material
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a private key of type %T cannot sign", key)
	}
	return signer, nil
}
