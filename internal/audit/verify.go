package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Problem is what is wrong with a log or an object.
type Problem string

const (
	ProblemMissing    Problem = "leaf-missing"    // no leaf of that index
	ProblemSurplus    Problem = "leaf-surplus"    // a leaf after the head's last one
	ProblemMalformed  Problem = "leaf-malformed"  // a leaf that cannot be read
	ProblemTime       Problem = "time-backwards"  // a leaf older than the one before
	ProblemTree       Problem = "tree-mismatch"   // leaves that do not hash to the head
	ProblemCheckpoint Problem = "checkpoint"      // a signed checkpoint that the log does not continue
	ProblemUnlogged   Problem = "object-unlogged" // an object of which no leaf tells
	ProblemChanged    Problem = "object-changed"  // an object that differs from its last leaf
	ProblemGone       Problem = "object-gone"     // a leaf's object that is not there
	ProblemRepeated   Problem = "object-repeated" // two objects of one kind and ID
)

// Finding is one thing that is wrong.
type Finding struct {
	Problem Problem `json:"problem"`
	// From and To bound the leaves concerned, To exclusive. For an object it
	// is the last leaf that tells of it; both are -1 where none is.
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// Kind and ID name the object, if it is about one.
	Kind Kind   `json:"kind,omitempty"`
	ID   int64  `json:"id,omitempty"`
	Text string `json:"text"` // a sentence for a person
}

// Report is the result of [Verify].
type Report struct {
	Size   int64     `json:"size"` // leaves, as the head has it
	Root   tlog.Hash `json:"root"` // as the leaves give it
	Leaves int64     `json:"leaves"`
	First  time.Time `json:"first,omitzero"` // time of the first leaf
	Last   time.Time `json:"last,omitzero"`  // time of the last leaf
	// Objects counts the objects that were compared with their leaves.
	Objects map[Kind]int64 `json:"objects"`
	// Checkpoints are the given ones that the log was proved to continue.
	Checkpoints []Checkpoint `json:"checkpoints"`
	// Findings are the first that were made, ordered by leaf, Total is how
	// many there are.
	Findings []Finding `json:"findings"`
	Total    int64     `json:"total"`
}

// OK reports whether nothing is wrong.
func (r *Report) OK() bool { return r.Total == 0 }

// Stage is a part of the work of [Verify].
type Stage string

const (
	StageLeaves  Stage = "leaves"
	StageObjects Stage = "objects"
)

// Options says what to verify against.
type Options struct {
	// Checkpoints are signed notes, from the database, the checkpoint file
	// or kept by an auditor, that the log must continue; in any order.
	Checkpoints [][]byte
	// Verifier checks them. It is needed only with Checkpoints.
	Verifier note.Verifier
	// Progress, unless nil, is called now and then with how far a stage is.
	// The total of StageObjects is what the leaves let expect.
	Progress func(stage Stage, done, total int64)
	// MaxFindings bounds Report.Findings; 0 means 1000.
	MaxFindings int
}

const progressEvery = 1 << 12

// Verify reads the whole log and every object and reports whatever does not
// agree: leaves with the head and with the signed checkpoints, objects with
// the last leaf that tells of them, and that in both directions. It keeps
// about 40 bytes per object. The error is for what could not be read;
// whatever was read but is wrong stands in the report.
//
// The head is in the same database as the leaves. Somebody who changes both
// alike is found by the checkpoints alone, which they cannot sign.
func Verify(ctx context.Context, src Source, o Options) (*Report, error) {
	head, err := src.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the log's head: %w", err)
	}
	v := &verification{opts: o, head: head, firstGap: math.MaxInt64}
	v.report = Report{Size: head.Size(), Objects: map[Kind]int64{}, Checkpoints: []Checkpoint{}, Findings: []Finding{}}
	if v.opts.MaxFindings == 0 {
		v.opts.MaxFindings = 1000
	}
	v.openCheckpoints()
	if err := v.leaves(ctx, src); err != nil {
		return nil, err
	}
	if err := v.objects(ctx, src); err != nil {
		return nil, err
	}
	slices.SortStableFunc(v.report.Findings, func(a, b Finding) int { return cmp.Compare(a.From, b.From) })
	return &v.report, nil
}

type verification struct {
	opts   Options
	head   *Tree
	report Report

	tree        Tree // of the leaves; missing ones count as empty
	checkpoints []Checkpoint
	gaps        []span // of missing leaves
	firstGap    int64
	last        time.Time
	objectsOf   index
	expected    int64 // objects that leaves tell of
}

type span struct{ from, to int64 }

func (v *verification) find(f Finding) {
	v.report.Total++
	if len(v.report.Findings) < v.opts.MaxFindings {
		v.report.Findings = append(v.report.Findings, f)
	}
}

