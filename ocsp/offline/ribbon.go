package offline

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// A stage is a table from which a few bits can be read for any key, and the
// right ones for the keys that it was made for: a ribbon retrieval (Dillinger
// and Walzer, "Ribbon filter: practically smaller than Bloom and Xor", 2021)
// of width 64. The bits of a key are the sum, over the field of two elements,
// of those of 64 neighbouring slots that the key's row of coefficients picks.
//
// A stage is divided into shards that are solved one by one. The bits of a
// shard stand in columns, one for each bit of the answer, of whole words.

// key is what a serial number becomes: 128 bits that tell it from every other.
type key struct{ a, b uint64 }

// saltSize is the length of what makes the keys of one file differ from those
// of every other.
const saltSize = 16

// keyOf hashes a serial number: its bytes, the most significant first, without
// leading zeros.
func keyOf(salt [saltSize]byte, serial []byte) key {
	var room [64]byte
	sum := sha256.Sum256(append(append(room[:0], salt[:]...), serial...))
	return key{binary.LittleEndian.Uint64(sum[:8]), binary.LittleEndian.Uint64(sum[8:16])}
}

// print is a key's fingerprint; a filter keeps some of its low bits.
func (k key) print() uint64 { return mix(k.a ^ bits.RotateLeft64(k.b, 32)) }

// in is the shard of a key: n of them divide the range of a evenly, in order.
func (k key) in(n uint32) uint32 {
	hi, _ := bits.Mul64(k.a, uint64(n))
	return uint32(hi)
}

// equation is where the slots of a key begin, and which of the 64 count; the
// first always does.
func (k key) equation(seed uint64, words uint16) (start uint32, row uint64) {
	hi, _ := bits.Mul64(mix(k.b+seed*golden), uint64(words)*64-63)
	return uint32(hi), mix(k.a+seed*golden) | 1
}

const golden = 0x9e3779b97f4a7c15 // 2⁶⁴ divided by the golden ratio

// mix is the finalizer of splitmix64: each bit of the result depends on all
// bits of x.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// table is a stage as it stands in a file. The zero value holds nothing.
type table struct {
	number  uint64 // 1 or 2: the stages' equations differ
	columns int
	shards  []shard
	bits    []byte
}

// shard is where a part of a table stands.
type shard struct {
	offset int // in the table's bits, in bytes
	words  uint16
	seed   uint8
}

func (t *table) seed(try uint8) uint64 { return t.number<<8 | uint64(try) }

// holds reports whether the table's bits for the key are the low bits of
// want. For a key that the table was not made for, each bit is so by chance.
func (t *table) holds(k key, want uint64) bool {
	if len(t.shards) == 0 {
		return false
	}
	s := &t.shards[k.in(uint32(len(t.shards)))]
	if s.words == 0 {
		return false
	}
	start, row := k.equation(t.seed(s.seed), s.words)
	column := t.bits[s.offset:]
	for range t.columns {
		if uint64(bits.OnesCount64(window(column, start)&row)&1) != want&1 {
			return false
		}
		column, want = column[8*int(s.words):], want>>1
	}
	return true
}

// window is the 64 bits of a column from a slot on.
func window(column []byte, start uint32) uint64 {
	at, shift := 8*(start/64), start%64
	w := binary.LittleEndian.Uint64(column[at:]) >> shift
	if shift != 0 {
		w |= binary.LittleEndian.Uint64(column[at+8:]) << (64 - shift)
	}
	return w
}
