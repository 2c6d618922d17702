package ocsp_test

import (
	"context"
	"errors"
	"log/slog"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp"
)

// memorySource is a Source in memory, which hands over two changes at a time.
type memorySource struct {
	mu      sync.Mutex
	changes []ocsp.Change
	broken  error // after the first portion
}

func (m *memorySource) add(c ...ocsp.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range c {
		c.Seq = int64(3 * (len(m.changes) + 1))
		m.changes = append(m.changes, c)
	}
}

func (m *memorySource) Changes(_ context.Context, after int64, each func([]ocsp.Change) error) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for portion := range slices.Chunk(m.changes, 2) {
		portion = slices.DeleteFunc(slices.Clone(portion), func(c ocsp.Change) bool { return c.Seq <= after })
		if len(portion) == 0 {
			continue
		}
		if err := each(portion); err != nil {
			return after, err
		}
		after = portion[len(portion)-1].Seq
		if m.broken != nil {
			return after, m.broken
		}
	}
	return after, nil
}

// seen is a Sink that remembers.
type seen []int64

func (s *seen) Apply(changes []ocsp.Change) {
	for _, c := range changes {
		*s = append(*s, c.Seq)
	}
}

func TestFollowerHandsOverEachChangeOnce(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	source := &memorySource{}
	var first, second seen
	f := &ocsp.Follower{Source: source, Sinks: []ocsp.Sink{&first, &second}, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }}
	if _, ok := f.Known(); ok {
		t.Error("known before anything was loaded")
	}
	source.add(make([]ocsp.Change, 5)...)
	source.broken = errors.New("connection lost")
	if err := f.Load(t.Context()); !errors.Is(err, source.broken) {
		t.Fatalf("error %v, want %v", err, source.broken)
	}
	if _, ok := f.Known(); ok {
		t.Error("known after half of it was loaded")
	}
	source.broken = nil
	for range 3 {
		if err := f.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if at, ok := f.Known(); !ok || !at.Equal(now) {
		t.Errorf("known of %v, %v; want %v", at, ok, now)
	}
	want := seen{3, 6, 9, 12, 15}
	if !slices.Equal(first, want) || !slices.Equal(second, want) || f.Last() != 15 {
		t.Errorf("sinks saw %v and %v, last is %d; want %v each, and 15", first, second, f.Last(), want)
	}
}

func TestFollowerGoesOnWhenItIsWoken(t *testing.T) {
	source := &memorySource{broken: errors.New("down")}
	told := make(chan int64, 10)
	f := &ocsp.Follower{Source: source, Sinks: []ocsp.Sink{tell(told)}, Log: slog.New(slog.DiscardHandler), Now: time.Now}
	ctx, cancel := context.WithCancel(t.Context())
	wake, ended := make(chan struct{}), make(chan struct{})
	source.add(ocsp.Change{}, ocsp.Change{}, ocsp.Change{})
	go func() { defer close(ended); f.Run(ctx, nil, wake) }()
	if got := []int64{<-told, <-told}; !slices.Equal(got, []int64{3, 6}) {
		t.Fatalf("told of %v", got)
	}
	wake <- struct{}{}
	if got := <-told; got != 9 {
		t.Fatalf("after a failure told of %d, want 9", got)
	}
	cancel()
	<-ended
}

// forgets is a Sink that is told what to forget.
type forgets struct {
	seen
	before []time.Time
}

func (f *forgets) Forget(before time.Time) { f.before = append(f.before, before) }

func TestFollowerHasSinksForget(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	var sink forgets
	f := &ocsp.Follower{Source: &memorySource{}, Sinks: []ocsp.Sink{new(seen), &sink}, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }}
	var want []time.Time
	for _, step := range []struct {
		hours time.Duration
		told  bool
	}{{0, true}, {1, false}, {22, false}, {1, true}, {23, false}, {48, true}} {
		if now = now.Add(step.hours * time.Hour); step.told {
			want = append(want, now.Add(-ocsp.Retention))
		}
		if err := f.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(sink.before, want) {
		t.Errorf("told to forget what ended before %v, want %v", sink.before, want)
	}
}

type tell chan int64

func (t tell) Apply(changes []ocsp.Change) {
	for _, c := range changes {
		t <- c.Seq
	}
}

func TestSerialOf(t *testing.T) {
	one := new(big.Int).Lsh(big.NewInt(1), 128) // 17 bytes, the first of which is 1
	if s, ok := ocsp.SerialOf(one); !ok || s.Int().Cmp(one) != 0 || s.String() != "0100000000000000000000000000000000" {
		t.Errorf("%v, %v", s, ok)
	}
	for _, n := range []*big.Int{nil, big.NewInt(0), big.NewInt(-1), new(big.Int).Neg(one), new(big.Int).Rsh(one, 1), new(big.Int).Lsh(one, 7)} {
		if s, ok := ocsp.SerialOf(n); ok {
			t.Errorf("%v is said to be %v", n, s)
		}
	}
}
