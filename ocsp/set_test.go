package ocsp_test

import (
	"crypto/rand"
	"encoding/binary"
	mrand "math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp"
)

// serialFrom makes a serial number as the CA does, but the same for the same
// generator.
func serialFrom(r *mrand.Rand) (s ocsp.Serial) {
	binary.BigEndian.PutUint64(s[:], r.Uint64())
	binary.BigEndian.PutUint64(s[8:], r.Uint64())
	s[16] = byte(r.Uint32())
	s[0] = max(1, s[0]&0x7f)
	return s
}

// TestSetFollowsAMap compares the set with a map over a long random life.
func TestSetFollowsAMap(t *testing.T) {
	r := mrand.New(mrand.NewPCG(1, 2))
	var set ocsp.Set
	want := map[ocsp.Serial]ocsp.Revocation{}
	serials := make([]ocsp.Serial, 5000)
	for i := range serials {
		serials[i] = serialFrom(r)
		if i > 0 && i%10 == 0 { // the same random part, drawn by another CA
			copy(serials[i][:9], serials[i-1][:9])
		}
	}
	for range 60_000 {
		c := ocsp.Change{Serial: serials[r.IntN(len(serials))], Revoked: time.Unix(r.Int64N(1<<34), 999), Reason: ocsp.Reason(r.IntN(11))}
		set.Apply([]ocsp.Change{c})
		if c.Reason == ocsp.RemoveFromCRL {
			delete(want, c.Serial)
		} else {
			want[c.Serial] = ocsp.Revocation{Reason: c.Reason, At: c.Revoked.Truncate(time.Second).UTC()}
		}
	}
	if set.Len() != len(want) {
		t.Errorf("%d do not count, want %d", set.Len(), len(want))
	}
	for _, s := range serials {
		got, ok := set.Lookup(s)
		if w, revoked := want[s]; ok != revoked || ok && got != w {
			t.Fatalf("%v: %v %v, want %v %v", s, got, ok, w, revoked)
		}
	}
}

// TestSetForgetsWhatCountsAgain holds a few certificates again and again, which
// must not take ever more memory.
func TestSetForgetsWhatCountsAgain(t *testing.T) {
	r := mrand.New(mrand.NewPCG(3, 4))
	var set ocsp.Set
	for range 100_000 {
		s := serialFrom(r)
		set.Apply([]ocsp.Change{{Serial: s, Reason: ocsp.CertificateHold}, {Serial: s, Reason: ocsp.RemoveFromCRL}})
	}
	if set.Len() != 0 || set.Bytes() > 128*16*16 {
		t.Errorf("%d do not count, in %d bytes", set.Len(), set.Bytes())
	}
}

