package store

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A batch of enrolments touches many rows of few tables. They travel many to
// a statement, because a statement costs more than a row.

// sizes are how many rows one statement may carry: few different ones, so
// that every statement stays prepared.
var sizes = []int{128, 32, 16, 8, 4, 2, 1}

// portions cuts n into sizes.
func portions(n int, each func(from, to int)) {
	from := 0
	for _, size := range sizes {
		for ; n-from >= size; from += size {
			each(from, from+size)
		}
	}
}

// rowset is rows that are to be inserted into one table.
type rowset struct {
	into   string // "table (column, …)"
	width  int
	values []any
}

// insert queues a row, which is written when the transaction is closed: what
// the same transaction still wants to read or change has to be an exec.
func (w *writing) insert(into string, values ...any) {
	for _, set := range w.inserts {
		if set.into == into {
			set.values = append(set.values, values...)
			return
		}
	}
	w.inserts = append(w.inserts, &rowset{into: into, width: len(values), values: values})
}

func (w *writing) writeInserts() {
	for _, set := range w.inserts {
		set.write(w)
	}
	w.inserts = nil
}

// many rows are worth what it costs a database to be told that they come.
const many = 256

func (r *rowset) len() int { return len(r.values) / r.width }

func (r *rowset) row(i int) []any { return r.values[i*r.width : (i+1)*r.width] }

// write queues the rows in the way that suits their number.
func (r *rowset) write(t transaction) {
	if r.len() > many {
		t.load(r)
	} else {
		r.insert(t)
	}
}

// insert queues the rows as statements.
func (r *rowset) insert(t transaction) {
	portions(r.len(), func(from, to int) {
		t.exec(insertion(r.into, r.width, to-from), r.values[from*r.width:to*r.width]...)
	})
}

var texts sync.Map // the statements that insertion and oneOf made

func remembered(key string, n int, make func() string) string {
	type entry struct {
		key string
		n   int
	}
	if text, ok := texts.Load(entry{key, n}); ok {
		return text.(string)
	}
	text, _ := texts.LoadOrStore(entry{key, n}, make())
	return text.(string)
}

func insertion(into string, width, rows int) string {
	return remembered(into, rows, func() string {
		list := make([]string, rows)
		for i := range list {
			list[i] = "(" + placeholders(i*width, width) + ")"
		}
		return "INSERT INTO " + into + " VALUES " + strings.Join(list, ", ")
	})
}

// oneOf appends a list of n placeholders, numbered from after+1 on, to a
// query that ends before it.
func oneOf(query string, after, n int) string {
	return remembered(query, n, func() string { return query + " (" + placeholders(after, n) + ")" })
}

func placeholders(after, n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("$%d", after+i+1)
	}
	return strings.Join(list, ", ")
}

// fetchOneOf queues reads of the rows that a list names. The query's first
// arguments come before the list.
func (w *writing) fetchOneOf(query string, first, list []any, each func(row) error) {
	portions(len(list), func(from, to int) {
		w.fetch(oneOf(query, len(first), to-from), slices.Concat(first, list[from:to]), each)
	})
}

// execOneOf queues a change of the rows that a list names. The statement's
// first arguments come before the list.
func (w *writing) execOneOf(query string, first, list []any) {
	portions(len(list), func(from, to int) {
		w.exec(oneOf(query, len(first), to-from), slices.Concat(first, list[from:to])...)
	})
}
