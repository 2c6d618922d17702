package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// maxBatch is how many enrolments share one transaction at most. More would
// gain little and make the first of them wait.
const maxBatch = 128

// errClosed is the answer to writes after Close.
var errClosed = errors.New("the store is closing")

// errDefect is what is left of a panic for whoever asked for the write.
var errDefect = errors.New("the program has a defect, which its log tells of")

// job is one thing to write. Its two steps run inside a transaction that
// holds the log's head: load queues reads, apply decides on what they gave
// and queues writes. An error of apply means that it queued nothing.
type job struct {
	ctx   context.Context
	load  func(*writing)
	apply func(*writing) error
	alone bool // not to share its transaction
	done  chan error
}

// update carries out one change alone in its transaction; an error of apply
// rolls it back.
func (s *Store) update(ctx context.Context, apply func(*writing) error) error {
	return s.submit(&job{ctx: ctx, apply: apply, alone: true})
}

// submit hands a job to the writer and waits. If ctx ends first, the job may
// be carried out all the same.
func (s *Store) submit(j *job) error {
	j.done = make(chan error, 1)
	if err := s.queue(j); err != nil {
		return err
	}
	select {
	case err := <-j.done:
		return err
	case <-j.ctx.Done():
		return j.ctx.Err()
	case <-s.closed:
		select {
		case err := <-j.done:
			return err
		default:
			return errClosed
		}
	}
}

// queue hands a job over. Where registrations wait already as far as they
// may, one more is refused: it would only wait longer than its client does.
// Acts of operators and the loading of manifests are few and wait.
func (s *Store) queue(j *job) error {
	select {
	case <-s.closing:
		return errClosed
	case <-j.ctx.Done():
		return j.ctx.Err()
	case s.jobs <- j:
		return nil
	default:
	}
	if !j.alone {
		return &enroll.BusyError{Reason: "more registrations wait for the database than may: try again", RetryAfter: time.Second}
	}
	select {
	case <-s.closing:
		return errClosed
	case <-j.ctx.Done():
		return j.ctx.Err()
	case s.jobs <- j:
		return nil
	}
}

// write is the only writer of this process. What waits while a transaction
// commits makes up the next one, so the batch grows with the load by itself.
func (s *Store) write() {
	defer close(s.closed)
	var next *job
	for {
		first := next
		next = nil
		if first == nil {
			select {
			case first = <-s.jobs:
			case <-s.closing:
				select { // what was handed in before Close is still done
				case first = <-s.jobs:
				default:
					return
				}
			}
		}
		batch := []*job{first}
		if !first.alone {
			batch, next = s.gather(batch)
		}
		s.run(batch)
	}
}

// gather adds what is waiting, up to a job that wants to be alone. Before it
// is content it lets everybody else who is ready run once: on an idle machine
// that takes no time, on a busy one more jobs come along, and what they share
// is the wait for the disk.
func (s *Store) gather(batch []*job) (_ []*job, next *job) {
	for yielded := false; len(batch) < maxBatch; {
		select {
		case j := <-s.jobs:
			if j.alone {
				return batch, j
			}
			batch, yielded = append(batch, j), false
		default:
			if yielded {
				return batch, nil
			}
			runtime.Gosched()
			yielded = true
		}
	}
	return batch, nil
}

// run commits a batch. If a statement fails, nothing was written, and each
// job is tried alone, so that one cannot spoil the others; but not where the
// database gave no answer in time, which would take that time for each.
func (s *Store) run(batch []*job) {
	live := batch[:0]
	for _, j := range batch {
		if err := j.ctx.Err(); err != nil {
			j.done <- err
			continue
		}
		live = append(live, j)
	}
	if len(live) == 0 {
		return
	}
	began := time.Now()
	errs, err := s.attempt(live)
	if !live[0].alone {
		s.written.Add(int64(len(live)))
	}
	s.failing.Store(err != nil)
	s.observe(len(live), time.Since(began))
	switch {
	case err == nil:
		for i, j := range live {
			j.done <- errs[i]
		}
	case len(live) > 1 && !errors.Is(err, errOutcomeUnknown) && !errors.Is(err, context.DeadlineExceeded):
		for _, j := range live {
			s.run([]*job{j})
		}
	default:
		for _, j := range live {
			j.done <- err
		}
	}
}

