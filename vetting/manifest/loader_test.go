package manifest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/touchmark/touchmark/vetting"
)

// crash makes the nth call of LoadRecords, from 1, and all after it fail, as
// if the server had been killed then; the nth may be persisted all the same.
func (f *factory) crash(nth int, persisted bool) (crashed <-chan struct{}) {
	seen := 0
	done := make(chan struct{})
	f.store.fault = func(call string) (bool, error) {
		if call != "LoadRecords" {
			return false, nil
		}
		if seen++; seen < nth {
			return false, nil
		}
		if seen == nth {
			close(done)
		}
		return persisted && seen == nth, errDisk
	}
	return done
}

func (f *factory) mend() {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	f.store.fault = nil
}

func TestResumeAfterACrashAtEveryChunk(t *testing.T) {
	const records, chunks = 10, 3 // of 4, 4 and 2
	f := newFactory(t)
	content := file(records)
	sig := f.anna.sign(t, content)
	for nth := 1; nth <= chunks; nth++ {
		for _, persisted := range []bool{false, true} {
			t.Run(fmt.Sprintf("chunk %d persisted=%v", nth, persisted), func(t *testing.T) {
				f.store = newFakeStoreFrom(f.store)
				f.Importer = f.importer(t)
				crashed := f.crash(nth, persisted)
				m, err := f.receive(content, sig)
				if err != nil {
					t.Fatal(err)
				}
				<-crashed
				if err := f.Stop(t.Context()); err != nil {
					t.Fatal(err)
				}
				have := f.store.manifests[m.ID]
				if n := len(have.records); n != min(4*(nth-1), records) && !(persisted && n == min(4*nth, records)) {
					t.Fatalf("%d records are there", n)
				}

				f.mend()
				restarted := f.importer(t)
				if err := restarted.Resume(t.Context()); err != nil {
					t.Fatal(err)
				}
				if have.State != vetting.ManifestLoaded {
					if _, err := restarted.Wait(t.Context(), m.ID); err != nil {
						t.Fatal(err)
					}
				}
				f.store.loadedOnce(t, m.ID, records)
			})
		}
	}
}

// newFakeStoreFrom makes an empty store that knows the same people.
func newFakeStoreFrom(s *fakeStore) *fakeStore {
	n := newFakeStore()
	n.operators = s.operators
	return n
}

func TestTheLoaderRetriesByItself(t *testing.T) {
	f := newFactory(t)
	var failures atomic.Int32
	f.store.fault = func(call string) (bool, error) {
		if call == "LoadRecords" && failures.Add(1) <= 5 {
			return failures.Load()%2 == 0, errDisk // some were persisted
		}
		return false, nil
	}
	content := file(30)
	m, err := f.receive(content, f.anna.sign(t, content))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Wait(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	f.store.loadedOnce(t, m.ID, 30)
}

func TestSeveralServersLoadOneManifest(t *testing.T) {
	f := newFactory(t)
	content := file(200)
	sig := f.anna.sign(t, content)
	crashed := f.crash(1, false) // so that nothing is loaded before all begin
	m, err := f.receive(content, sig)
	if err != nil {
		t.Fatal(err)
	}
	<-crashed
	servers := []*Importer{f.Importer, f.importer(t), f.importer(t)}
	servers[1].Chunk, servers[2].Chunk = 3, 7
	f.mend()
	results := make(chan error, len(servers))
	for _, im := range servers {
		go func() {
			_, err := im.Wait(context.Background(), m.ID)
			results <- err
		}()
	}
	for range servers {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	f.store.loadedOnce(t, m.ID, 200)
}

func TestStop(t *testing.T) {
	f := newFactory(t)
	content := file(10)
	crashed := f.crash(2, false)
	m, err := f.receive(content, f.anna.sign(t, content))
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := f.Wait(context.Background(), m.ID)
		waited <- err
	}()
	<-crashed
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; !errors.Is(err, ErrStopped) {
		t.Errorf("a waiting call got %v", err)
	}
	if _, err := f.Wait(t.Context(), m.ID); !errors.Is(err, ErrStopped) {
		t.Errorf("a call after the stop got %v", err)
	}
	if n := len(f.store.manifests[m.ID].records); n != 4 {
		t.Errorf("%d records", n)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	f := newFactory(t)
	content := file(10)
	crashed := f.crash(1, false)
	m, err := f.receive(content, f.anna.sign(t, content))
	if err != nil {
		t.Fatal(err)
	}
	<-crashed
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Wait(ctx, m.ID); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_, err = f.Wait(t.Context(), 99)
	want(t, err, vetting.NotFound, "99")
}

func TestASpoiledStoredFileIsNotLoaded(t *testing.T) {
	for name, spoil := range map[string]func(*stored){
		"lost part":     func(m *stored) { delete(m.parts, 1) },
		"garbled part":  func(m *stored) { m.parts[1][len(m.parts[1])/2] ^= 0xff },
		"not even gzip": func(m *stored) { m.parts[0] = []byte("hello") },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFactory(t)
			n := 2 * partSize / len(file(1))
			content := file(n)
			crashed := f.crash(1, false)
			m, err := f.receive(content, f.anna.sign(t, content))
			if err != nil {
				t.Fatal(err)
			}
			<-crashed
			if err := f.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.mend()
			spoil(f.store.manifests[m.ID])
			im := f.importer(t)
			if _, err := im.load(t.Context(), m.ID); err == nil || vetting.ProblemOf(err) != 0 {
				t.Errorf("error %v, want an internal one", err)
			}
			if s := f.store.manifests[m.ID]; s.State != vetting.ManifestAccepted {
				t.Errorf("state %s", s.State)
			}
		})
	}
}

// flawed panics once in each of the loader's calls.
type flawed struct {
	*fakeStore
	loads, reads atomic.Int32
}

func (s *flawed) LoadRecords(ctx context.Context, id, after int64, records []vetting.Record) (*vetting.Manifest, error) {
	if s.loads.Add(1) == 1 {
		panic("a defect in loading")
	}
	return s.fakeStore.LoadRecords(ctx, id, after, records)
}

func (s *flawed) ManifestParts(ctx context.Context, id int64, fn func([]byte) error) error {
	if s.reads.Add(1) == 1 {
		panic("a defect in reading")
	}
	return s.fakeStore.ManifestParts(ctx, id, fn)
}

// A defect of the program in the background is a failure like another: it
// ends neither the process nor the loading.
func TestTheLoaderSurvivesDefects(t *testing.T) {
	f := newFactory(t)
	f.Importer.Store = &flawed{fakeStore: f.store}
	content := file(30)
	m, err := f.receive(content, f.anna.sign(t, content))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Wait(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	f.store.loadedOnce(t, m.ID, 30)
}
