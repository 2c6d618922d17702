package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// StatementType names this form of statements.
const StatementType = "touchmark/release/1"

// Statement is all of a release that counts: what is approved, and what may be
// signed. Its form never changes; another form has another type.
type Statement struct {
	Type        string              `json:"type"`
	Product     string              `json:"product"`
	Version     string              `json:"version"`
	Counter     uint32              `json:"counter"`
	SupportEnd  string              `json:"supportEnd"`
	Maintenance bool                `json:"maintenance"`
	Artefacts   []StatementArtefact `json:"artefacts"`
	Documents   []Document          `json:"documents"`
}

// StatementArtefact is one file in a statement.
type StatementArtefact struct {
	Name       string                `json:"name"`
	Format     string                `json:"format"`
	Parameters map[string]string     `json:"parameters"`
	Source     File                  `json:"source"`
	Keys       []string              `json:"keys"`
	ToSign     []firmwaresign.ToSign `json:"toSign"`
}

// Statement is what the release is now.
func (r *Release) Statement() Statement {
	s := Statement{
		Type: StatementType, Product: r.Product, Version: r.Version, Counter: r.Counter, SupportEnd: r.SupportEnd, Maintenance: r.Maintenance,
		Artefacts: []StatementArtefact{}, Documents: append([]Document{}, r.Documents...),
	}
	for _, a := range r.Artefacts {
		s.Artefacts = append(s.Artefacts, StatementArtefact{a.Name, a.Format, a.Parameters, a.Source, a.Keys, a.ToSign})
	}
	return s
}

// Bytes is the canonical JSON of a statement (RFC 8785): members sorted by
// name, no white space, no needless escapes. Artefacts and documents stay in
// the order in which they came.
func (s Statement) Bytes() []byte {
	var tree any
	d := json.NewDecoder(bytes.NewReader(plain(s)))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil { // it was written here
		panic(fmt.Sprintf("release: statement: %v", err))
	}
	return plain(tree) // maps are written sorted
}

// plain marshals without the escapes that are for HTML.
func plain(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil { // plain values always marshal
		panic(fmt.Sprintf("release: statement: %v", err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Digest is the SHA-256 of the canonical JSON.
func (s Statement) Digest() [sha256.Size]byte { return sha256.Sum256(s.Bytes()) }

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