func (v *verification) progress(s Stage, done, total int64) {
	if v.opts.Progress != nil && done%progressEvery == 0 {
		v.opts.Progress(s, done, total)
	}
}

func (v *verification) finish(s Stage, total int64) {
	if v.opts.Progress != nil {
		v.opts.Progress(s, total, total)
	}
}

// openCheckpoints sorts out the checkpoints that can be compared.
func (v *verification) openCheckpoints() {
	for i, signed := range v.opts.Checkpoints {
		c, err := v.openCheckpoint(signed)
		switch {
		case err != nil:
			v.find(Finding{Problem: ProblemCheckpoint, From: -1, To: -1, Text: fmt.Sprintf("Checkpoint %d of those given: %v.", i+1, err)})
		case c.Size > v.head.Size():
			v.find(Finding{Problem: ProblemCheckpoint, From: v.head.Size(), To: c.Size,
				Text: fmt.Sprintf("A checkpoint of %d leaves was signed, but the log has only %d: the last ones were removed, or the database was rolled back.", c.Size, v.head.Size())})
		default:
			v.checkpoints = append(v.checkpoints, c)
		}
	}
	slices.SortFunc(v.checkpoints, func(a, b Checkpoint) int { return cmp.Compare(a.Size, b.Size) })
}

func (v *verification) openCheckpoint(signed []byte) (Checkpoint, error) {
	if v.opts.Verifier == nil {
		return Checkpoint{}, errors.New("it cannot be checked without the log's verifier")
	}
	return OpenCheckpoint(signed, v.opts.Verifier)
}

// leaves works through the log and compares it with head and checkpoints.
func (v *verification) leaves(ctx context.Context, src Source) error {
	v.reached()
	err := src.Leaves(ctx, 0, math.MaxInt64, v.leaf)
	if err != nil {
		return fmt.Errorf("read the log's leaves: %w", err)
	}
	v.gap(v.tree.Size(), v.head.Size())
	v.finish(StageLeaves, v.head.Size())
	v.report.Root = v.tree.Root()
	v.compareHead()
	return nil
}

func (v *verification) leaf(i int64, body []byte) error {
	if i >= v.head.Size() {
		v.find(Finding{Problem: ProblemSurplus, From: i, To: i + 1,
			Text: fmt.Sprintf("Leaf %d stands behind the end of the log, which has %d leaves by its head.", i, v.head.Size())})
		return nil
	}
	if i < v.tree.Size() {
		return fmt.Errorf("leaf %d came after leaf %d", i, v.tree.Size()-1)
	}
	v.gap(v.tree.Size(), i)
	v.tree.Append(body)
	v.reached()
	v.report.Leaves++
	v.content(i, body)
	v.progress(StageLeaves, i+1, v.head.Size())
	return nil
}

// gap notes that leaves are missing.
func (v *verification) gap(from, to int64) {
	if from >= to {
		return
	}
	text := fmt.Sprintf("Leaf %d is missing.", from)
	if to > from+1 {
		text = fmt.Sprintf("Leaves %d to %d are missing.", from, to-1)
	}
	v.find(Finding{Problem: ProblemMissing, From: from, To: to, Text: text})
	v.gaps = append(v.gaps, span{from, to})
	v.firstGap = min(v.firstGap, from)
	for len(v.checkpoints) > 0 && v.checkpoints[0].Size <= to {
		v.doubt(v.checkpoints[0])
		v.checkpoints = v.checkpoints[1:]
	}
	// Any hash will do to keep the place, so that other leaves keep theirs.
	for n := from; n < to; n = v.tree.Size() {
		level := bits.Len64(uint64(to-n)) - 1
		if n > 0 {
			level = min(level, bits.TrailingZeros64(uint64(n)))
		}
		v.tree.appendSubtree(level, tlog.Hash{})
	}
}

// reached compares the tree with the checkpoints of its present size.
func (v *verification) reached() {
	for len(v.checkpoints) > 0 && v.checkpoints[0].Size == v.tree.Size() {
		c := v.checkpoints[0]
		v.checkpoints = v.checkpoints[1:]
		if v.tree.Root() == c.Root {
			v.report.Checkpoints = append(v.report.Checkpoints, c)
		} else {
			v.doubt(c)
		}
	}
}

// doubt reports a checkpoint that the log was not shown to continue. What is
// wrong lies after the last one that it does continue.
func (v *verification) doubt(c Checkpoint) {
	from := int64(0)
	if n := len(v.report.Checkpoints); n > 0 {
		from = v.report.Checkpoints[n-1].Size
	}
	text := fmt.Sprintf("The log does not continue the signed checkpoint of %d leaves: a leaf from %d to %d was changed, removed or moved.", c.Size, from, c.Size-1)
	if v.firstGap < c.Size {
		text = fmt.Sprintf("The log cannot be shown to continue the signed checkpoint of %d leaves: leaf %d is missing.", c.Size, v.firstGap)
	}
	v.find(Finding{Problem: ProblemCheckpoint, From: from, To: c.Size, Text: text})
}

