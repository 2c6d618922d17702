package ocsp

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// FollowEvery is how often a Follower looks for changes if nobody wakes it.
const FollowEvery = 300 * time.Millisecond

// Follower feeds the changes of a Source to its sinks. Set the fields before
// the first call.
type Follower struct {
	Source Source
	Sinks  []Sink
	Log    *slog.Logger
	Now    func() time.Time

	mu     sync.Mutex // held while changes are read
	last   atomic.Int64
	known  atomic.Pointer[time.Time]
	forgot time.Time
	failed bool // the last attempt did, and was logged
}

// Load reads all changes there are. Before it has succeeded once, the sinks
// know nothing; if it fails, it may be called again and goes on where it was.
func (f *Follower) Load(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	begin := f.Now() // what is committed after this may be missed
	_, err := f.Source.Changes(ctx, f.last.Load(), func(changes []Change) error {
		for _, s := range f.Sinks {
			s.Apply(changes)
		}
		f.last.Store(changes[len(changes)-1].Seq)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what became of certificates, after change %d: %w", f.last.Load(), err)
	}
	f.known.Store(&begin)
	if begin.Sub(f.forgot).Abs() >= forgetEvery {
		f.forgot = begin
		f.forget(begin.Add(-Retention))
	}
	return nil
}

// forgetEvery is how often certificates are forgotten that ended long ago.
const forgetEvery = 24 * time.Hour

func (f *Follower) forget(before time.Time) {
	for _, s := range f.Sinks {
		if s, ok := s.(Forgetter); ok {
			s.Forget(before)
		}
	}
}

// Run reads changes at once and at each tick until ctx ends. An attempt that fails is
// logged, the first of several in a row as an error, and made again at the
// next tick.
func (f *Follower) Run(ctx context.Context, ticks <-chan time.Time, wake <-chan struct{}) {
	for {
		f.attempt(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		case <-wake:
		}
	}
}

func (f *Follower) attempt(ctx context.Context) {
	err := f.Load(ctx)
	switch {
	case err == nil && f.failed:
		f.Log.InfoContext(ctx, "what became of certificates can be read again", "change", f.last.Load())
	case err != nil && ctx.Err() == nil && !f.failed:
		f.Log.ErrorContext(ctx, "answers about certificates grow old; it is tried again", "error", err)
	}
	f.failed = err != nil
}

// Known is the time of which the sinks know all changes; ok is false as long
// as nothing was loaded.
func (f *Follower) Known() (at time.Time, ok bool) {
	if t := f.known.Load(); t != nil {
		return *t, true
	}
	return time.Time{}, false
}

// Last is the Seq of the newest change that the sinks know.
func (f *Follower) Last() int64 { return f.last.Load() }
