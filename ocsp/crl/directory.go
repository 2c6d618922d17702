package crl

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"slices"
	"sync"
	"time"
)

// Issuer is a CA whose certificates the lists speak of.
type Issuer struct {
	ID          int64 // in the database, 0 for the device CA
	Name        string
	Certificate *x509.Certificate
	// Signer is the CA's key; nil where it is not at hand.
	Signer crypto.Signer
}

// Made is a list to be kept.
type Made struct {
	Kept
	// Follows is the Number of the newest list of the series; 0 if this is
	// the first.
	Follows int64
	// Content writes the bytes, any number of times the same.
	Content io.WriterTo
}

// ErrGone is the error for the bytes of a list that was replaced long ago.
var ErrGone = errors.New("this revocation list was replaced by a newer one")

// Store keeps the newest list of each scope, for all nodes.
type Store interface {
	// CRLs returns the lists whose Version is greater than after, in its
	// order.
	CRLs(ctx context.Context, after int64) ([]*Kept, error)
	// KeepCRLs puts lists in the place of those of the same CA and scope, with
	// a leaf in the log, in the name of who wanted it. It returns those that
	// are kept. A list is left out if its series has grown beyond what it
	// Follows: another server was faster. Lists of the same series and Number
	// are kept together or not at all. After an error each list may be kept
	// or not, whole in either case.
	KeepCRLs(ctx context.Context, by, note string, made []*Made) ([]*Kept, error)
	// EndCRLs ends the lists of partitions of one number, with leaves in the
	// log, and returns how many those were. After an error some may have
	// ended; whoever tries again ends the rest.
	EndCRLs(ctx context.Context, by, note string, issuer int64, partitions int) (ended int, err error)
	// CRLChunk returns the bytes of a list from chunk*ChunkSize on,
	// ChunkSize of them but for the last chunk. They stay for some minutes
	// after the list was replaced, then the error is ErrGone.
	CRLChunk(ctx context.Context, body int64, chunk int) ([]byte, error)
	// TidyCRLs deletes bytes that are of no list any more, a bounded portion
	// at a time; more is set if there may be others.
	TidyCRLs(ctx context.Context) (more bool, err error)
}

// ChunkSize is how many bytes of a list a Store reads and writes at a time.
const ChunkSize = 1 << 19

// Directory knows the lists that are kept. Set Store before the first call.
type Directory struct {
	Store Store

	reading sync.Mutex
	mu      sync.RWMutex
	of      map[place]*Kept
	version int64
}

type place struct {
	issuer int64
	scope  Scope
}

// Refresh reads what was kept since the last time.
func (d *Directory) Refresh(ctx context.Context) error {
	d.reading.Lock()
	defer d.reading.Unlock()
	d.mu.RLock()
	after := d.version
	d.mu.RUnlock()
	list, err := d.Store.CRLs(ctx, after)
	if err != nil {
		return err
	}
	d.put(list)
	return nil
}

// put takes in lists of which no older one is unknown.
func (d *Directory) put(list []*Kept) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil {
		d.of = map[place]*Kept{}
	}
	for _, k := range list {
		d.of[place{k.Issuer, k.Scope}] = k
		d.version = max(d.version, k.Version)
	}
}

// Find returns the list of a CA and scope, or nil.
func (d *Directory) Find(issuer int64, s Scope) *Kept {
	if k := d.last(issuer, s); k != nil && !k.Ended() {
		return k
	}
	return nil
}

// last is Find that knows those that have ended, too.
func (d *Directory) last(issuer int64, s Scope) *Kept {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.of[place{issuer, s}]
}

// Of returns the lists of a CA: full and delta first, then by partition.
func (d *Directory) Of(issuer int64) []*Kept {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var list []*Kept
	for p, k := range d.of {
		if p.issuer == issuer && !k.Ended() {
			list = append(list, k)
		}
	}
	slices.SortFunc(list, func(a, b *Kept) int { return cmp.Compare(a.Scope.Place(), b.Scope.Place()) })
	return list
}

// Divisions are the numbers of partitions into which a CA's certificates are
// or were divided. The lists of all of them go on until they are ended, for
// certificates name them.
func (d *Directory) Divisions(issuer int64) (list []int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for p, k := range d.of {
		if n := p.scope.Partitions; p.issuer == issuer && n > 0 && !k.Ended() && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

// Overdue reports whether a list's time is nearly over: it should have been
// made anew long ago.
func (k *Kept) Overdue(now time.Time) bool {
	return k.NextUpdate.Sub(now) < k.NextUpdate.Sub(k.ThisUpdate)/4
}