// compareHead compares the complete subtrees that make up the log with those
// that the head keeps, so that a finding is as narrow as the head allows.
func (v *verification) compareHead() {
	from := int64(0)
	for i, want := range v.head.frontier {
		// The subtrees' sizes are the powers of 2 in the log's, falling.
		to := from + highBit(v.head.Size()-from)
		if v.tree.frontier[i] != want && !v.hasGap(from, to) {
			v.find(Finding{Problem: ProblemTree, From: from, To: to,
				Text: fmt.Sprintf("Leaves %d to %d do not have the hash that the log's head keeps of them: one was changed, removed or moved.", from, to-1)})
		}
		from = to
	}
}

func (v *verification) hasGap(from, to int64) bool {
	return slices.ContainsFunc(v.gaps, func(g span) bool { return g.from < to && from < g.to })
}

// content takes what a leaf says.
func (v *verification) content(i int64, body []byte) {
	l, err := ParseLeaf(body)
	if err != nil {
		v.find(Finding{Problem: ProblemMalformed, From: i, To: i + 1, Text: fmt.Sprintf("Leaf %d cannot be read: %v.", i, err)})
		return
	}
	if l.Time.Before(v.last) {
		v.find(Finding{Problem: ProblemTime, From: i, To: i + 1,
			Text: fmt.Sprintf("Leaf %d has the time %s, but a leaf before it has %s.", i, stamp(l.Time), stamp(v.last))})
	} else {
		v.last = l.Time
	}
	if v.report.First.IsZero() {
		v.report.First = l.Time
	}
	v.report.Last = l.Time
	for _, o := range l.Objects {
		e := v.objectsOf.at(o.Kind, o.ID, true)
		if e.leaf == 0 {
			v.expected++
		}
		e.digest, e.leaf = o.Digest, i+1
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// objects compares the objects with their leaves, and then looks for leaves
// whose objects did not come.
func (v *verification) objects(ctx context.Context, src Source) error {
	var done int64
	err := src.Objects(ctx, func(o Object) error {
		v.object(o)
		v.report.Objects[o.Kind]++
		done++
		v.progress(StageObjects, done, v.expected)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the objects that the log tells of: %w", err)
	}
	v.finish(StageObjects, done)
	v.gone()
	return nil
}

// object names an object in a sentence.
func object(k Kind, id int64) string {
	if k == KindRecords {
		return fmt.Sprintf("run of records beginning with %d", id)
	}
	return fmt.Sprintf("%s %d", k, id)
}

func (v *verification) object(o Object) {
	e := v.objectsOf.at(o.Kind, o.ID, false)
	if e == nil {
		v.find(Finding{Problem: ProblemUnlogged, From: -1, To: -1, Kind: o.Kind, ID: o.ID,
			Text: fmt.Sprintf("No leaf tells of %s: it was written past the log, or its leaf was changed or removed.", object(o.Kind, o.ID))})
		*v.objectsOf.at(o.Kind, o.ID, true) = indexEntry{o.Digest, math.MinInt64}
		return
	}
	if e.leaf < 0 {
		v.find(Finding{Problem: ProblemRepeated, From: -1, To: -1, Kind: o.Kind, ID: o.ID,
			Text: fmt.Sprintf("There is more than one %s.", object(o.Kind, o.ID))})
		return
	}
	leaf := e.leaf - 1
	if e.digest != o.Digest {
		v.find(Finding{Problem: ProblemChanged, From: leaf, To: leaf + 1, Kind: o.Kind, ID: o.ID,
			Text: fmt.Sprintf("What is stored of %s is not what its last leaf, %d, says: it was changed past the log, or rolled back, or a leaf was changed or removed.", object(o.Kind, o.ID), leaf)})
	}
	e.leaf = -e.leaf
}

func (v *verification) gone() {
	type told struct {
		kind     Kind
		id, leaf int64
	}
	var lost []told
	v.objectsOf.each(func(k Kind, id int64, e *indexEntry) {
		if e.leaf > 0 {
			lost = append(lost, told{k, id, e.leaf - 1})
		}
	})
	slices.SortFunc(lost, func(a, b told) int {
		return cmp.Or(cmp.Compare(a.leaf, b.leaf), cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id))
	})
	for _, l := range lost {
		v.find(Finding{Problem: ProblemGone, From: l.leaf, To: l.leaf + 1, Kind: l.kind, ID: l.id,
			Text: fmt.Sprintf("Nothing is stored of %s, of which leaf %d tells: it was removed, or the leaf was changed.", object(l.kind, l.id), l.leaf)})
	}
}
