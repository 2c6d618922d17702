package rauc

import (
	"crypto/sha256"
	"hash"
)

// perBlock is how many hashes stand in a block of the tree.
const perBlock = blockSize / sha256.Size

// treeSize is how many bytes the tree over so many blocks takes: each level
// has a hash for each block of the one below, the last has one block.
func treeSize(blocks int64) (size int64) {
	for blocks > 1 {
		blocks = (blocks + perBlock - 1) / perBlock
		size += blocks * blockSize
	}
	return size
}

// tree computes the root of a dm-verity tree (hash type 1: the salt first) of
// what is written to it, and keeps one block of each level.
type tree struct {
	salt   []byte
	h      hash.Hash
	levels [][]byte // the block of each level that is not full; the first is of data
}

func newTree(salt []byte) *tree {
	return &tree{salt: salt, h: sha256.New(), levels: [][]byte{nil}}
}

func (t *tree) Write(p []byte) (int, error) {
	t.add(0, p)
	return len(p), nil
}

// add appends to a level, and hashes each block that fills up into the next.
func (t *tree) add(level int, p []byte) {
	if level == len(t.levels) {
		t.levels = append(t.levels, make([]byte, 0, blockSize))
	}
	for len(p) > 0 {
		n := min(len(p), blockSize-len(t.levels[level]))
		t.levels[level], p = append(t.levels[level], p[:n]...), p[n:]
		if len(t.levels[level]) == blockSize {
			t.close(level)
		}
	}
}

// close hashes a level's block into the next level.
func (t *tree) close(level int) {
	sum := t.hash(t.levels[level])
	t.levels[level] = t.levels[level][:0]
	t.add(level+1, sum)
}

func (t *tree) hash(block []byte) []byte {
	t.h.Reset()
	t.h.Write(t.salt)
	t.h.Write(block)
	return t.h.Sum(nil)
}

// root closes what is open, filled up with zeros, from the bottom up. The
// highest level has but one hash: the root.
func (t *tree) root() []byte {
	for level := 1; level < len(t.levels); level++ {
		open := t.levels[level]
		if level == len(t.levels)-1 && len(open) == sha256.Size {
			return open
		}
		if len(open) > 0 {
			t.add(level, make([]byte, blockSize-len(open)))
		}
	}
	return nil
}
