package device

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/touchmark/touchmark/device/atomicfile"
)

// FileStore is a [KeyStore] in a directory. Each slot is one PEM file with
// the key and the certificates, readable by its owner only: key and
// certificate change together, by renaming one file. Where the keys are in a
// TPM or a token, the file holds what their [Keyring] finds them by.
type FileStore struct {
	dir  string
	keys Keyring
	mu   sync.Mutex
}

// Keyring makes private keys outside of a slot's file, and finds them again by
// a PEM block in it. A FileStore makes its calls one after the other.
type Keyring interface {
	// Make makes a key and the block that Open finds it by, of another type than
	// a private key in PEM. taken are the blocks that slots hold: the new one
	// takes no key's place that they name. A key that Make made and no slot came
	// to hold, because power was cut, must not be in the way of others for ever.
	Make(kind KeyKind, taken []*pem.Block) (crypto.Signer, *pem.Block, error)
	// Open opens the key of a block. What does not come from Make is refused.
	Open(*pem.Block) (crypto.Signer, error)
	// Forget destroys the key of a block that no slot holds any more. It is
	// tried once: a power cut may keep it from being called.
	Forget(*pem.Block) error
}

// OpenFileStore uses dir, which it makes (mode 0700) if it is not there. It
// keeps keys in the files, in PKCS#8 (RFC 5958).
func OpenFileStore(dir string) (*FileStore, error) { return OpenFileStoreOn(dir, nil) }

// OpenFileStoreOn makes new keys on a keyring. Keys in PKCS#8 that are in dir
// already, such as a bootstrap key of the factory's, work all the same.
func OpenFileStoreOn(dir string, keys Keyring) (*FileStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the key store: %w", err)
	}
	return &FileStore{dir: dir, keys: keys}, nil
}

// Writable says, by an error, if the store could not keep a certificate now: the
// disk is full or read-only. A device asks before it asks a server.
func (f *FileStore) Writable() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := filepath.Join(f.dir, "space")
	if err := atomicfile.Write(name, make([]byte, roomForSlot), atomicfile.Private); err != nil {
		return fmt.Errorf("the key store cannot be written to: %w", err)
	}
	return atomicfile.Remove(name)
}

// roomForSlot is more than any slot takes, in bytes.
const roomForSlot = 32 << 10

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
	c, err := parseCredential(data, f.keys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(s), err)
	}
	return c, nil
}

// Create implements [KeyStore].
func (f *FileStore) Create(s Slot, kind KeyKind) (*Credential, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.make(kind)
	if err != nil {
		return nil, err
	}
	before := f.block(s)
	if err := f.save(s, c); err != nil {
		f.forget(c.block)
		return nil, err
	}
	f.forget(before)
	return c, nil
}

func (f *FileStore) make(kind KeyKind) (*Credential, error) {
	if f.keys == nil {
		key, err := kind.generate()
		return &Credential{Key: key}, err
	}
	var taken []*pem.Block
	for _, s := range []Slot{Bootstrap, Pending, Official} {
		if b := f.block(s); b != nil {
			taken = append(taken, b)
		}
	}
	key, block, err := f.keys.Make(kind, taken)
	return &Credential{Key: key, block: block}, err
}

// block is what a keyring finds the key of a slot by, or nil.
func (f *FileStore) block(s Slot) *pem.Block {
	data, err := os.ReadFile(f.path(s))
	for err == nil {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil || named(b) {
			return b
		}
	}
	return nil
}

// forget destroys a key that no slot holds any more. If that fails, the keyring
// sees to it when it makes the next one.
func (f *FileStore) forget(b *pem.Block) {
	if b != nil && f.keys != nil {
		_ = f.keys.Forget(b)
	}
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
	before := f.block(Official)
	if err := os.Rename(f.path(Pending), f.path(Official)); err != nil {
		return fmt.Errorf("make the pending key the official one: %w", err)
	}
	if err := atomicfile.SyncDir(f.dir); err != nil {
		return err
	}
	f.forget(before)
	return nil
}

// Drop implements [KeyStore].
func (f *FileStore) Drop(s Slot) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.block(s)
	if err := atomicfile.Remove(f.path(s)); err != nil {
		return fmt.Errorf("drop the %s key: %w", s, err)
	}
	f.forget(before)
	return nil
}

// save writes a slot so that a power cut leaves the old file or the new one.
func (f *FileStore) save(s Slot, c *Credential) error {
	data, err := c.PEM()
	if err != nil {
		return err
	}
	if err := atomicfile.Write(f.path(s), data, atomicfile.Private); err != nil {
		return fmt.Errorf("keep the %s key: %w", s, err)
	}
	return nil
}
