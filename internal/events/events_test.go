package events_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/events"
)

func TestPositions(t *testing.T) {
	for text, want := range map[string]events.Position{"0-0": {}, "4711-1": {Leaf: 4711, Place: 1}, "9223372036854775807-2147483647": {Leaf: 1<<63 - 1, Place: 1<<31 - 1}} {
		if got, err := events.ParsePosition(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "1-", "-1-1", "1-01", "01-1", "+1-1", "1-1 ", "1-1-1", "1-2147483648", "9223372036854775808-1", "1--1", "a-b"} {
		if got, err := events.ParsePosition(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func FuzzParsePosition(f *testing.F) {
	f.Add("4711-1")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := events.ParsePosition(text)
		if err == nil && (p.String() != text || p.Leaf < 0 || p.Place < 0) {
			t.Errorf("%q is taken for %v", text, p)
		}
	})
}

func TestFilters(t *testing.T) {
	for _, f := range []events.Filter{{}, {Types: []string{"device.*"}}, {Types: []string{"*"}}, {Types: []string{"evidence.added", "device.held"}}} {
		if err := f.Check(); err != nil {
			t.Errorf("%v: %v", f, err)
		}
	}
	for _, f := range []events.Filter{{Types: []string{"devices.*"}}, {Types: []string{""}}, {Types: []string{"device.held", "product.create"}}, {Types: make([]string, 33)}} {
		if f.Check() == nil {
			t.Errorf("%v is accepted", f)
		}
	}
}

// sizes is a log of which only the size is known.
type sizes struct {
	events.Source
	size, read atomic.Int64
	failing    atomic.Bool
}

func (s *sizes) LogSize(context.Context) (int64, error) {
	s.read.Add(1)
	if s.failing.Load() {
		return 0, errors.New("the database is gone")
	}
	return s.size.Load(), nil
}

// TestFeed waits for what this process and others add.
func TestFeed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	src := new(sizes)
	src.size.Store(5)
	f := events.NewFeed(src)
	ticks := make(chan time.Time)
	ended := make(chan struct{})
	go func() { f.Watch(ctx, ticks); close(ended) }()
	tick := func() { ticks <- time.Time{}; ticks <- time.Time{} } // the second is taken when the first is done
	tick()
	if src.read.Load() != 0 {
		t.Error("the database is asked although nobody waits")
	}
	f.Grew(3)
	if err := f.Wait(ctx, events.Position{Leaf: 2}); err != nil {
		t.Error(err)
	}
	woken := make(chan error)
	wait := func(leaf int64) { go func() { woken <- f.Wait(ctx, events.Position{Leaf: leaf}) }() }
	wait(3)
	f.Grew(2) // says nothing new
	f.Grew(4)
	if err := <-woken; err != nil {
		t.Error(err)
	}
	src.failing.Store(true)
	wait(4)
	for src.read.Load() == 0 {
		tick()
	}
	src.failing.Store(false) // another server's leaf
	for {
		select {
		case ticks <- time.Time{}:
			continue
		case err := <-woken:
			if err != nil {
				t.Error(err)
			}
		}
		break
	}
	wait(5)
	cancel()
	if err := <-woken; !errors.Is(err, context.Canceled) {
		t.Errorf("the end of waiting is %v", err)
	}
	<-ended
}
