package events

import (
	"context"
	"sync"
	"time"
)

// Source reads events.
type Source interface {
	// Events reads on after a position: at most limit events that the filter
	// wants, from a bounded number of leaves, so that a page may be empty
	// although there is more. A position beyond the log's end is a
	// *vetting.Error, a Conflict.
	Events(ctx context.Context, after Position, f Filter, limit int) (Page, error)
	// LogSize is how many leaves the log has. The events of all of them can
	// be read. It costs one row of one table.
	LogSize(ctx context.Context) (int64, error)
}

// Feed is a source of events that can be waited on.
type Feed struct {
	Source

	mu      sync.Mutex
	size    int64
	grown   chan struct{} // closed when size grows; nil if nobody waits
	waiting int
}

// NewFeed makes a feed, which [Feed.Watch] has to keep going.
func NewFeed(s Source) *Feed { return &Feed{Source: s} }

// Grew tells of leaves that this process committed. It never waits.
func (f *Feed) Grew(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size <= f.size {
		return
	}
	f.size = size
	if f.grown != nil {
		close(f.grown)
		f.grown = nil
	}
}

// Wait returns when there are events after a page that ended at the head, or
// ctx ends.
func (f *Feed) Wait(ctx context.Context, head Position) error {
	f.mu.Lock()
	if f.size > head.Leaf {
		f.mu.Unlock()
		return ctx.Err()
	}
	if f.grown == nil {
		f.grown = make(chan struct{})
	}
	grown := f.grown
	f.waiting++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.waiting--
		f.mu.Unlock()
	}()
	select {
	case <-grown:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Watch looks at every tick whether other servers made the log grow, as long
// as somebody waits for that. It returns when ctx ends. A look that fails is
// taken again at the next tick.
func (f *Feed) Watch(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			f.look(ctx)
		}
	}
}

func (f *Feed) look(ctx context.Context) {
	f.mu.Lock()
	idle := f.waiting == 0
	f.mu.Unlock()
	if idle {
		return
	}
	// Whoever waits reads for itself next, and meets the same error.
	if size, err := f.LogSize(ctx); err == nil {
		f.Grew(size)
	}
}
