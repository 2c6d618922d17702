// Package release says what a firmware release is, which states it goes
// through, and which keys may sign for it. It is pure: no database, no clock,
// no key.
//
// What people approve, and what signatures over a whole release are made of
// (timestamps, ML-DSA, the targets of a TUF repository), is the [Statement]:
// its canonical JSON is [Statement.Bytes]. It is fixed when a release is
// proposed, before anything is signed, so the digests of signed files are not
// in it; those stand in [Artefact.Signed] once they are known.
package release

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// State is where a release stands.
type State string

// The states, in their order. Nothing leads back.
const (
	Draft     State = "draft"     // artefacts and documents are added
	Approved  State = "approved"  // the statement is what was agreed to
	Signed    State = "signed"    // every artefact has its signatures
	Published State = "published" // every signed file was verified
	Yanked    State = "yanked"    // nobody should install it any more
)

// States lists every state.
var States = []State{Draft, Approved, Signed, Published, Yanked}

// Release is one firmware version of a product.
type Release struct {
	ID      int64  `json:"id" doc:"The release's number"`
	Product string `json:"product" doc:"The product's name"`
	Version string `json:"version" doc:"The version"`
	// Counter is what a bootloader compares so that old images with holes do
	// not come back. It is chosen, never taken from the version.
	Counter     uint32     `json:"counter" doc:"The security counter"`
	SupportEnd  string     `json:"supportEnd" doc:"The last day on which the release is supported, as 2031-12-31"`
	Maintenance bool       `json:"maintenance,omitempty" doc:"Whether it is for an older line, and its version may be below one that was published"`
	Note        string     `json:"note,omitempty" doc:"A few words for people"`
	State       State      `json:"state" enum:"draft,approved,signed,published,yanked" doc:"Where it stands"`
	Revision    int64      `json:"revision" doc:"Grows with every change"`
	Proposal    int64      `json:"proposal,omitempty" doc:"The number of the proposal by which it was last submitted for approval; absent if it never was"`
	Artefacts   []Artefact `json:"artefacts" nullable:"false" doc:"The files that it consists of"`
	Documents   []Document `json:"documents" nullable:"false" doc:"SBOM and provenance"`
	By          string     `json:"by" doc:"The operator who created it"`
	Created     time.Time  `json:"created" doc:"When it was created"`
	Approved    time.Time  `json:"approved,omitzero" doc:"When it was approved; absent if it was not"`
	Published   time.Time  `json:"published,omitzero" doc:"When it was published; absent if it was not"`
	Yanked      time.Time  `json:"yanked,omitzero" doc:"When it was yanked; absent if it was not"`
	YankReason  string     `json:"yankReason,omitempty" doc:"Why it was yanked"`
}

// Name is how people call a release: product@version.
func (r *Release) Name() string { return r.Product + "@" + r.Version }

// File is a file by what it holds.
type File struct {
	Size   int64  `json:"size" minimum:"1" doc:"Its length in bytes"`
	SHA256 string `json:"sha256" pattern:"^[0-9a-f]{64}$" doc:"Its SHA-256 in hexadecimal"`
}

// Artefact is one file of a release: what it is, how it is signed, and what
// became of it.
type Artefact struct {
	ID         int64             `json:"id" doc:"The artefact's number, which is the ticket to collect its signatures with"`
	Release    int64             `json:"release" doc:"The number of the release that it belongs to"`
	Stage      Stage             `json:"stage" enum:"test,production" doc:"Which keys sign it"`
	Name       string            `json:"name" doc:"The file's name"`
	Format     string            `json:"format" doc:"The format of the signed file"`
	Parameters map[string]string `json:"parameters" doc:"What the format was told"`
	Source     File              `json:"source" doc:"The file before it is signed"`
	Keys       []string          `json:"keys" nullable:"false" doc:"The names of the keys that sign it"`
	// ToSign are the signatures that are wanted. Nothing else is ever signed
	// for the artefact.
	ToSign     []firmwaresign.ToSign `json:"toSign" nullable:"false" doc:"What is to be signed"`
	Signatures [][]byte              `json:"signatures,omitempty" doc:"The signatures, in the order of toSign; absent while there are none"`
	// Imported are signatures by offline keys while others are still missing.
	Imported []ImportedSignature `json:"imported,omitempty" doc:"The signatures that offline keys made, while others are still missing"`
	Signed   *File               `json:"signed,omitempty" doc:"The signed file, or the file with the signature; absent until it was verified"`
	Checks   []Check             `json:"checks,omitempty" doc:"How the signed file was verified"`
	By       string              `json:"by" doc:"The operator who handed it in"`
	Created  time.Time           `json:"created" doc:"When it was handed in"`
}

