package store

import (
	"context"
	"fmt"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// SetDefaultIssuingCA makes an issuing CA, or a founding one, the one that
// issues to devices whose owner names none, or all that there is for another
// purpose. A closed one is refused (Conflict). What is so already stays,
// without a leaf.
func (s *Store) SetDefaultIssuingCA(ctx context.Context, a access.Act, name string) error {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		next, had, err := w.defaults(name)
		if err != nil || next.isDefault(had) {
			return 0, err
		}
		if err := w.alone(approval.CADefault, "another default CA", "touchmark issuer default "+name); err != nil {
			return 0, err
		}
		w.leaf("issuer.default", operatorOf(a), name, w.makeDefault(next, had)...)
		return next.ID, w.reviewIssuers(operatorOf(a))
	})
	return err
}

// defaults are the CA that may become the default and the one that is it now,
// with the ID 0 if that is the founding one.
func (w *writing) defaults(name string) (next, had *issuingRow, err error) {
	if next, err = w.candidate(name); err != nil {
		return nil, nil, err
	}
	had = new(issuingRow)
	w.fetch(`SELECT `+issuingColumns+` FROM issuing_cas ica WHERE ica.state = $1 AND ica.purpose = $2`, []any{string(vetting.IssuingDefault), next.Purpose}, func(r row) error { return r.Scan(had.dest()...) })
	return next, had, w.flush()
}

// isDefault reports whether the CA is the default where had is.
func (i *issuingRow) isDefault(had *issuingRow) bool {
	_, founding := vetting.PurposeOfFounding(i.Name)
	return had.ID == i.ID || had.ID == 0 && founding
}

// makeDefault makes next the default in the place of had.
func (w *writing) makeDefault(next, had *issuingRow) (changed []audit.Object) {
	if had.ID != 0 {
		changed = append(changed, w.become(had, vetting.IssuingOpen))
	}
	if _, founding := vetting.PurposeOfFounding(next.Name); !founding { // which is the default if no other is
		changed = append(changed, w.become(next, vetting.IssuingDefault))
	}
	return changed
}

// candidate is the row of an issuing CA that may become the default; a
// founding CA may have none, and the ID 0.
func (w *writing) candidate(name string) (*issuingRow, error) {
	i, err := w.issuingCA(name)
	if p, founding := vetting.PurposeOfFounding(name); founding && vetting.ProblemOf(err) == vetting.NotFound {
		return &issuingRow{Name: name, Purpose: string(p)}, nil
	}
	if err == nil && i.State == string(vetting.IssuingClosed) {
		err = vetting.Errorf(vetting.Conflict, "the issuing CA %s is closed: reopen it first", name)
	}
	return i, err
}

// CloseIssuingCA has an issuing CA issue no more. While it is the default, or
// an owner names it, that is a Conflict. Of one that has no row yet, which a
// founding CA but the device CA may be, the rest is taken.
func (s *Store) CloseIssuingCA(ctx context.Context, a access.Act, c *vetting.IssuingCA) (*vetting.IssuingCA, error) {
	return s.changeIssuing(ctx, a, c, approval.CAClose)
}

// mayClose refuses to close a CA that somebody needs.
func (w *writing) mayClose(i *issuingRow) error {
	if used, err := w.isDefault(i); err != nil {
		return err
	} else if used {
		return vetting.Errorf(vetting.Conflict, "%s is the CA that issues: make another the default first, with `touchmark issuer default`", i.Name)
	}
	owner, err := w.ownerOf(i.Name)
	if err == nil && owner != "" {
		err = vetting.Errorf(vetting.Conflict, "%s issues to the devices of %s: give that owner another first, with `touchmark owner set-issuer`", i.Name, owner)
	}
	return err
}

// ReopenIssuingCA lets a closed issuing CA issue again.
func (s *Store) ReopenIssuingCA(ctx context.Context, a access.Act, name string) (*vetting.IssuingCA, error) {
	return s.changeIssuing(ctx, a, &vetting.IssuingCA{Name: name}, approval.CAReopen)
}

// issuingStep is what closes or reopens an issuing CA.
type issuingStep struct {
	name string // of the command
	to   vetting.IssuingState
}

var issuingSteps = map[approval.Kind]issuingStep{approval.CAClose: {"close", vetting.IssuingClosed}, approval.CAReopen: {"reopen", vetting.IssuingOpen}}

