package manifest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// ErrStopped says that the importer was stopped before a manifest was
// loaded; it goes on where it was with the next Resume.
var ErrStopped = errors.New("the importer was stopped; loading goes on at the next start")

const (
	// defaultChunk is how many records share a transaction. Keys hit their
	// index at random, so each transaction of a large database writes one page
	// a record for them; the more records, the more of them share a page.
	// Devices that enrol meanwhile wait for a whole chunk, some 100 ms.
	defaultChunk = 5000
	defaultRetry = 3 * time.Second
	atOnce       = 2 // manifests that are loaded at the same time
)

// loader is the background work of an Importer.
type loader struct {
	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	slots  chan struct{}
	wg     sync.WaitGroup

	mu      sync.Mutex
	jobs    map[int64]*job
	stopped bool
}

// job is the loading of one manifest.
type job struct {
	done chan struct{} // closed at the end
	err  error         // valid after done
}

func (im *Importer) background() *loader {
	l := &im.loader
	im.once.Do(func() {
		l.ctx, l.cancel = context.WithCancel(context.Background())
		l.slots = make(chan struct{}, atOnce)
		l.jobs = map[int64]*job{}
	})
	return l
}

// Resume begins to load every accepted manifest that is not loaded yet. It
// is called at start, and may be called at any time to take over what
// another server left.
func (im *Importer) Resume(ctx context.Context) error {
	ms, err := im.Store.ManifestsToLoad(ctx)
	if err != nil {
		return fmt.Errorf("find manifests to load: %w", err)
	}
	for _, m := range ms {
		im.start(m.ID)
	}
	return nil
}

// Stop ends the loading after the chunk in hand and waits for that, at most
// until ctx ends.
func (im *Importer) Stop(ctx context.Context) error {
	l := im.background()
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.wg.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop loading manifests: %w", ctx.Err())
	}
}

