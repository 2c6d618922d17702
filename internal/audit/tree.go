package audit

import (
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Tree is the part of a log's Merkle tree (RFC 6962 §2.1) that appending
// needs: its size and its frontier, the roots of the complete subtrees that
// make it up, largest first. It is a plain value; copy it to try something.
type Tree struct {
	size     int64
	frontier []tlog.Hash
}

// Size is the number of leaves.
func (t *Tree) Size() int64 { return t.size }

// Append adds a leaf and returns its index.
func (t *Tree) Append(leaf []byte) int64 {
	t.appendSubtree(0, tlog.RecordHash(leaf))
	return t.size - 1
}

// Root is the tree's root hash.
func (t *Tree) Root() tlog.Hash {
	if t.size == 0 {
		h, _ := tlog.TreeHash(0, nil)
		return h
	}
	h := t.frontier[len(t.frontier)-1]
	for i := len(t.frontier) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.frontier[i], h)
	}
	return h
}

// Frontier gives the frontier as bytes, for [OpenTree].
func (t *Tree) Frontier() []byte {
	b := make([]byte, 0, len(t.frontier)*tlog.HashSize)
	for _, h := range t.frontier {
		b = append(b, h[:]...)
	}
	return b
}

// OpenTree restores a tree from its size and frontier.
func OpenTree(size int64, frontier []byte) (*Tree, error) {
	if size < 0 || len(frontier) != bits.OnesCount64(uint64(size))*tlog.HashSize {
		return nil, fmt.Errorf("a log of %d leaves cannot have a frontier of %d bytes: the log's head is damaged", size, len(frontier))
	}
	t := &Tree{size: size}
	for len(frontier) > 0 {
		t.frontier = append(t.frontier, tlog.Hash(frontier[:tlog.HashSize]))
		frontier = frontier[tlog.HashSize:]
	}
	return t, nil
}

// appendSubtree adds the root of a complete subtree of 1<<level leaves. The
// tree's size must be a multiple of that.
func (t *Tree) appendSubtree(level int, h tlog.Hash) {
	f := append([]tlog.Hash(nil), t.frontier...) // earlier copies keep theirs
	for n := t.size >> level; n&1 == 1; n >>= 1 {
		h = tlog.NodeHash(f[len(f)-1], h)
		f = f[:len(f)-1]
	}
	t.frontier = append(f, h)
	t.size += 1 << level
}

// highBit is the greatest power of 2 that is not greater than n, which is
// greater than 0.
func highBit(n int64) int64 { return 1 << (bits.Len64(uint64(n)) - 1) }