// changeIssuing closes or reopens an issuing CA. One that is so already stays,
// without a leaf.
func (s *Store) changeIssuing(ctx context.Context, a access.Act, c *vetting.IssuingCA, kind approval.Kind) (*vetting.IssuingCA, error) {
	step := issuingSteps[kind]
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		i, err := w.mayTake(c, step)
		if err != nil || i == nil {
			return 0, err
		}
		if err := w.alone(kind, "to "+step.name+" a CA", "touchmark issuer "+step.name+" "+c.Name); err != nil {
			return 0, err
		}
		changed := w.take(c, i, step)
		w.leaf("issuer."+step.name, operatorOf(a), c.Name, changed)
		return changed.ID, w.reviewIssuers(operatorOf(a))
	})
	if err != nil {
		return nil, err
	}
	return s.IssuingCA(ctx, c.Name)
}

// mayTake finds the row of a CA that may be closed or reopened; nil if it is so
// already. A founding one may have none, and the ID 0.
func (w *writing) mayTake(c *vetting.IssuingCA, step issuingStep) (*issuingRow, error) {
	i, err := w.issuingCA(c.Name)
	if vetting.ProblemOf(err) == vetting.NotFound && c.Purpose != vetting.ForDevices && c.Purpose.FoundingCA() == c.Name {
		i, err = &issuingRow{Name: c.Name, Purpose: string(c.Purpose)}, nil
	}
	if err != nil || (i.State == string(vetting.IssuingClosed)) == (step.to == vetting.IssuingClosed) {
		return nil, err
	}
	if step.to != vetting.IssuingClosed {
		return i, nil
	}
	return i, w.mayClose(i)
}

// take closes or reopens what mayTake found, for a leaf.
func (w *writing) take(c *vetting.IssuingCA, i *issuingRow, step issuingStep) audit.Object {
	if i.ID == 0 {
		i = w.insertIssuing(c)
	}
	return w.become(i, step.to)
}

// isDefault reports whether a CA issues by default: a founding one does as long
// as no other of its purpose is the default.
func (w *writing) isDefault(i *issuingRow) (bool, error) {
	if _, founding := vetting.PurposeOfFounding(i.Name); !founding {
		return i.State == string(vetting.IssuingDefault), nil
	}
	other, err := w.taken(`SELECT 1 FROM issuing_cas WHERE state = $1 AND purpose = $2`, string(vetting.IssuingDefault), i.Purpose)
	return !other, err
}

// ownerOf is an owner that names an issuing CA, "" if none does.
func (w *writing) ownerOf(issuer string) (name string, err error) {
	w.fetch(`SELECT `+ownerColumns+` FROM owners ow ORDER BY ow.id`, nil, func(r row) error {
		var o ownerRow
		if err := r.Scan(o.dest()...); err != nil {
			return err
		}
		owner, err := o.owner()
		if err == nil && owner.Issuer == issuer {
			name = owner.Name
		}
		return err
	})
	err = w.flush()
	return name, err
}

// issues refuses the name of an issuing CA that there is not, or that is
// closed.
func (w *writing) issues(name string) error {
	if name == "" || name == vetting.DeviceCA {
		return nil
	}
	i, err := w.issuingCA(name)
	switch {
	case vetting.ProblemOf(err) == vetting.NotFound:
		return vetting.Errorf(vetting.Invalid, "there is no issuing CA %q: name one that `touchmark issuer list` shows, or create it first", name)
	case err == nil && i.Purpose != string(vetting.ForDevices):
		return vetting.Errorf(vetting.Invalid, "the CA %s issues to %s and not to devices: name another", name, i.Purpose)
	case err == nil && i.State == string(vetting.IssuingClosed):
		return vetting.Errorf(vetting.Invalid, "the issuing CA %s is closed: name another, or reopen it", name)
	}
	return err
}

// SetOwnerIssuer has the devices of an owner get their certificates from
// another issuing CA from now on, "" for the default. It must be there and
// open (Invalid).
func (s *Store) SetOwnerIssuer(ctx context.Context, a access.Act, name, issuer string) (*vetting.Owner, error) {
	id, err := s.act(ctx, a, func(w *writing) (int64, error) {
		have := new(ownerRow)
		w.fetch(`SELECT `+ownerColumns+` FROM owners ow WHERE ow.name = $1`, []any{name}, func(r row) error { return r.Scan(have.dest()...) })
		if err := w.flush(); err != nil {
			return 0, err
		}
		if have.ID == 0 {
			return 0, notFound("owner", name)
		}
		o, err := have.owner()
		if err != nil || o.Issuer == issuer {
			return have.ID, err
		}
		if err := w.issues(issuer); err != nil {
			return 0, err
		}
		o.Issuer = issuer
		have.Body = mustJSON(o)
		w.exec(`UPDATE owners SET body = $2 WHERE id = $1`, have.ID, have.Body)
		w.leaf("owner.issuer", operatorOf(a), fmt.Sprintf("%s: %s", name, issuer), have.object())
		return have.ID, w.reviewIssuers(operatorOf(a))
	})
	if err != nil {
		return nil, err
	}
	s.cache.owners.Delete(id)
	return s.Owner(ctx, name)
}
