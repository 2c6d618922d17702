package device

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/touchmark/touchmark/device/atomicfile"
)

// RootStore keeps the roots that a device took up after the one that it was
// given. A [KeyStore] may be one, too, as [FileStore] is.
type RootStore interface {
	// Roots returns those that were kept, oldest first; none if there are none.
	Roots() ([]*x509.Certificate, error)
	// KeepRoots keeps some more. When it returns nil they are durable; when it
	// fails or power is lost, all of them are kept or none.
	KeepRoots([]*x509.Certificate) error
}

// RecallRoots trusts the roots that the store has kept, for a device that is
// made again. A store that is no [RootStore] has none.
func (d *Device) RecallRoots() error {
	store, ok := d.Store.(RootStore)
	if !ok {
		return nil
	}
	kept, err := store.Roots()
	if err != nil {
		return err
	}
	d.Succeed(unknown(kept, d.roots()))
	return nil
}

// unknown are the certificates of a list that are not among others.
func unknown(list, among []*x509.Certificate) (rest []*x509.Certificate) {
	for _, c := range list {
		if !contains(among, c) {
			rest = append(rest, c)
		}
	}
	return rest
}

// keepRoots has the store keep roots, if it can.
func (d *Device) keepRoots(fresh []*x509.Certificate) error {
	store, ok := d.Store.(RootStore)
	if !ok || len(fresh) == 0 {
		return nil
	}
	return store.KeepRoots(fresh)
}

func (f *FileStore) rootsFile() string { return filepath.Join(f.dir, "roots.pem") }

// Roots implements [RootStore].
func (f *FileStore) Roots() ([]*x509.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.roots()
}

func (f *FileStore) roots() (roots []*x509.Certificate, err error) {
	text, err := os.ReadFile(f.rootsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for err == nil {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return roots, nil
		}
		var root *x509.Certificate
		root, err = x509.ParseCertificate(block.Bytes)
		roots = append(roots, root)
	}
	return nil, fmt.Errorf("the roots that were taken up, %s: %w", f.rootsFile(), err)
}

// KeepRoots implements [RootStore]. It is one rename.
func (f *FileStore) KeepRoots(fresh []*x509.Certificate) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept, err := f.roots()
	if err != nil {
		return err
	}
	var text []byte
	for _, root := range append(kept, unknown(fresh, kept)...) {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})...)
	}
	if err := atomicfile.Write(f.rootsFile(), text, atomicfile.Private); err != nil {
		return fmt.Errorf("keep the roots that were taken up: %w", err)
	}
	return nil
}