// Wait returns when every record of an accepted manifest is loaded. A
// manifest that awaits signatures is a Conflict.
func (im *Importer) Wait(ctx context.Context, id int64) (*vetting.Manifest, error) {
	m, err := im.Store.Manifest(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case m.State == vetting.ManifestLoaded:
		return m, nil
	case m.State != vetting.ManifestAccepted:
		return nil, notAccepted(m)
	}
	j := im.start(id)
	select {
	case <-j.done:
		if j.err != nil {
			return nil, j.err
		}
		return im.Store.Manifest(ctx, id)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func notAccepted(m *vetting.Manifest) error {
	if m.State == vetting.ManifestUnapproved {
		return vetting.Errorf(vetting.Conflict, "manifest %d waits until %d others approve it", m.ID, m.Approvals)
	}
	return vetting.Errorf(vetting.Conflict, "manifest %d is %s: %d of %d signatures are there", m.ID, m.State, len(m.Signers), m.Wanted)
}

func (im *Importer) loadIfAccepted(m *vetting.Manifest) {
	if m.State == vetting.ManifestAccepted {
		im.start(m.ID)
	}
}

// start begins to load a manifest unless that is under way.
func (im *Importer) start(id int64) *job {
	l := im.background()
	l.mu.Lock()
	defer l.mu.Unlock()
	if j := l.jobs[id]; j != nil {
		return j
	}
	j := &job{done: make(chan struct{})}
	if l.stopped {
		j.err = ErrStopped
		close(j.done)
		return j
	}
	l.jobs[id] = j
	l.wg.Go(func() {
		j.err = im.keepLoading(id)
		l.mu.Lock()
		delete(l.jobs, id)
		l.mu.Unlock()
		close(j.done)
	})
	return j
}

// keepLoading repeats load until it succeeds, the store says that there is
// nothing to load, or the importer stops.
func (im *Importer) keepLoading(id int64) error {
	l := &im.loader
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-l.ctx.Done():
		return ErrStopped
	}
	first := im.Retry
	if first == 0 {
		first = defaultRetry
	}
	for wait := first; ; wait = min(2*wait, 100*first) {
		m, err := im.load(l.ctx, id)
		switch {
		case err == nil:
			im.Log.InfoContext(l.ctx, "manifest loaded", "manifest", id, "order", m.Order, "site", m.Site,
				"records", m.Records, "fresh", m.Fresh, "repeated", m.Repeated, "disputed", m.Disputed)
			return nil
		case l.ctx.Err() != nil:
			return ErrStopped
		case vetting.ProblemOf(err) != 0:
			im.Log.ErrorContext(l.ctx, "manifest cannot be loaded", "manifest", id, "error", err)
			return err
		}
		im.Log.WarnContext(l.ctx, "loading a manifest failed and will be tried again", "manifest", id, "in", wait, "error", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.ctx.Done():
			timer.Stop()
			return ErrStopped
		}
	}
}

// load loads what is missing of one manifest. A panic is an error like others:
// nothing but this manifest waits for it.
func (im *Importer) load(ctx context.Context, id int64) (_ *vetting.Manifest, err error) {
	defer contain(&err)
	m, err := im.Store.Manifest(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case m.State == vetting.ManifestLoaded:
		return m, nil
	case m.State != vetting.ManifestAccepted:
		return nil, notAccepted(m)
	}
	size := im.Chunk
	if size == 0 {
		size = defaultChunk
	}
	r := readParts(ctx, im.Store, id)
	defer r.Close()
	l := newLoading(ctx, im.Store, m, size)
	// The file was checked against the order when it was accepted.
	err = l.read(r)
	if wrong := (*LineErrors)(nil); errors.As(err, &wrong) {
		err = fmt.Errorf("the stored file of manifest %d was good once and is no longer: %s", id, wrong.Error())
	}
	last, err := l.end(err)
	if err == nil && last.State != vetting.ManifestLoaded {
		err = fmt.Errorf("the stored file of manifest %d ends, but it is %s with %d of %d records loaded", id, last.State, last.Loaded, last.Records)
	}
	return last, err
}

// loading reads one manifest while the chunk before is being written.
type loading struct {
	manifest *vetting.Manifest // as it was at the beginning
	size     int
	records  []vetting.Record

	full    chan []vetting.Record
	written chan struct{} // closed when the writer ended, with
	chunk   *chunk
	err     error
}

func newLoading(ctx context.Context, store Store, m *vetting.Manifest, size int) *loading {
	l := &loading{manifest: m, size: size, full: make(chan []vetting.Record), written: make(chan struct{}),
		chunk: &chunk{ctx: ctx, store: store, manifest: m}}
	go func() {
		defer close(l.written)
		defer contain(&l.err)
		for records := range l.full {
			if l.err = l.chunk.write(records); l.err != nil {
				return
			}
		}
	}()
	return l
}

func (l *loading) read(r io.Reader) (err error) {
	defer contain(&err)
	return Read(r, l.manifest.Format, Rules{}, func(row, _ int64, rec vetting.Record) error { return l.add(row, rec) })
}

func (l *loading) add(row int64, rec vetting.Record) error {
	if row <= l.manifest.Loaded {
		return nil
	}
	m := l.manifest
	rec.Row, rec.ManifestID = row, m.ID
	rec.OrderID, rec.ProductID, rec.SiteID = m.OrderID, m.ProductID, m.SiteID
	if l.records == nil {
		l.records = make([]vetting.Record, 0, l.size)
	}
	if l.records = append(l.records, rec); len(l.records) == l.size {
		return l.hand()
	}
	return nil
}

// hand gives the writer what was collected. An error is the writer's.
func (l *loading) hand() error {
	select {
	case l.full <- l.records:
		l.records = nil
		return nil
	case <-l.written:
		return l.err
	}
}

// end hands over the rest, unless reading failed, and waits for the writer.
func (l *loading) end(err error) (*vetting.Manifest, error) {
	if err == nil && len(l.records) > 0 {
		err = l.hand()
	}
	close(l.full)
	<-l.written
	return l.chunk.manifest, cmp.Or(l.err, err)
}

// chunk writes records, one transaction each time. The first is always the
// one after the last that was loaded.
type chunk struct {
	ctx      context.Context
	store    Store
	manifest *vetting.Manifest // as it was last seen
	records  []vetting.Record
}

// write stores records. A Conflict means that another server loads the
// same manifest: what it stored falls away here, and both go on.
func (c *chunk) write(records []vetting.Record) error {
	c.records = records
	for c.forget(); len(c.records) > 0; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		after := c.manifest.Loaded
		m, err := c.store.LoadRecords(c.ctx, c.manifest.ID, after, c.records)
		if err == nil {
			c.manifest = m
			return nil
		}
		if vetting.ProblemOf(err) != vetting.Conflict {
			return fmt.Errorf("load records %d to %d: %w", after+1, after+int64(len(c.records)), err)
		}
		if m, err = c.store.Manifest(c.ctx, c.manifest.ID); err != nil {
			return err
		}
		if m.Loaded <= after {
			return fmt.Errorf("records after %d were refused as loaded already, but manifest %d has only %d", after, m.ID, m.Loaded)
		}
		c.manifest = m
		c.forget()
	}
	return nil
}

// forget drops the records that are loaded.
func (c *chunk) forget() {
	c.records = slices.DeleteFunc(c.records, func(r vetting.Record) bool { return r.Row <= c.manifest.Loaded })
}

// contain turns a panic into an error. It is deferred.
func contain(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the program has a defect: %v\n%s", p, debug.Stack())
	}
}
