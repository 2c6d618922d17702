package main

import (
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"
)

// growing is a new file that is read while it is written, from one end to the
// other: what was written is verified at once, from the file, and takes hardly
// longer than the writing. It has a name of its own until somebody renames it.
type growing struct {
	file  *os.File
	mu    sync.Mutex
	grown *sync.Cond
	size  int64
	ended error // io.EOF when it is whole, another error when it never will be
}

// newGrowing makes the file beside path.
func newGrowing(path string) (*growing, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".unverified-*")
	if err != nil {
		return nil, err
	}
	g := &growing{file: f}
	g.grown = sync.NewCond(&g.mu)
	if err := f.Chmod(0o644); err != nil {
		g.remove()
		return nil, err
	}
	return g, nil
}

// Name is the name that it has of its own.
func (g *growing) Name() string { return g.file.Name() }

// remove removes the file, unless it was renamed.
func (g *growing) remove() {
	_ = g.file.Close()
	_ = os.Remove(g.Name())
}

func (g *growing) Write(p []byte) (int, error) {
	n, err := g.file.Write(p)
	g.mu.Lock()
	g.size += int64(n)
	g.mu.Unlock()
	g.grown.Broadcast()
	return n, err
}

// end says that nothing more is written: readers get to the end, or get err.
func (g *growing) end(err error) {
	g.mu.Lock()
	g.ended = err
	if err == nil {
		g.ended = io.EOF
	}
	g.mu.Unlock()
	g.grown.Broadcast()
}

// wait waits until the file has so many bytes, or nothing more is written, and
// returns how many it has.
func (g *growing) wait(size int64) (int64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.size < size && g.ended == nil {
		g.grown.Wait()
	}
	if g.ended != nil && !errors.Is(g.ended, io.EOF) {
		return g.size, g.ended
	}
	return g.size, nil
}

// ReadAt waits for the bytes.
func (g *growing) ReadAt(p []byte, off int64) (int, error) {
	if _, err := g.wait(off + int64(len(p))); err != nil {
		return 0, err
	}
	return g.file.ReadAt(p, off)
}

// Size waits for the end.
func (g *growing) Size() int64 {
	size, _ := g.wait(math.MaxInt64)
	return size
}
