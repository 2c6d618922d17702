// Package manifest takes in the signed lists of manufacturing records that
// sites hand in.
//
// A manifest is a file of records in JSON Lines or CSV ([Read]), signed as it
// is, byte for byte, by site operators with detached CMS signatures. The
// [Importer] streams a file once from the wire into the store, checks every
// line and every signature meanwhile, and accepts it whole or not at all;
// afterwards it loads the records from the stored file, in chunks that a
// crash cannot lose or double.
package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/touchmark/touchmark/vetting"
)

// Bounds of a manifest file.
const (
	MaxLine    = 64 << 10   // bytes of one line, or of one CSV record over several lines
	MaxDepth   = 32         // nesting of JSON within a record
	MaxRecords = 10_000_000 // records in one file
	MaxListed  = 10_000     // broken lines that are listed one by one
)

// maxText bounds the text on one broken line, in bytes.
const maxText = 300

// Signature is one site operator's verified signature over a manifest.
type Signature struct {
	Operator string
	DER      []byte // the CMS message, as handed in but for a PEM armour
	At       time.Time
}

// Rules is what a manifest must keep to beyond its form.
type Rules struct {
	// Order and Product must agree with the columns "order" and "product",
	// where a record has them; "" agrees with anything.
	Order, Product string
	// Identifiers confines the records; nil allows all.
	Identifiers *vetting.IdentifierSet
	// NeedKey asks for a bootstrap key in each record.
	NeedKey bool

	maxRecords int64 // 0 means MaxRecords
}

// RulesFor gives the rules for an order's manifests.
func RulesFor(o *vetting.Order, p *vetting.Product) (Rules, error) {
	set, err := o.Identifiers.Compile()
	if err != nil {
		return Rules{}, fmt.Errorf("identifiers of order %s: %w", o.Name, err)
	}
	return Rules{
		Order: o.Name, Product: o.Product, Identifiers: set,
		NeedKey: !slices.ContainsFunc(p.Proofs, func(proof vetting.Proof) bool { return proof != vetting.ProofBootstrapKey }),
	}, nil
}

var errNoKey = errors.New("the record has no bootstrap key, without which no device of this product can enrol: give bootstrapKey, bootstrapCertificate or bootstrapPublicKey")

func (r Rules) check(w *row, rec *vetting.Record) error {
	for _, f := range [...]struct{ column, got, want string }{
		{"order", w.get("order"), r.Order}, {"product", w.get("product"), r.Product},
	} {
		if f.got != "" && f.want != "" && f.got != f.want {
			return fmt.Errorf("the record is for %s %q, but the manifest is handed in for %s %q", f.column, f.got, f.column, f.want)
		}
	}
	if r.NeedKey && rec.BootstrapKey.IsZero() {
		return errNoKey
	}
	if r.Identifiers != nil {
		return r.Identifiers.Allows(rec.Identity)
	}
	return nil
}

// LineError is one thing wrong in a manifest.
type LineError struct {
	Line int64  `json:"line"` // counted from 1; where a CSV record begins
	Text string `json:"text"`
}

// LineErrors lists what is wrong in a manifest, by line. It is a
// [vetting.Invalid] problem.
type LineErrors struct {
	// List holds the first MaxListed findings in the order of their lines,
	// Total counts them all.
	List  []LineError `json:"errors"`
	Total int64       `json:"total"`
}

func (e *LineErrors) Error() string {
	const shown = 10
	var b strings.Builder
	fmt.Fprintf(&b, "the manifest was not taken in for %d errors", e.Total)
	for i, l := range e.List {
		if i == shown {
			fmt.Fprintf(&b, "; and %d more", e.Total-shown)
			break
		}
		fmt.Fprintf(&b, "; line %d: %s", l.Line, l.Text)
	}
	return b.String()
}

// Unwrap gives the same as a *vetting.Error.
func (e *LineErrors) Unwrap() error { return vetting.Errorf(vetting.Invalid, "%s", e.Error()) }

// add notes a finding.
func (e *LineErrors) add(line int64, format string, args ...any) {
	e.Total++
	if len(e.List) < MaxListed {
		e.List = append(e.List, LineError{line, clip(fmt.Sprintf(format, args...))})
	}
}

// result gives nil if nothing was found.
func (e *LineErrors) result() error {
	if e.Total == 0 {
		return nil
	}
	slices.SortStableFunc(e.List, func(a, b LineError) int { return cmp.Compare(a.Line, b.Line) })
	return e
}

// clip shortens a text that quotes too much of a line.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	cut := maxText
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
