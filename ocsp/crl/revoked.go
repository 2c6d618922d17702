package crl

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/touchmark/touchmark/ocsp"
)

// shards is into how many pieces what one CA revoked is divided in memory: so
// many that finding and inserting touches little, also with ten million
// certificates. Each lies within one partition, whatever the number of those.
const shards = 1 << 14

// entry is one certificate that does not count, in 26 bytes. Times are in
// seconds since 1970.
type entry struct {
	serial            ocsp.Serial
	reason            ocsp.Reason
	revoked, notAfter [4]byte
}

// forever is the end of a certificate that ends later than the four bytes can
// tell. No time is after it, so such an entry stays.
const forever = math.MaxUint32

func newEntry(c *ocsp.Change) entry {
	e := entry{serial: c.Serial, reason: c.Reason}
	binary.BigEndian.PutUint32(e.revoked[:], seconds(c.Revoked))
	binary.BigEndian.PutUint32(e.notAfter[:], seconds(c.NotAfter))
	return e
}

func seconds(t time.Time) uint32 { return uint32(min(max(t.Unix(), 0), forever)) }

// ended reports whether the certificate had ended before a time.
func (e *entry) ended(before uint32) bool {
	return binary.BigEndian.Uint32(e.notAfter[:]) < before
}

// Revoked holds what the lists of all CAs say, as far as it was told: 26
// bytes for each certificate, and about a tenth of that for room to grow.
// It is an [ocsp.Sink]. Its methods may be used concurrently; none keeps the
// others waiting while a list is made.
type Revoked struct {
	mu  sync.Mutex
	of  map[int64]*[shards]piece
	seq int64
}

// piece is the entries of one shard, sorted by serial number.
type piece struct {
	entries []entry
	shared  bool  // with a snapshot: a change copies first
	seq     int64 // of the newest change
}

var _ ocsp.Sink = (*Revoked)(nil)

// Apply takes in what became of certificates.
func (r *Revoked) Apply(changes []ocsp.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[int64]*[shards]piece{}
	}
	for i := range changes {
		c := &changes[i]
		r.seq = c.Seq
		if c.Serial[0] == 0 || c.Serial[0] > 0x7f {
			continue // none that was issued; on a list it would be no DER
		}
		of := r.of[c.Issuer]
		if of == nil {
			of = new([shards]piece)
			r.of[c.Issuer] = of
		}
		of[shard(c.Serial)].apply(c)
	}
}

func (p *piece) apply(c *ocsp.Change) {
	p.seq = c.Seq
	at, found := slices.BinarySearchFunc(p.entries, c.Serial, func(e entry, s ocsp.Serial) int { return bytes.Compare(e.serial[:], s[:]) })
	if !found && c.Reason == ocsp.RemoveFromCRL {
		return
	}
	if p.shared || len(p.entries) == cap(p.entries) {
		// append would take twice the room.
		p.entries, p.shared = append(make([]entry, 0, len(p.entries)+len(p.entries)/8+1), p.entries...), false
	}
	switch {
	case c.Reason == ocsp.RemoveFromCRL:
		p.entries = slices.Delete(p.entries, at, at+1)
	case found:
		p.entries[at] = newEntry(c)
	default:
		p.entries = slices.Insert(p.entries, at, newEntry(c))
	}
}

// Seq is the newest change that was told.
func (r *Revoked) Seq() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seq
}

// changed gives the newest change in each of n partitions of a CA's
// certificates.
func (r *Revoked) changed(issuer int64, n int) []int64 {
	out := make([]int64, n)
	r.mu.Lock()
	defer r.mu.Unlock()
	if of := r.of[issuer]; of != nil {
		for i := range of {
			out[i%n] = max(out[i%n], of[i].seq)
		}
	}
	return out
}

// Forget drops the certificates of a CA that had ended before a time.
func (r *Revoked) Forget(issuer int64, before time.Time) {
	for i := range shards { // a piece at a time: nobody waits for all of them
		r.forget(issuer, i, seconds(before))
	}
}

func (r *Revoked) forget(issuer int64, at int, before uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[issuer] == nil {
		return
	}
	p := &r.of[issuer][at]
	ended := func(e entry) bool { return e.ended(before) }
	if slices.ContainsFunc(p.entries, ended) {
		p.entries, p.shared = slices.DeleteFunc(slices.Clone(p.entries), ended), false
	}
}

// snapshot is what a list says at one moment.
type snapshot struct {
	pieces [][]entry
	seq    int64
	since  uint32
}

// snapshot takes the certificates of a scope that had not ended before since.
// It costs as much as there are pieces, not entries.
func (r *Revoked) snapshot(issuer int64, s Scope, since time.Time) *snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &snapshot{seq: r.seq, since: seconds(since)}
	of, step := r.of[issuer], max(s.Partitions, 1)
	if of == nil {
		return out
	}
	for i := s.Partition; i < shards; i += step {
		if p := &of[i]; len(p.entries) > 0 {
			p.shared = true
			out.pieces = append(out.pieces, p.entries)
		}
	}
	return out
}

func (s *snapshot) entries() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, p := range s.pieces {
			for i := range p {
				if e := &p[i]; !e.ended(s.since) && !yield(e) {
					return
				}
			}
		}
	}
}
