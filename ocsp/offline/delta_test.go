package offline_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/ocsp/offline"
)

// TestDelta lets a fleet grow, some of it be revoked and some come back from
// hold, and asks a base with its newest delta for everything.
func TestDelta(t *testing.T) {
	ca := newCA(t)
	before := fleet{20_000, share(0.02)}
	base := ca.open(t, ca.build(t, plan(1, nil), before))
	for name, now := range map[string]fleet{
		"nothing happened": before,
		"100 revoked":      {20_000, func(i int) bool { return before.notGood(i) || i%200 == 7 }},
		"all released":     {20_000, none},
		"all revoked":      {20_000, all},
		"grown":            {30_000, func(i int) bool { return i < 20_000 && before.notGood(i) }},
		"grown, some bad":  {30_000, func(i int) bool { return before.notGood(i) != (i%100 == 3) }},
	} {
		t.Run(name, func(t *testing.T) {
			file := ca.build(t, plan(2, base), now)
			f, err := base.With(file)
			if err != nil {
				t.Fatal(err)
			}
			exact(t, f, now)
			exact(t, base, before)
			if h := f.Header(); h.Number != 2 || h.Kind != offline.Delta || h.Issued != uint64(now.n) {
				t.Errorf("header %+v", h)
			}
			t.Log(len(file), "bytes")
		})
	}
}

// TestDeltaIsSmall is what deltas are for: their size is that of what changed.
func TestDeltaIsSmall(t *testing.T) {
	ca := newCA(t)
	before := fleet{200_000, share(0.01)}
	file := ca.build(t, plan(1, nil), before)
	delta := ca.build(t, plan(2, ca.open(t, file)), fleet{200_000, func(i int) bool { return before.notGood(i) || i%10_000 == 5 }})
	if len(delta) > 500 {
		t.Errorf("20 changes in %d bytes, the base has %d", len(delta), len(file))
	}
}

func TestDeltaRefused(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	f := fleet{100, share(0.1)}
	baseFile := ca.build(t, plan(1, nil), f)
	base := ca.open(t, baseFile)
	another := ca.open(t, ca.build(t, plan(2, nil), f))
	second, third := ca.build(t, plan(3, base), f), ca.build(t, plan(4, base), f)
	newest, err := base.With(third)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newest.With(third); err != nil {
		t.Errorf("the same delta again: %v", err)
	}
	for name, c := range map[string]struct {
		to    *offline.Filter
		delta []byte
		want  error
	}{
		"of another base": {another, second, offline.ErrForeign},
		"of another CA":   {base, other.build(t, plan(3, other.open(t, other.build(t, plan(1, nil), f))), f), offline.ErrForeign},
		"an older one":    {newest, second, offline.ErrOlder},
		"a base":          {base, baseFile, offline.ErrFile},
		"older than base": {base, ca.build(t, plan(0, base), f), offline.ErrOlder},
		"cut off":         {base, second[:len(second)-1], offline.ErrFile},
		"nothing":         {base, nil, offline.ErrFile},
	} {
		if got, err := c.to.With(c.delta); !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := offline.Open(second, ca.cert); !errors.Is(err, offline.ErrFile) || !strings.Contains(err.Error(), "delta of the base") {
		t.Errorf("a delta opened as a base: %v", err)
	}
}

// TestUniverseFails gives the errors of who tells of the certificates.
func TestUniverseFails(t *testing.T) {
	ca := newCA(t)
	f := fleet{1000, share(0.1)}
	broken := errors.New("the database is gone")
	for at := range 2 {
		asked := 0
		_, err := offline.Build(t.Context(), ca.cert, ca.key, plan(1, nil), func(ctx context.Context, each func([]byte, bool) error) error {
			if asked++; asked > at {
				return broken
			}
			return f.tell(ctx, each)
		})
		if !errors.Is(err, broken) {
			t.Errorf("at question %d: %v", at+1, err)
		}
	}
	if _, err := offline.Build(t.Context(), ca.cert, newCA(t).key, plan(1, nil), f.tell); !errors.Is(err, offline.ErrFile) {
		t.Errorf("a key that is not the CA's: %v", err)
	}
}
