// Package publish makes the offline status files of the CAs that issue to
// devices, when they are due or wanted, and serves them. What is made is kept
// in a [Store] for all nodes: a [Maker] runs where CA keys are, a [Directory]
// and its [Handler] everywhere.
package publish

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/ocsp/offline"
)

// Issuer is a CA whose certificates the files tell about.
type Issuer struct {
	ID          int64 // in the database, 0 for the device CA
	Name        string
	Certificate *x509.Certificate
	// Signer is the CA's key; nil where it is not at hand.
	Signer crypto.Signer
}

// Kept is a file, but for its bytes.
type Kept struct {
	Issuer int64 // see Issuer.ID
	Kind   offline.Kind
	Number int64
	Digest [sha256.Size]byte // of the bytes
}

// Store keeps the newest base and the newest delta of each CA.
type Store interface {
	// OfflineFiles are those that are kept, in no order.
	OfflineFiles(context.Context) ([]Kept, error)
	// OfflineFile gives the bytes of the newest file of a CA and kind, nil if
	// there is none.
	OfflineFile(ctx context.Context, issuer int64, kind offline.Kind) ([]byte, error)
	// KeepOfflineFile keeps a file in place of the one of its CA and kind,
	// with its leaf in the audit log, if the greatest number of the CA's files
	// is still the one that it follows, 0 for none. Otherwise another node was
	// faster: kept is false, and nothing changes.
	KeepOfflineFile(ctx context.Context, by, note string, follows int64, f Kept, bytes []byte) (kept bool, err error)
	// IssuedCertificates calls each for every certificate of a CA that was
	// committed before the call and has not run out at a time: its serial
	// number, as big.Int has it, and whether it is good. It streams, and takes
	// each standing as it is when it is read. An error of each ends it and is
	// returned.
	IssuedCertificates(ctx context.Context, issuer int64, at time.Time, each func(serial []byte, good bool) error) error
}

// File is a file that is kept, in memory.
type File struct {
	Kept
	Header offline.Header
	Bytes  []byte
}

// Directory holds the files that are kept. Set Store before the first call.
type Directory struct {
	Store Store

	files atomic.Pointer[map[place]*File]
}

type place struct {
	issuer int64
	kind   offline.Kind
}

// Refresh reads what was kept since the last time.
func (d *Directory) Refresh(ctx context.Context) error {
	list, err := d.Store.OfflineFiles(ctx)
	if err != nil {
		return err
	}
	next := map[place]*File{}
	for _, k := range list {
		at := place{k.Issuer, k.Kind}
		f := d.at(at)
		if f == nil || f.Kept != k {
			if f, err = d.read(ctx, k); err != nil {
				return err
			}
		}
		next[at] = f
	}
	d.files.Store(&next)
	return nil
}

// read reads a file. It may have been replaced in between; then it is the
// newer one.
func (d *Directory) read(ctx context.Context, k Kept) (*File, error) {
	b, err := d.Store.OfflineFile(ctx, k.Issuer, k.Kind)
	if err != nil {
		return nil, err
	}
	h, err := offline.ReadHeader(b)
	if err != nil {
		return nil, fmt.Errorf("the %s %d of the issuing CA %d in the database: %w", k.Kind, k.Number, k.Issuer, err)
	}
	return &File{Kept: Kept{k.Issuer, h.Kind, int64(h.Number), sha256.Sum256(b)}, Header: *h, Bytes: b}, nil
}

func (d *Directory) at(p place) *File {
	if files := d.files.Load(); files != nil {
		return (*files)[p]
	}
	return nil
}

// Base is the newest base of a CA, or nil.
func (d *Directory) Base(issuer int64) *File { return d.at(place{issuer, offline.Base}) }

// Delta is the newest delta of a CA's newest base, or nil.
func (d *Directory) Delta(issuer int64) *File {
	base, delta := d.Base(issuer), d.at(place{issuer, offline.Delta})
	if base == nil || delta == nil || delta.Header.Base != base.Digest {
		return nil
	}
	return delta
}

// Files are a CA's newest base and its delta, as far as there are any.
func (d *Directory) Files(issuer int64) (list []*File) {
	for _, f := range []*File{d.Base(issuer), d.Delta(issuer)} {
		if f != nil {
			list = append(list, f)
		}
	}
	return list
}

// newest is the delta if there is one, else the base, else nil.
func (d *Directory) newest(issuer int64) *File {
	if delta := d.Delta(issuer); delta != nil {
		return delta
	}
	return d.Base(issuer)
}

// number is the greatest of a CA's files.
func (d *Directory) number(issuer int64) int64 {
	n := int64(0)
	for _, kind := range []offline.Kind{offline.Base, offline.Delta} {
		if f := d.at(place{issuer, kind}); f != nil {
			n = max(n, f.Number)
		}
	}
	return n
}
