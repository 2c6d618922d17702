package audit

import "context"

// Source is a log and the objects it speaks of, as [Verify] reads them. A
// reader sees one state throughout: implementations read a snapshot.
type Source interface {
	// Head returns the tree as the database keeps it.
	Head(ctx context.Context) (*Tree, error)
	// Leaves calls fn with every leaf from index from up to, not including,
	// index to, in order, and stops at the first error. A missing leaf is
	// skipped: fn sees a gap in the indexes.
	Leaves(ctx context.Context, from, to int64, fn func(index int64, body []byte) error) error
	// Objects calls fn with the present digest of every object that a leaf
	// must account for, in any order. Records come in the runs in which they
	// were loaded.
	Objects(ctx context.Context, fn func(Object) error) error
}
