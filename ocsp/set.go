package ocsp

import (
	"encoding/binary"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Set holds which certificates do not count, and since when: about 24 bytes
// for each of them, whatever was issued besides. Reads take no lock. The zero
// value is empty and ready.
//
// It is a hash table in shards, one for each first byte of a serial number, so
// that the next 8 bytes, which are random, identify it; 13 bits of its
// authenticator are kept besides, in case two CAs drew the same random part. A
// shard grows by a quarter at a time. Its keys come from crypto/rand by way of
// the database, so nobody can choose them to collide.
type Set struct {
	writing sync.Mutex
	shards  [128]shard
	revoked atomic.Int64
	bytes   atomic.Int64
	garbage int64 // of outgrown tables, since the last collection
}

// Revocation is what a Set knows of a certificate that does not count.
type Revocation struct {
	Reason Reason
	At     time.Time // in whole seconds
}

// Lookup tells of a certificate that does not count; ok is false for all
// others, also for those that were never issued.
func (s *Set) Lookup(serial Serial) (r Revocation, ok bool) {
	st := s.state(serial)
	return st.revocation(), st != good
}

// Len is how many certificates do not count.
func (s *Set) Len() int { return int(s.revoked.Load()) }

// Bytes is the memory that the set takes.
func (s *Set) Bytes() int { return int(s.bytes.Load()) }

// Forget drops the certificates that had ended before a time; some that ended
// in the weeks before it may stay. It implements Forgetter.
func (s *Set) Forget(before time.Time) {
	for i := range s.shards { // each by itself, so that changes need not wait for all
		s.forget(&s.shards[i], before)
	}
}

func (s *Set) forget(sh *shard, before time.Time) {
	s.writing.Lock()
	defer s.writing.Unlock()
	t := sh.table.Load()
	if t == nil {
		return
	}
	for i := range *t {
		if st := state((*t)[i].state.Load()); st != good && st.ended(before) {
			s.rebuild(sh, before)
			return
		}
	}
}

// Apply takes changes over. It implements Sink.
func (s *Set) Apply(changes []Change) {
	s.writing.Lock()
	defer s.writing.Unlock()
	for i := range changes {
		s.put(&changes[i])
	}
}

// state is what a slot holds besides the key: from the top a bit that is set,
// 4 bits of reason, 13 of the serial's authenticator, 11 of the time when the
// certificate ends, in units of 49 days, 35 of the seconds since 1970 when it
// was revoked. It changes whenever an answer would.
type state uint64

// good is the state of what is not in the set, or is no longer.
const good state = 0

const (
	secondsBits = 35
	endBits     = 11
	tagBits     = 13
	tagShift    = secondsBits + endBits
	tagMask     = (1<<tagBits - 1) << tagShift
	reasonShift = tagShift + tagBits

	endUnit = 1 << 22        // seconds
	noEnd   = 1<<endBits - 1 // or one that is too late to tell, after 2240
)

func newState(c *Change) state {
	at := min(max(c.Revoked.Unix(), 0), 1<<secondsBits-1)
	end := min(max(c.NotAfter.Unix(), 0)/endUnit+1, noEnd) // it ends before that
	return 1<<63 | state(c.Reason&15)<<reasonShift | tagOf(&c.Serial) | state(end)<<secondsBits | state(at)
}

func tagOf(s *Serial) state {
	return state(binary.BigEndian.Uint16(s[9:11])) << tagShift & tagMask
}

// ended reports whether the certificate had ended before a time for sure.
func (st state) ended(before time.Time) bool {
	end := int64(st >> secondsBits & noEnd)
	return end != noEnd && end*endUnit <= before.Unix()
}

func (st state) reason() Reason { return Reason(st >> reasonShift & 15) }

func (st state) revocation() Revocation {
	return Revocation{Reason: st.reason(), At: time.Unix(int64(st&(1<<secondsBits-1)), 0).UTC()}
}

// shard is one part of the set. Readers see either its table or the one that
// replaces it; slots are filled in place, the key before the state.
type shard struct {
	table atomic.Pointer[[]slot]
	used  int // slots, also of certificates that count again
}

type slot struct{ key, state atomic.Uint64 }

const slotBytes = 16

func (s *Set) state(serial Serial) state {
	t := s.shards[serial[0]&0x7f].table.Load()
	if t == nil {
		return good
	}
	if at := find(*t, keyOf(&serial), tagOf(&serial)); at != nil {
		if st := state(at.state.Load()); st.reason() != RemoveFromCRL {
			return st
		}
	}
	return good
}

func keyOf(s *Serial) uint64 { return binary.BigEndian.Uint64(s[1:9]) }

// find gives the slot of a key, nil if there is none. A table always has
// empty slots, which end the search.
func find(t []slot, key uint64, tag state) *slot {
	for i := home(t, key); ; i = next(t, i) {
		st := state(t[i].state.Load())
		if st == good || t[i].key.Load() == key && st&tagMask == tag {
			if st == good {
				return nil
			}
			return &t[i]
		}
	}
}

// home is where the search for a key begins.
func home(t []slot, key uint64) int {
	hi, _ := bits.Mul64(key*0x9e3779b97f4a7c15, uint64(len(t)))
	return int(hi)
}

func next(t []slot, i int) int {
	if i++; i < len(t) {
		return i
	}
	return 0
}

func (s *Set) put(c *Change) {
	sh := &s.shards[c.Serial[0]&0x7f]
	t, st := sh.table.Load(), newState(c)
	if t != nil {
		if at := find(*t, keyOf(&c.Serial), tagOf(&c.Serial)); at != nil {
			s.revoked.Add(counts(st) - counts(state(at.state.Load())))
			at.state.Store(uint64(st))
			return
		}
	}
	if st.reason() == RemoveFromCRL {
		return // it was not there
	}
	if t == nil || (sh.used+1)*100 > len(*t)*fullPercent {
		t = s.rebuild(sh, time.Time{})
	}
	insert(*t, keyOf(&c.Serial), st)
	sh.used++
	s.revoked.Add(1)
}

// counts is 1 for a certificate that does not count.
func counts(st state) int64 {
	if st.reason() == RemoveFromCRL {
		return 0
	}
	return 1
}

func insert(t []slot, key uint64, st state) {
	i := home(t, key)
	for t[i].state.Load() != 0 {
		i = next(t, i)
	}
	t[i].key.Store(key)
	t[i].state.Store(uint64(st)) // now it is seen
}

// How full a shard's table may get, and how full it is made anew.
const (
	fullPercent  = 85
	grownPercent = 68
)

// rebuild gives a shard a table with room for a quarter more, without what
// counts again or had ended before a time.
func (s *Set) rebuild(sh *shard, before time.Time) *[]slot {
	var old []slot
	if t := sh.table.Load(); t != nil {
		old = *t
	}
	live, ended := 0, 0
	for i := range old {
		switch st := state(old[i].state.Load()); {
		case st == good || st.reason() == RemoveFromCRL:
		case st.ended(before):
			ended++
		default:
			live++
		}
	}
	fresh := make([]slot, max(8, (live+1)*100/grownPercent))
	for i := range old {
		if st := state(old[i].state.Load()); st != good && st.reason() != RemoveFromCRL && !st.ended(before) {
			insert(fresh, old[i].key.Load(), st)
		}
	}
	s.revoked.Add(-int64(ended))
	sh.used = live
	sh.table.Store(&fresh)
	s.bytes.Add(slotBytes * int64(len(fresh)-len(old)))
	s.discard(slotBytes * int64(len(old)))
	return &fresh
}

// discard notes memory that is no longer needed. While millions are loaded
// that is several times what stays; left to itself the collector would let it
// grow to twice the set.
func (s *Set) discard(n int64) {
	if s.garbage += n; s.garbage > max(16<<20, s.bytes.Load()/4) {
		s.garbage = 0
		runtime.GC()
	}
}
