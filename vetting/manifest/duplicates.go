package manifest

import (
	"fmt"
	"hash/maphash"
	"io"
	"slices"

	"github.com/touchmark/touchmark/vetting"
)

// kinds are what must be unique within a manifest.
var kinds = [...]struct {
	name string
	of   func(*vetting.Record) string // "" if the record has none
}{
	{"serial", func(r *vetting.Record) string { return r.Serial }},
	{"mac", func(r *vetting.Record) string { return r.MAC }},
	{"uid", func(r *vetting.Record) string { return r.UID }},
	{"bootstrap key", func(r *vetting.Record) string { return string(r.BootstrapKey[:]) }},
}

// census finds identifiers that occur twice in a file too large to hold in
// memory. A first pass keeps a keyed 64-bit hash of each identifier, at most
// 32 bytes per record; hashes that occur twice are suspects. A second pass
// over the file compares only those, exactly, so that a chance collision
// accuses nobody. The key is random, so a file cannot be made to collide.
type census struct {
	seed maphash.Seed
	// hashes are kept in buckets by their first byte: a bucket that grows
	// copies little.
	hashes [len(kinds)][256][]uint64
}

func newCensus() *census { return &census{seed: maphash.MakeSeed()} }

// add takes a record of the first pass.
func (c *census) add(rec *vetting.Record) {
	for k := range kinds {
		if v := value(k, rec); v != "" {
			h := maphash.String(c.seed, v)
			c.hashes[k][h>>56] = append(c.hashes[k][h>>56], h)
		}
	}
}

func value(kind int, rec *vetting.Record) string {
	if kind == 3 && rec.BootstrapKey.IsZero() {
		return ""
	}
	return kinds[kind].of(rec)
}

// suspects are the hashes that occurred more than once.
type suspects struct {
	hashes [len(kinds)]map[uint64]bool
	// extra counts the occurrences beyond each first, capped says that not
	// all suspects are kept, because more than can be listed were found.
	extra  int64
	capped bool
}

func (s *suspects) none() bool { return s.extra == 0 }

// suspects ends the first pass and frees its memory.
func (c *census) suspects() *suspects {
	s := new(suspects)
	for k := range kinds {
		s.hashes[k] = map[uint64]bool{}
		for b := range c.hashes[k] {
			s.collect(k, c.hashes[k][b])
			c.hashes[k][b] = nil
		}
	}
	return s
}

func (s *suspects) collect(kind int, hashes []uint64) {
	slices.Sort(hashes)
	for i := 1; i < len(hashes); i++ {
		if hashes[i] != hashes[i-1] {
			continue
		}
		s.extra++
		if len(s.hashes[kind]) < MaxListed {
			s.hashes[kind][hashes[i]] = true
		} else if !s.hashes[kind][hashes[i]] {
			s.capped = true
		}
	}
}

// confirm makes the second pass over the same file and notes every duplicate
// with both its lines. Where suspects were left out for their number, they
// are counted by their hashes.
func (c *census) confirm(r io.Reader, format vetting.ManifestFormat, s *suspects, errs *LineErrors) error {
	type key struct {
		kind  int
		value string
	}
	first := map[key]int64{}
	var confirmed int64
	var ignored LineErrors // the first pass listed them
	_, err := read(r, format, Rules{}, &ignored, func(_, line int64, rec vetting.Record) error {
		for k := range kinds {
			v := value(k, &rec)
			if v == "" || !s.hashes[k][maphash.String(c.seed, v)] {
				continue
			}
			if before, ok := first[key{k, v}]; ok {
				confirmed++
				errs.add(line, "%s %s is on line %d already", kinds[k].name, show(k, v), before)
			} else {
				first[key{k, v}] = line
			}
		}
		return nil
	})
	if s.capped {
		errs.Total += s.extra - confirmed
	}
	return err
}

func show(kind int, v string) string {
	if kind == 3 {
		return fmt.Sprintf("%x", v)
	}
	return fmt.Sprintf("%q", v)
}

// Check reads a file as [Read] does and also finds duplicates within it, for
// which it reads the file a second time if there is a suspicion. It takes at
// most 32 bytes of memory per record. The result is the number of records,
// or *LineErrors.
func Check(reopen func() (io.ReadCloser, error), format vetting.ManifestFormat, rules Rules) (records int64, err error) {
	r, err := reopen()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	return check(r, reopen, format, rules)
}

// check makes the first pass over r, and the second, if one is needed, over
// what reopen gives then.
func check(r io.Reader, reopen func() (io.ReadCloser, error), format vetting.ManifestFormat, rules Rules) (records int64, err error) {
	var errs LineErrors
	c := newCensus()
	records, err = read(r, format, rules, &errs, func(_, _ int64, rec vetting.Record) error {
		c.add(&rec)
		return nil
	})
	if err != nil {
		return 0, err
	}
	if s := c.suspects(); !s.none() {
		again, err := reopen()
		if err != nil {
			return 0, err
		}
		defer again.Close()
		if err := c.confirm(again, format, s, &errs); err != nil {
			return 0, err
		}
	}
	return records, errs.result()
}
