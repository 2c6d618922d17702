package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"sync/atomic"

	"github.com/touchmark/touchmark/internal/keys"
)

// tried remembers whether a key could sign when it was last used.
type tried struct {
	failed atomic.Pointer[error] // nil if it could
}

// last is the failure of the last signature.
func (t *tried) last() error {
	if err := t.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// note keeps what became of a signature and returns it, without secrets.
func (t *tried) note(err error) error {
	if err != nil {
		err = errors.New(keys.Redact(err.Error()))
		t.failed.Store(&err)
	} else if t.failed.Load() != nil {
		t.failed.Store(nil)
	}
	return err
}

// probed is what keys sign to see whether they can; nobody verifies it.
var probed = sha256.Sum256([]byte("touchmark: can this key sign?"))

// probe signs with a key that is to be tried anyway, or whose last signature
// failed.
func (t *tried) probe(key crypto.Signer, anyway bool) {
	failed := t.failed.Load()
	if key == nil || failed == nil && !anyway {
		return
	}
	if _, err := key.Sign(rand.Reader, probed[:], crypto.SHA256); err != nil {
		_ = t.note(err)
	} else if failed != nil {
		t.failed.CompareAndSwap(failed, nil)
	}
}
