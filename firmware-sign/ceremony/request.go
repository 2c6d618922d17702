// Package ceremony has offline keys sign releases: keys that no server
// reaches, in a vault, on a machine without a network.
//
// A [Request] is a file that goes there. What is to be signed stands in it
// once: in the terms that people approved, each by a signature below the root.
// So whoever holds the key needs the root certificate, and trusts no server.
// [Request.Open] verifies all that; what it returns signs, and the
// [release.Response] goes back, where each signature is verified again.
package ceremony

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/catalogue"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/approval"
)

// RequestType names this form of requests.
const RequestType = "touchmark/firmware-request/1"

// MaxRequest is the longest request or response that is read, in bytes.
const MaxRequest = 4 << 20

// Request asks for the signatures of a release that was approved.
type Request struct {
	Type string `json:"type"`
	// Approval has the release's statement in its terms: every digest that is
	// to be signed, and the keys.
	Approval *approval.Bundle `json:"approval"`
	// Keys are all that the statement names.
	Keys []Key `json:"keys"`
}

// Key is a key by its name and certificate.
type Key struct {
	Name        string   `json:"name"`
	Certificate []byte   `json:"certificate"` // DER
	Chain       [][]byte `json:"chain"`       // the CAs above it without the root, DER
	Offline     bool     `json:"offline"`     // whether the server has it not
}

// ReadRequest reads a request. It does not verify it.
func ReadRequest(from io.Reader) (*Request, error) {
	r := new(Request)
	if err := read(from, r); err != nil {
		return nil, fmt.Errorf("this is not a request for signatures: %w", err)
	}
	switch {
	case r.Type != RequestType:
		return nil, fmt.Errorf("the request is of the type %q: want %s", r.Type, RequestType)
	case r.Approval == nil:
		return nil, errors.New("the request has no approval")
	}
	bundle, err := json.Marshal(r.Approval) // ReadBundle bounds it
	if err == nil {
		_, err = approval.ReadBundle(bundle)
	}
	return r, err
}

// ReadResponse reads a response. It does not verify it.
func ReadResponse(from io.Reader) (*release.Response, error) {
	r := new(release.Response)
	if err := read(from, r); err != nil {
		return nil, fmt.Errorf("this is not a response with signatures: %w", err)
	}
	if r.Type != release.ResponseType {
		return nil, fmt.Errorf("the response is of the type %q: want %s", r.Type, release.ResponseType)
	}
	return r, nil
}

func read(from io.Reader, into any) error {
	text, err := io.ReadAll(io.LimitReader(from, MaxRequest+1))
	if err != nil {
		return err
	}
	if len(text) > MaxRequest {
		return fmt.Errorf("it is longer than %d bytes", MaxRequest)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON")
	}
	return nil
}

// Approved is a request that was verified.
type Approved struct {
	*approval.Verified
	Statement release.Statement
	keys      []key
}

// key is a key of the statement.
type key struct {
	name    string
	offline bool
	catalogue.Signer
}

// Open verifies a request below the root: that so many operators as the
// proposal wanted approved the statement, and that each key it names was
// certified for its product. The function may says whether a role approves
// such acts.
func (r *Request) Open(root *x509.Certificate, may func(approval.Approver, approval.Kind) bool) (*Approved, error) {
	v, err := r.Approval.Verify(root)
	if err != nil {
		return nil, fmt.Errorf("the approval: %w", err)
	}
	a := &Approved{Verified: v}
	if a.Statement, err = statement(v.Terms); err != nil {
		return nil, err
	}
	last := v.Terms.At
	for _, by := range v.Approvers {
		if !may(by, v.Terms.Kind) {
			return nil, fmt.Errorf("the approval: %s has the role %s, which does not approve releases", by.Name, by.Role)
		}
		if by.At.After(last) {
			last = by.At
		}
	}
	for _, k := range r.Keys {
		known, err := k.check(root, a.Statement.Product, last)
		if err != nil {
			return nil, fmt.Errorf("the key %q: %w", k.Name, err)
		}
		if a.key(k.Name) != nil {
			return nil, fmt.Errorf("the key %q stands in the request twice", k.Name)
		}
		a.keys = append(a.keys, *known)
	}
	return a, a.complete()
}

// statement is what was approved.
func statement(t *approval.Terms) (s release.Statement, err error) {
	if t.Kind != approval.ReleaseApprove {
		return s, fmt.Errorf("what was approved is %s of %s, and no release", t.Kind, t.Subject)
	}
	var st release.ApproveStatement
	if err := t.Read(&st); err != nil {
		return s, err
	}
	s = st.Statement
	switch name := s.Product + "@" + s.Version; {
	case s.Type != release.StatementType:
		return s, fmt.Errorf("the statement is of the type %q: want %s", s.Type, release.StatementType)
	case t.Subject != name:
		return s, fmt.Errorf("the proposal is about %s, and its statement about %s", t.Subject, name)
	}
	return s, nil
}

// check wants the key's certificate by a CA below the root, for code, with the
// key's name and product, and valid when the last approval was given: clocks in
// vaults are often wrong.
func (k *Key) check(root *x509.Certificate, product string, at time.Time) (*key, error) {
	cert, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		return nil, fmt.Errorf("its certificate: %w", err)
	}
	known := &key{k.Name, k.Offline, catalogue.Signer{Public: cert.PublicKey, Certificate: cert}}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, der := range k.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("the certificates above its own: %w", err)
		}
		known.Chain = append(known.Chain, c)
		between.AddCert(c)
	}
	_, err = cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}})
	switch {
	case err != nil:
		return nil, err
	case cert.Subject.CommonName != k.Name || !slices.Equal(cert.Subject.OrganizationalUnit, []string{product}):
		return nil, fmt.Errorf("its certificate is that of %q: want the name of the key, and the product %s as organizational unit", cert.Subject, product)
	}
	return known, nil
}

func (a *Approved) key(name string) *key {
	n := slices.IndexFunc(a.keys, func(k key) bool { return k.name == name })
	if n < 0 {
		return nil
	}
	return &a.keys[n]
}

// complete wants every signature of the statement to be one of a key that its
// artefact names, and that the request has.
func (a *Approved) complete() error {
	for _, part := range a.Statement.Artefacts {
		signers, err := a.signers(part)
		if err != nil {
			return err
		}
		for i, want := range part.ToSign {
			if !slices.ContainsFunc(signers, func(s catalogue.Signer) bool {
				return bytes.Equal(s.Certificate.RawSubjectPublicKeyInfo, want.PublicKey)
			}) {
				return fmt.Errorf("signature %d of %s is wanted from a key that %s does not name", i+1, part.Name, part.Name)
			}
		}
	}
	return nil
}

// signers are the keys of an artefact, in its order.
func (a *Approved) signers(part release.StatementArtefact) ([]catalogue.Signer, error) {
	var list []catalogue.Signer
	for _, name := range part.Keys {
		k := a.key(name)
		if k == nil {
			return nil, fmt.Errorf("the request lacks the key %s, which signs %s: export it again", name, part.Name)
		}
		list = append(list, k.Signer)
	}
	return list, nil
}
