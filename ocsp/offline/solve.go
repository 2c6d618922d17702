package offline

import (
	"errors"
	"math/bits"
	"slices"
)

// perShard is how many keys a shard has, about. The more there are, the more
// slots are needed for each to solve a shard; the fewer, the more is lost in
// rounding to words.
const perShard = 4096

// tries is how many seeds are tried for a number of slots before one more word
// is taken.
const tries = 32

// entry is a key and the bits that a table shall hold for it.
type entry struct {
	key
	value uint64
}

// solved is a shard's table.
type solved struct {
	words uint16
	seed  uint8
	bits  []uint64 // column by column
}

// errContradiction cannot come by chance: it takes two different bits for one
// key.
var errContradiction = errors.New("a serial number was given as good and as not good")

// solve finds a table for a shard's keys in as few slots as it can.
func solve(entries []entry, t *table) (solved, error) {
	if len(entries) == 0 {
		return solved{}, nil
	}
	least := (len(entries) + 63) / 64
	for words := least; words <= 2*least+8 && words < 1<<16; words++ {
		for try := range tries {
			s := newSystem(words)
			if s.add(entries, t.seed(uint8(try))) {
				return solved{uint16(words), uint8(try), s.columns(t.columns)}, nil
			}
		}
	}
	return solved{}, errContradiction
}

// system is a set of linear equations in echelon form: row i, if it is not 0,
// begins at slot i.
type system struct {
	words  int
	rows   []uint64
	values []uint64
}

func newSystem(words int) *system {
	return &system{words, make([]uint64, 64*words), make([]uint64, 64*words)}
}

// add takes in the equations of all keys, and reports false if they
// contradict each other.
func (s *system) add(entries []entry, seed uint64) bool {
	for _, e := range entries {
		start, row := e.equation(seed, uint16(s.words))
		if !s.insert(int(start), row, e.value) {
			return false
		}
	}
	return true
}

func (s *system) insert(at int, row, value uint64) bool {
	for s.rows[at] != 0 {
		row ^= s.rows[at]
		value ^= s.values[at]
		if row == 0 {
			return value == 0
		}
		zeros := bits.TrailingZeros64(row)
		at, row = at+zeros, row>>zeros
	}
	s.rows[at], s.values[at] = row, value
	return true
}

// columns solves the system from its end. Slots that nothing determines are 0.
func (s *system) columns(n int) []uint64 {
	out := make([]uint64, n*s.words)
	for c := range n {
		column := out[c*s.words:][:s.words]
		var window uint64 // the slots from i on
		for i := len(s.rows) - 1; i >= 0; i-- {
			window <<= 1
			if s.rows[i] != 0 {
				window |= s.values[i]>>c&1 ^ uint64(bits.OnesCount64(window&s.rows[i])&1)
			}
			column[i/64] |= window & 1 << (i % 64)
		}
	}
	return out
}

// tableFor makes a table for keys that are in order.
func tableFor(number uint64, columns int, entries []entry) ([]solved, error) {
	t := &table{number: number, columns: columns}
	if columns == 0 || len(entries) == 0 {
		return nil, nil
	}
	shards := uint32((len(entries) + perShard/2) / perShard)
	shards = max(shards, 1)
	out := make([]solved, shards)
	for i := range shards {
		end, _ := slices.BinarySearchFunc(entries, i+1, func(e entry, n uint32) int { return int(e.in(shards)) - int(n) })
		var err error
		if out[i], err = solve(entries[:end], t); err != nil {
			return nil, err
		}
		entries = entries[end:]
	}
	return out, nil
}