// Check is one verification of a signed file that succeeded.
type Check struct {
	Program string `json:"program" minLength:"1" maxLength:"100" doc:"What verified it"`
	Version string `json:"version,omitempty" maxLength:"200" doc:"The version of that"`
}

// Kinds of documents.
const (
	SBOM       = "sbom"
	Provenance = "provenance"
)

// Document is one that belongs to a release, by its digest.
type Document struct {
	Kind   string `json:"kind" enum:"sbom,provenance" doc:"What it is"`
	Format string `json:"format" enum:"cyclonedx,spdx,slsa" doc:"The document's format, as it was recognized"`
	File
}

var (
	versionForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+~_-]{0,62}$`)
	nameForm    = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+~_-]{0,127}$`)
)

// Check reports the first thing wrong with what a release was created with.
func (r *Release) Check() error {
	if !versionForm.MatchString(r.Version) {
		return fmt.Errorf("the version %q: use 1 to 63 letters, digits and . + ~ _ -, beginning with a letter or digit", r.Version)
	}
	if _, err := time.Parse(time.DateOnly, r.SupportEnd); err != nil {
		return fmt.Errorf("the end of support %q: write it as 2031-12-31", r.SupportEnd)
	}
	return nil
}

// state wants a release to be in one of the states.
func (r *Release) state(what string, want ...State) error {
	if slices.Contains(want, r.State) {
		return nil
	}
	return fmt.Errorf("release %s is %s: %s", r.Name(), r.State, what)
}

// Edit says whether artefacts and documents may be added or replaced.
func (r *Release) Edit() error {
	return r.state("only a draft can be changed; create another version", Draft)
}

// Artefact is the one of a name, nil if there is none.
func (r *Release) Artefact(name string) *Artefact {
	for i := range r.Artefacts {
		if r.Artefacts[i].Name == name {
			return &r.Artefacts[i]
		}
	}
	return nil
}

// Complete says what a draft lacks to be approved.
func (r *Release) Complete() error {
	if err := r.state("only a draft is submitted for approval", Draft); err != nil {
		return err
	}
	if len(r.Artefacts) == 0 {
		return fmt.Errorf("release %s has no artefact yet: hand one in with firmware sign --stage production", r.Name())
	}
	for _, kind := range []string{SBOM, Provenance} {
		if !slices.ContainsFunc(r.Documents, func(d Document) bool { return d.Kind == kind }) {
			return fmt.Errorf("release %s has no %s: production keys sign nothing without it; add it with firmware release attach", r.Name(), kind)
		}
	}
	return nil
}

// Approve makes a complete draft approved.
func (r *Release) Approve(now time.Time) error {
	if err := r.Complete(); err != nil {
		return err
	}
	r.State, r.Approved = Approved, now
	return nil
}

// Advance makes an approved release signed when its last artefact is.
func (r *Release) Advance() {
	missing := func(a Artefact) bool { return len(a.Signatures) == 0 }
	if r.State == Approved && !slices.ContainsFunc(r.Artefacts, missing) {
		r.State = Signed
	}
}

// Publish makes a signed release published, if every signed file was
// verified.
func (r *Release) Publish(now time.Time) error {
	if err := r.state("only a release of which all artefacts are signed is published", Signed); err != nil {
		return err
	}
	for _, a := range r.Artefacts {
		if a.Signed == nil || len(a.Checks) == 0 {
			return fmt.Errorf("nobody has verified the signed file of %s yet: collect it with touchmark firmware collect %d", a.Name, a.ID)
		}
	}
	r.State, r.Published = Published, now
	return nil
}

// Yank takes a release back, whether it is published or on the way there.
func (r *Release) Yank(reason string, now time.Time) error {
	if err := r.state("only what was approved can be yanked", Approved, Signed, Published); err != nil {
		return err
	}
	r.State, r.Yanked, r.YankReason = Yanked, now, reason
	return nil
}