// attempt runs the jobs in one transaction. The slice holds each job's own
// refusal; the error means that nothing, or nothing certain, was written.
//
// A panic is such an error too: all that the jobs share was made for this
// transaction and ends with it, so the next one starts clean. Tried alone,
// only the job that hits the defect fails.
func (s *Store) attempt(jobs []*job) (errs []error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.patience)
	defer cancel()
	var closing bool
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
			if errs, err = nil, errDefect; closing {
				err = fmt.Errorf("%w: %w", errOutcomeUnknown, errDefect)
			}
		}
	}()
	tx, err := s.db.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin a transaction: %w", err)
	}
	defer tx.rollback()
	if s.fault != nil {
		tx = s.fault(tx)
	}
	w := &writing{transaction: tx, store: s, orders: map[int64]*orderRow{}, devices: map[int64]*deviceRow{},
		certificates: map[int64]*certificateRow{}, codes: map[int64]*codeRow{}, keys: map[vetting.Fingerprint]int64{}, eks: map[vetting.Fingerprint]int64{}, rewritten: map[int64]bool{}, messages: map[[32]byte]bool{}, replaced: map[string]bool{}, reordered: map[int64]bool{}, contested: map[int64]bool{},
		chips: map[string]*chip{}, grants: map[int64]*grantRow{}, programmed: map[int64]bool{},
		paces: map[int64]vetting.Pace{}, counts: map[countKey]int64{}, certified: map[certifiedKey]int64{}}
	if err := w.open(jobs); err != nil {
		return nil, err
	}
	errs = make([]error, len(jobs))
	for i, j := range jobs {
		errs[i] = j.apply(w)
		if errs[i] != nil && j.alone {
			return errs, nil // rolled back
		}
	}
	closing = true
	err = w.close()
	if len(w.counts) > 0 {
		s.cache.forgetPaces()
	}
	if err != nil {
		return nil, err
	}
	if size := w.tree.Size(); size != w.start {
		s.grew(size)
	}
	if w.told {
		s.told()
	}
	return errs, nil
}

// writing is one write transaction: the log as it grows, and the rows that
// several jobs of a batch may touch, as the earlier ones left them.
type writing struct {
	transaction
	store  *Store
	tree   *audit.Tree
	start  int64 // the tree's size at the beginning
	now    time.Time
	nextID int64
	idFrom int64

	orders       map[int64]*orderRow
	devices      map[int64]*deviceRow
	certificates map[int64]*certificateRow
	codes        map[int64]*codeRow
	keys         map[vetting.Fingerprint]int64 // which device, or record, holds a key
	eks          map[vetting.Fingerprint]int64 // which device enrolled by a TPM
	contested    map[int64]bool                // records
	messages     map[[32]byte]bool             // that counted before
	replaced     map[string]bool               // certificates, by serial number, for whose successor an order came
	reordered    map[int64]bool                // orders for certificates that are not as the jobs' loads found them
	rewritten    map[int64]bool                // registrations that are not as the jobs' loads found them

	chips  map[string]*chip    // by UID
	grants map[int64]*grantRow // of licences

	programmed map[int64]bool // licences, in this transaction

	paces  map[int64]vetting.Pace // of orders with limits
	counts map[countKey]int64     // units issued in this transaction
	told   bool                   // something to status responders

	certified map[certifiedKey]int64 // certificates issued in it

	// What loadDevice, loadOrder, loadCertificate, loadCode and loadKey have yet
	// to read.
	wantDevices, wantOrders, wantCertificates, wantCodes, wantKeys, wantEKs, wantContested, wantMessages []any

	wantChips, wantChipRecords, wantGrants []any

	inserts []*rowset
}

// open locks the head and runs the jobs' loads in the same round trip.
func (w *writing) open(jobs []*job) error {
	var head headRow
	w.fetch(lockHead, nil, func(r row) error {
		return r.Scan(&head.size, &head.frontier, &head.time, &head.nextID)
	})
	for _, j := range jobs {
		if j.load != nil {
			j.load(w)
		}
	}
	if err := w.read(); err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	tree, err := audit.OpenTree(head.size, head.frontier)
	if err != nil {
		return err
	}
	w.tree, w.start = tree, head.size
	w.nextID, w.idFrom = head.nextID, head.nextID
	// The log's time never goes back, whatever the clock does.
	w.now = fromMicros(max(micros(w.store.now()), head.time))
	return nil
}

type headRow struct {
	size     int64
	frontier []byte
	time     int64
	nextID   int64
}

// close writes the rows that the jobs share, and commits.
func (w *writing) close() error {
	for _, d := range w.devices {
		if d.dirty {
			w.write(d)
		}
	}
	w.writeInserts()
	w.writeCounts()
	for _, o := range w.orders {
		if o.dirty {
			w.exec(`UPDATE orders SET issued = $2, wasted = $3, replaced = $4, lot = $5, licensed = $6 WHERE id = $1`, o.ID, o.Issued, o.Wasted, o.Replaced, o.Lot, o.Licensed)
		}
	}
	if w.tree.Size() != w.start || w.nextID != w.idFrom {
		w.exec(`UPDATE log_head SET size = $1, frontier = $2, time = $3, next_id = $4 WHERE id = 1`,
			w.tree.Size(), w.tree.Frontier(), micros(w.now), w.nextID)
	}
	return w.commit()
}

// ids takes n consecutive new IDs and returns the first.
func (w *writing) ids(n int64) int64 {
	id := w.nextID
	w.nextID += n
	return id
}

// leaf appends to the audit log and returns the leaf's index.
func (w *writing) leaf(act, by, note string, objects ...audit.Object) int64 {
	l := audit.Leaf{Time: w.now, Act: act, By: by, Note: note, Objects: objects}
	body := l.Encode()
	index := w.tree.Append(body)
	w.insert(`leaves (idx, body)`, index, packLeaf(l, body))
	return index
}
