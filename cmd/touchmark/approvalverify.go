package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
)

// verifiedBundle is what a bundle of approvals proves.
type verifiedBundle struct {
	Terms     *approval.Terms     `json:"proposal"`
	Approvers []approval.Approver `json:"approvers"`
	// Logged is when the log has the act carried out; zero if that was not
	// asked for.
	Logged time.Time `json:"logged,omitzero"`
}

func (v *verifiedBundle) show(w io.Writer) {
	fmt.Fprintf(w, "verified\tthe proposal has the approvals that it wants\n")
	showTerms(w, v.Terms)
	for _, a := range v.Approvers {
		field(w, "approved by", fmt.Sprintf("%s (%s) at %s", a.Name, a.Role, text(a.At)))
	}
	field(w, "in the log", v.Logged)
}

func readBundle(file string) (*approval.Bundle, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, approval.MaxBundle+1))
	if err != nil {
		return nil, err
	}
	b, err := approval.ReadBundle(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return b, nil
}

// verifyBundle verifies a bundle, and that the roles of those who signed
// approve such acts.
func verifyBundle(b *approval.Bundle, root *x509.Certificate) (*approval.Verified, error) {
	v, err := b.Verify(root)
	if err != nil {
		return nil, err
	}
	for _, a := range v.Approvers {
		if o := (&access.Operator{Role: access.Role(a.Role)}); !o.MayApprove(v.Terms.Kind) {
			return nil, fmt.Errorf("%s has the role %s, which does not approve proposals of the kind %s", a.Name, a.Role, v.Terms.Kind)
		}
	}
	return v, nil
}

// proveBundle checks the log's proof in a bundle, and tells when the act was
// carried out.
func proveBundle(b *approval.Bundle, v *approval.Verified, verifier string) (at time.Time, err error) {
	if b.Proof == nil {
		return at, errors.New("the bundle has no proof from the log: export it again once a checkpoint covers the last approval")
	}
	key, err := readVerifier(verifier)
	if err != nil {
		return at, err
	}
	proof, err := audit.ParseProof(b.Proof)
	if err != nil {
		return at, err
	}
	leaf, _, err := proof.Check(key)
	switch {
	case err != nil:
		return at, err
	case leaf.Act != approval.ActCarryOut || leaf.Note != v.Terms.LogNote(b.Envelope.Payload):
		return at, fmt.Errorf("leaf %d is in the log, but it does not record that this proposal was carried out", proof.Index)
	case !leaf.Time.Before(v.Terms.Expires):
		return at, fmt.Errorf("the log has it carried out at %s, and the proposal expired at %s", leaf.Time.Format(time.RFC3339), v.Terms.Expires.Format(time.RFC3339))
	}
	return leaf.Time, nil
}