// TestSetForgetsWhatEnded: what had ended goes, with its memory; the rest
// stays as it was.
func TestSetForgetsWhatEnded(t *testing.T) {
	r := mrand.New(mrand.NewPCG(9, 10))
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	const rounding = 50 * 24 * time.Hour
	ends := []time.Time{time.Unix(0, 0), now.AddDate(-9, 0, 0), now.Add(-rounding), now, now.Add(time.Second), now.AddDate(5, 0, 0), now.AddDate(300, 0, 0),
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
	const gone = 3
	var set ocsp.Set
	var list []ocsp.Change
	for i := range 8000 {
		list = append(list, ocsp.Change{Serial: serialFrom(r), Reason: ocsp.KeyCompromise, Revoked: now.Add(time.Duration(i) * time.Second), NotAfter: ends[i%len(ends)]})
	}
	set.Apply(list)
	full := set.Bytes()
	set.Forget(now)
	for i, c := range list {
		got, ok := set.Lookup(c.Serial)
		if ok != (i%len(ends) >= gone) || ok && !got.At.Equal(c.Revoked) {
			t.Fatalf("one that ends %s is told to be revoked: %v, at %s", c.NotAfter, ok, got.At)
		}
	}
	if want := len(list) / len(ends) * (len(ends) - gone); set.Len() != want || set.Bytes() > full*3/4 {
		t.Errorf("%d are left, want %d, in %d bytes of %d", set.Len(), want, set.Bytes(), full)
	}
	set.Forget(now.AddDate(200, 0, 0))
	if want := len(list) / len(ends) * 2; set.Len() != want {
		t.Errorf("%d are left after 200 years, want the %d that end later", set.Len(), want)
	}
}

func TestSetOfExtremeTimes(t *testing.T) {
	var set ocsp.Set
	for i, at := range []time.Time{{}, time.Unix(-1, 0), time.Unix(0, 0), time.Date(2999, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)} {
		s := ocsp.Serial{1, byte(i)}
		set.Apply([]ocsp.Change{{Serial: s, Revoked: at}})
		if got, ok := set.Lookup(s); !ok || at.Unix() >= 0 && at.Year() < 3000 && !got.At.Equal(at) || got.At.Year() < 1970 || got.At.Year() > 9999 {
			t.Errorf("revoked at %v: %v %v", at, got, ok)
		}
	}
}

// TestSetIsSmall holds the set to its 40 bytes for each revoked certificate,
// as the heap has it, at sizes between two growths of its tables.
func TestSetIsSmall(t *testing.T) {
	r := mrand.New(mrand.NewPCG(5, 6))
	before := heap()
	set := new(ocsp.Set)
	batch := make([]ocsp.Change, 1000)
	for n := 1000; n <= 600_000; n += 1000 {
		for i := range batch {
			batch[i] = ocsp.Change{Serial: serialFrom(r), Revoked: time.Unix(1e9, 0)}
		}
		set.Apply(batch)
		if n < 100_000 {
			continue
		}
		if each := set.Bytes() / n; each > 26 {
			t.Fatalf("%d bytes each at %d", each, n)
		}
		if n%100_000 == 0 {
			if each := float64(heap()-before) / float64(n); each > 32 {
				t.Fatalf("%.1f bytes of heap each at %d", each, n)
			}
		}
	}
	runtime.KeepAlive(set)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestSetWhileItGrows reads from several goroutines what one other adds:
// nobody may miss what was there before, whatever table it is in.
func TestSetWhileItGrows(t *testing.T) {
	r := mrand.New(mrand.NewPCG(7, 8))
	serials := make([]ocsp.Serial, 20_000)
	for i := range serials {
		serials[i] = serialFrom(r)
	}
	var set ocsp.Set
	var added sync.WaitGroup
	progress := make(chan int, len(serials))
	for range 3 {
		added.Go(func() {
			for n := range progress {
				for i := max(0, n-50); i < n; i++ {
					if _, ok := set.Lookup(serials[i]); !ok {
						t.Errorf("serial %d is not there after %d", i, n)
					}
				}
			}
		})
	}
	for i, s := range serials {
		set.Apply([]ocsp.Change{{Serial: s, Reason: ocsp.KeyCompromise, Revoked: time.Unix(5, 0)}})
		progress <- i + 1
	}
	close(progress)
	added.Wait()
}

func BenchmarkSetLookup(b *testing.B) {
	var set ocsp.Set
	batch := make([]ocsp.Change, 1<<20)
	for i := range batch {
		rand.Read(batch[i].Serial[:])
		batch[i].Serial[0] = max(1, batch[i].Serial[0]&0x7f)
	}
	set.Apply(batch)
	b.ResetTimer()
	for i := range b.N {
		if _, ok := set.Lookup(batch[i&(1<<20-1)].Serial); !ok {
			b.Fatal("lost")
		}
	}
}

func BenchmarkSetApply(b *testing.B) {
	batch := make([]ocsp.Change, 1<<20)
	for i := range batch {
		rand.Read(batch[i].Serial[:])
		batch[i].Serial[0] = max(1, batch[i].Serial[0]&0x7f)
	}
	for b.Loop() {
		new(ocsp.Set).Apply(batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch)), "ns/change")
}
