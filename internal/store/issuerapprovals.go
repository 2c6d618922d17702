package store

import (
	"bytes"
	"cmp"
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// issuerKinds are the acts on CAs below the root.
var issuerKinds = []approval.Kind{approval.CACreate, approval.CADefault, approval.CAClose, approval.CAReopen}

// ProposeIssuer asks others to agree to an act on a CA below the root, of which
// c has name, purpose, subject, key and certificate. An act that needs nobody's
// approval, or is not possible, is a Conflict.
func (s *Store) ProposeIssuer(ctx context.Context, a access.Act, kind approval.Kind, c *vetting.IssuingCA, note string) (*approval.Proposal, error) {
	return s.proposed(ctx, a, func(w *writing) (*approval.Proposal, error) {
		wanted, err := w.wants(kind)
		if err != nil {
			return nil, err
		}
		st := vetting.IssuerStatement{Issuer: c.Name, Purpose: cmp.Or(string(c.Purpose), "devices"), Key: c.Key.String(), Subject: c.Subject, Certificate: c.Certificate}
		if kind == approval.CADefault {
			if st.Instead, err = w.defaultOf(c.Purpose); err != nil {
				return nil, err
			}
		}
		if _, err := w.issuerAct(kind, &st); err != nil {
			return nil, err
		}
		return w.propose(a, approval.Act{Kind: kind, Subject: c.Name, Note: note, Wanted: wanted, Statement: st})
	})
}

// defaultOf is the name of the CA that is the default for a purpose.
func (w *writing) defaultOf(p vetting.Purpose) (string, error) {
	had := new(issuingRow)
	w.fetch(`SELECT `+issuingColumns+` FROM issuing_cas ica WHERE ica.state = $1 AND ica.purpose = $2`, []any{string(vetting.IssuingDefault), string(p)}, func(r row) error { return r.Scan(had.dest()...) })
	err := w.flush()
	return cmp.Or(had.Name, p.FoundingCA()), err
}

// issuerAct says how the act of a statement is carried out, and why it cannot
// be.
func (w *writing) issuerAct(kind approval.Kind, st *vetting.IssuerStatement) (do func() []audit.Object, err error) {
	c := issuingOf(st)
	switch kind {
	case approval.CACreate:
		return func() []audit.Object { return []audit.Object{w.insertIssuing(c).object()} }, w.mayCreate(c)
	case approval.CADefault:
		next, had, err := w.defaults(c.Name)
		switch {
		case err != nil:
			return nil, err
		case next.isDefault(had):
			return nil, vetting.Errorf(vetting.Conflict, "%s is the default already", c.Name)
		case cmp.Or(had.Name, c.Purpose.FoundingCA()) != st.Instead:
			return nil, vetting.Errorf(vetting.Conflict, "the default is another by now than %s", st.Instead)
		}
		return func() []audit.Object { return w.makeDefault(next, had) }, sameIssuer(next, c)
	}
	step := issuingSteps[kind]
	i, err := w.mayTake(c, step)
	if err == nil && i == nil {
		err = vetting.Errorf(vetting.Conflict, "there is nothing to %s: %s is so already", step.name, c.Name)
	}
	if err != nil {
		return nil, err
	}
	return func() []audit.Object { return []audit.Object{w.take(c, i, step)} }, sameIssuer(i, c)
}

// sameIssuer refuses a CA that has another certificate than it had. Those of
// founding CAs are in files.
func sameIssuer(have *issuingRow, c *vetting.IssuingCA) error {
	_, founding := vetting.PurposeOfFounding(have.Name)
	if !founding && (!bytes.Equal(have.Key, c.Key[:]) || !bytes.Equal(have.Certificate, c.Certificate)) {
		return vetting.Errorf(vetting.Conflict, "the CA %s has another certificate by now", c.Name)
	}
	return nil
}

// issuingOf is the CA that a statement is about.
func issuingOf(st *vetting.IssuerStatement) *vetting.IssuingCA {
	c := &vetting.IssuingCA{Name: st.Issuer, Subject: st.Subject, Certificate: st.Certificate}
	if st.Purpose != "devices" {
		c.Purpose = vetting.Purpose(st.Purpose)
	}
	if err := c.Key.UnmarshalText([]byte(st.Key)); err != nil {
		return &vetting.IssuingCA{Name: st.Issuer} // which no CA is
	}
	return c
}

// carryIssuer does to a CA what was approved.
func carryIssuer(w *writing, p *approval.Proposal) ([]audit.Object, error) {
	do, err := w.approvedIssuer(p)
	if err != nil {
		return nil, err
	}
	return do(), w.reviewIssuers(carrier(p))
}

func (w *writing) approvedIssuer(p *approval.Proposal) (do func() []audit.Object, err error) {
	var st vetting.IssuerStatement
	if err := p.Read(&st); err != nil {
		return nil, err
	}
	do, err = w.issuerAct(p.Kind, &st)
	if problem := vetting.ProblemOf(err); problem != 0 {
		err = vetting.Errorf(vetting.Conflict, "%v", err)
	}
	return do, err
}

// reviewIssuers ends the proposals about CAs that could not be carried out any
// more.
func (w *writing) reviewIssuers(by string) error {
	list, err := w.proposals(`pr.kind IN ($1, $2, $3, $4) AND pr.state = $5 AND pr.expires > $6`,
		string(issuerKinds[0]), string(issuerKinds[1]), string(issuerKinds[2]), string(issuerKinds[3]), string(approval.Pending), micros(w.now))
	if err != nil {
		return err
	}
	for _, p := range list {
		_, err := w.approvedIssuer(p)
		if vetting.ProblemOf(err) == vetting.Conflict {
			err = w.voidProposals(by, p.Kind, p.Subject, err.Error())
		}
		if err != nil {
			return err
		}
	}
	return nil
}
