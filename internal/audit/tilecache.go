package audit

import (
	"container/list"
	"context"
	"fmt"
	"math"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// Tiles are 256 hashes wide and stand for subtrees of height 8, as C2SP
// tlog-tiles has it.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// LeafReader reads a log's leaves, as [Source.Leaves] does. Leaves that were
// read once never change; it is used by several goroutines at once.
type LeafReader interface {
	Leaves(ctx context.Context, from, to int64, fn func(index int64, body []byte) error) error
}

// Tiles computes the log's tiles from its leaves, and proofs from tiles.
//
// Nothing but leaves is kept in the database. A hash in a tile never changes
// once it exists, so what was computed stays in memory, and a growing tile is
// only ever extended. The first proof of a process over a log of n leaves
// reads all of them once; after that a proof costs at most 256 leaves and
// what was appended meanwhile.
type Tiles struct {
	src  LeafReader
	busy chan struct{} // bounds how many read leaves at a time

	mu sync.Mutex
	// A tile above level 0 costs at least 65,536 leaves, one of level 0
	// costs 256: they do not compete for room.
	low, high *shelf
}

const (
	lowTiles    = 256     // 2 MiB
	highTiles   = 4 << 10 // 32 MiB, enough for 268 million leaves
	readersBusy = 4
)

// NewTiles makes the tiles of a log.
func NewTiles(src LeafReader) *Tiles {
	return &Tiles{
		src:  src,
		busy: make(chan struct{}, readersBusy),
		low:  newShelf(lowTiles),
		high: newShelf(highTiles),
	}
}

// Tile returns the first width hashes of the n-th tile of a level, 32 bytes
// each, which the caller must not change. The leaves below them must exist.
func (t *Tiles) Tile(ctx context.Context, level int, n int64, width int) ([]byte, error) {
	if !tileWithin(level, n, width, math.MaxInt64) {
		return nil, fmt.Errorf("there is no tile %d/%d of width %d", level, n, width)
	}
	e := t.entry(level, n)
	if err := e.lock(ctx); err != nil {
		return nil, err
	}
	defer e.unlock()
	if have := len(e.hashes) / tlog.HashSize; have < width {
		if err := t.extend(ctx, e, level, n*tileWidth+int64(have), n*tileWidth+int64(width)); err != nil {
			return nil, err
		}
	}
	return e.hashes[: width*tlog.HashSize : width*tlog.HashSize], nil
}

// tileWithin reports whether a log of that size has the tile.
func tileWithin(level int, n int64, width int, size int64) bool {
	if level < 0 || level >= 64/tileHeight || n < 0 || width < 1 || width > tileWidth {
		return false
	}
	hashes := size >> (tileHeight * level)
	return n <= hashes/tileWidth && n*tileWidth <= hashes-int64(width)
}

// extend appends the hashes from, up to not including to, of a level. What
// was done before an error stays done.
func (t *Tiles) extend(ctx context.Context, e *tileEntry, level int, from, to int64) error {
	switch level {
	case 0:
		return t.read(ctx, from, to, func(h tlog.Hash) { e.add(h) })
	case 1:
		// Straight from the leaves: 65,536 hashes pass through here, and
		// nobody is likely to want these 256 tiles next.
		group := make([]byte, 0, tileWidth*tlog.HashSize)
		return t.read(ctx, from*tileWidth, to*tileWidth, func(h tlog.Hash) {
			if group = append(group, h[:]...); len(group) == cap(group) {
				e.add(subtreeRoot(group))
				group = group[:0]
			}
		})
	}
	for i := from; i < to; i++ {
		child, err := t.Tile(ctx, level-1, i, tileWidth)
		if err != nil {
			return err
		}
		e.add(subtreeRoot(child))
	}
	return nil
}

// read passes on the hashes of a run of leaves, of which none may be missing.
func (t *Tiles) read(ctx context.Context, from, to int64, add func(tlog.Hash)) error {
	select {
	case t.busy <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.busy }()
	return eachLeaf(ctx, t.src, from, to, func(body []byte) error {
		add(tlog.RecordHash(body))
		return nil
	})
}

// eachLeaf reads a run of leaves and fails if one is missing.
func eachLeaf(ctx context.Context, src LeafReader, from, to int64, fn func(body []byte) error) error {
	next := from
	err := src.Leaves(ctx, from, to, func(index int64, body []byte) error {
		if index != next {
			return missingLeaf(next)
		}
		next++
		return fn(body)
	})
	if err == nil && next != to {
		return missingLeaf(next)
	}
	return err
}

func missingLeaf(index int64) error {
	return fmt.Errorf("leaf %d is missing from the log: run \"touchmark audit verify\"", index)
}

// subtreeRoot is the root over a run of hashes whose number is a power of 2.
func subtreeRoot(hashes []byte) tlog.Hash {
	if len(hashes) == tlog.HashSize {
		return tlog.Hash(hashes)
	}
	half := len(hashes) / 2
	return tlog.NodeHash(subtreeRoot(hashes[:half]), subtreeRoot(hashes[half:]))
}

func (t *Tiles) entry(level int, n int64) *tileEntry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if level == 0 {
		return t.low.get(tileKey{level, n})
	}
	return t.high.get(tileKey{level, n})
}

type tileKey struct {
	level int
	n     int64
}

// tileEntry is the known beginning of one tile. Locks are taken from higher
// levels to lower ones.
type tileEntry struct {
	key    tileKey
	sem    chan struct{} // a mutex that can be waited for with a context
	hashes []byte        // only ever appended to
}

func (e *tileEntry) add(h tlog.Hash) { e.hashes = append(e.hashes, h[:]...) }

func (e *tileEntry) lock(ctx context.Context) error {
	select {
	case e.sem <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *tileEntry) unlock() { <-e.sem }

// shelf holds the most recently used tiles. An entry that falls off while it
// is in use stays good for whoever holds it.
type shelf struct {
	most int
	used *list.List // of *tileEntry, latest first
	at   map[tileKey]*list.Element
}

func newShelf(most int) *shelf {
	return &shelf{most, list.New(), make(map[tileKey]*list.Element)}
}

func (s *shelf) get(k tileKey) *tileEntry {
	if el, ok := s.at[k]; ok {
		s.used.MoveToFront(el)
		return el.Value.(*tileEntry)
	}
	e := &tileEntry{key: k, sem: make(chan struct{}, 1)}
	s.at[k] = s.used.PushFront(e)
	if s.used.Len() > s.most {
		last := s.used.Back()
		s.used.Remove(last)
		delete(s.at, last.Value.(*tileEntry).key)
	}
	return e
}
