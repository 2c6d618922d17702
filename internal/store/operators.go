package store

import (
	"bytes"
	"context"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

type operatorRow struct {
	ID         int64
	Name, Role string
	SiteID     int64
	Key        []byte
	Created    int64
	Revoked    int64
	OwnerID    int64  `json:",omitempty"` // these came later than the others, so are absent from their digests
	Issuer     string `json:",omitempty"` // "" is the founding CA
	NotAfter   int64  `json:",omitempty"`
	Trust      string `json:",omitempty"` // the access.Trust of a workload as JSON
}

func (o *operatorRow) dest() []any {
	return []any{&o.ID, &o.Name, &o.Role, &o.SiteID, &o.Key, &o.Created, &o.Revoked, &o.OwnerID, &o.Issuer, &o.NotAfter, &o.Trust}
}

func (o *operatorRow) object() audit.Object {
	return audit.Object{Kind: audit.KindOperator, ID: o.ID, Digest: audit.DigestOf(o)}
}

const operatorColumns = `op.id, op.name, op.role, op.site_id, op.key, op.created, op.revoked, op.owner_id, op.issuer, op.not_after, op.trust`

func (s *Store) operators(ctx context.Context, where string, args ...any) (list []*access.Operator, err error) {
	err = s.db.query(ctx, `SELECT `+operatorColumns+`, COALESCE(s.name, ''), COALESCE(ow.name, '') FROM operators op
		LEFT JOIN sites s ON s.id = op.site_id LEFT JOIN owners ow ON ow.id = op.owner_id WHERE `+where, args, func(r row) error {
		var o operatorRow
		var site, owner string
		if err := r.Scan(append(o.dest(), &site, &owner)...); err != nil {
			return err
		}
		out, err := o.operator()
		if err != nil {
			return err
		}
		out.Site, out.Owner = site, owner
		list = append(list, out)
		return nil
	})
	return list, err
}

// operator is the row without the names of site and owner.
func (o *operatorRow) operator() (out *access.Operator, err error) {
	out = &access.Operator{ID: o.ID, Name: o.Name, Role: access.Role(o.Role), SiteID: o.SiteID,
		Created: fromMicros(o.Created), Revoked: fromMicros(o.Revoked), Issuer: o.issuer(), NotAfter: fromMicros(o.NotAfter)}
	if out.Trust, err = o.trust(); out.Trust != nil {
		out.Issuer = "" // there is no newest certificate
	} else {
		copy(out.Key[:], o.Key)
	}
	return out, err
}

// issuer is the CA of the newest certificate.
func (o *operatorRow) issuer() string {
	switch {
	case o.Issuer != "":
		return o.Issuer
	case access.Role(o.Role).OfSite():
		return vetting.FactoryCA
	}
	return vetting.OperatorCA
}

// certified enters the newest certificate.
func (o *operatorRow) certified(issuer string, notAfter time.Time) {
	o.Issuer, o.NotAfter = issuer, micros(notAfter)
	if _, founding := vetting.PurposeOfFounding(issuer); founding {
		o.Issuer = ""
	}
}

func (s *Store) operator(ctx context.Context, where string, arg, name any) (*access.Operator, error) {
	list, err := s.operators(ctx, where, arg)
	return theOne(list, err, "operator", name)
}

// Operators lists operators by ID.
func (s *Store) Operators(ctx context.Context, p vetting.Page) ([]*access.Operator, error) {
	return s.operators(ctx, `op.id > $1 ORDER BY op.id LIMIT $2`, p.After, limit(p))
}

// Operator returns an operator by name, or a NotFound error.
func (s *Store) Operator(ctx context.Context, name string) (*access.Operator, error) {
	return s.operator(ctx, `op.name = $1`, name, name)
}

// OperatorByKey returns the operator who holds a key, revoked or not, or a
// NotFound error. What another server on the same database changed is seen
// within a second, what this one changed at once.
func (s *Store) OperatorByKey(ctx context.Context, key vetting.Fingerprint) (*access.Operator, error) {
	if o := s.cache.operator(key); o != nil {
		return o, nil
	}
	began := time.Now()
	o, err := s.operator(ctx, `op.key = $1 AND op.trust = ''`, key[:], "with the key "+key.String())
	if vetting.ProblemOf(err) == vetting.NotFound {
		o, err = s.workloadByKey(ctx, key)
	}
	if err == nil {
		s.cache.keepOperator(o, began)
	}
	return o, err
}

// CreateOperator keeps a new operator; name and key must be free (Exists),
// site and owner must exist (NotFound). Where others must agree to one with such
// a role, that is a Conflict: see ProposeOperator.
func (s *Store) CreateOperator(ctx context.Context, a access.Act, o *access.Operator) (*access.Operator, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		if o.May(access.Approve) {
			if err := w.alone(approval.OperatorAdd, "a new "+string(o.Role), "touchmark operator add "+o.Name); err != nil {
				return 0, err
			}
		}
		return w.createOperator(a, o)
	})
	if err != nil {
		return nil, err
	}
	return s.Operator(ctx, o.Name)
}

func (w *writing) createOperator(a access.Act, o *access.Operator) (int64, error) {
	row, err := w.insertOperator(o)
	if err != nil {
		return 0, err
	}
	w.leaf("operator.create", operatorOf(a), o.Name+" as "+row.Role, row.object())
	return row.ID, nil
}

// isFree refuses an operator whose name or key is another's.
func (w *writing) isFree(o *access.Operator) error {
	if used, err := w.taken(`SELECT 1 FROM operators WHERE name = $1`, o.Name); err != nil || used {
		return orExists(err, "operator", o.Name)
	}
	if used, err := w.taken(`SELECT 1 FROM operators WHERE key = $1`, o.Key[:]); err != nil || used {
		return orExists(err, "operator with the key", o.Key.String())
	}
	if used, err := w.taken(`SELECT 1 FROM operator_logins WHERE key = $1`, o.Key[:]); err != nil || used {
		return orExists(err, "operator with the key", o.Key.String())
	}
	return nil
}

func (w *writing) insertOperator(o *access.Operator) (*operatorRow, error) {
	if err := w.isFree(o); err != nil {
		return nil, err
	}
	row := &operatorRow{Name: o.Name, Role: string(o.Role), Key: o.Key[:], Created: micros(w.now)}
	if o.Trust != nil {
		key := access.WorkloadKey(o.Name)
		row.Key, row.Trust = key[:], mustJSON(o.Trust)
	}
	if o.Site != "" {
		var err error
		if row.SiteID, err = w.idOf("site", "sites", o.Site); err != nil {
			return nil, err
		}
	}
	if o.Owner != "" {
		var err error
		if row.OwnerID, err = w.idOf("owner", "owners", o.Owner); err != nil {
			return nil, err
		}
	}
	row.ID = w.ids(1)
	row.certified(o.Issuer, o.NotAfter)
	w.exec(`INSERT INTO operators (id, name, role, site_id, key, created, revoked, owner_id, issuer, not_after, trust) VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, $9, $10)`,
		row.ID, row.Name, row.Role, row.SiteID, row.Key, row.Created, row.OwnerID, row.Issuer, row.NotAfter, row.Trust)
	return row, nil
}

// RevokeOperator takes an operator's rights away, at once and for good.
// Revoking again changes nothing. What the operator approved and was not
// carried out yet wants another's approval, and what others approve of the
// manifests that the operator signed is void.
func (s *Store) RevokeOperator(ctx context.Context, a access.Act, name string) (*access.Operator, error) {
	return s.changeOperator(ctx, a, name, func(w *writing, o *operatorRow) error {
		if o.Revoked != 0 {
			return nil
		}
		o.Revoked = micros(w.now)
		w.exec(`UPDATE operators SET revoked = $2 WHERE id = $1`, o.ID, o.Revoked)
		w.leaf("operator.revoke", operatorOf(a), name, o.object())
		if err := w.retractAll(a, name); err != nil {
			return err
		}
		return w.reviewManifests(operatorOf(a))
	})
}

// RenewOperator keeps that an operator has another certificate on its key; o
// is as [Store.CreateOperator] takes it. A revoked operator, or another key,
// is a Conflict.
func (s *Store) RenewOperator(ctx context.Context, a access.Act, o *access.Operator) (*access.Operator, error) {
	return s.changeOperator(ctx, a, o.Name, func(w *writing, have *operatorRow) error {
		switch {
		case have.Revoked != 0:
			return vetting.Errorf(vetting.Conflict, "operator %s was revoked: create another one", o.Name)
		case have.Trust != "":
			return vetting.Errorf(vetting.Conflict, "operator %s is a workload: it gets its next certificate with another token (operator login)", o.Name)
		case !bytes.Equal(have.Key, o.Key[:]):
			return vetting.Errorf(vetting.Conflict, "operator %s has the key %x, and the request is for %s: a certificate is renewed on the same key", o.Name, have.Key, o.Key)
		}
		have.certified(o.Issuer, o.NotAfter)
		w.exec(`UPDATE operators SET issuer = $2, not_after = $3 WHERE id = $1`, have.ID, have.Issuer, have.NotAfter)
		w.leaf("operator.renew", operatorOf(a), o.Name, have.object())
		return nil
	})
}

func (s *Store) changeOperator(ctx context.Context, a access.Act, name string, change func(*writing, *operatorRow) error) (*access.Operator, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		var o operatorRow
		w.fetch(`SELECT `+operatorColumns+` FROM operators op WHERE op.name = $1`, []any{name}, func(r row) error { return r.Scan(o.dest()...) })
		if err := w.flush(); err != nil {
			return 0, err
		}
		if o.ID == 0 {
			return 0, notFound("operator", name)
		}
		return o.ID, change(w, &o)
	})
	s.cache.forgetOperators()
	if err != nil {
		return nil, err
	}
	return s.Operator(ctx, name)
}

// OperatorCounts says how many operators that were not revoked have their
// newest certificates of a CA, by its name.
func (s *Store) OperatorCounts(ctx context.Context) (map[string]int64, error) {
	counts := map[string]int64{}
	err := s.db.query(ctx, `SELECT op.role, op.issuer, COUNT(*) FROM operators op WHERE op.revoked = 0 AND op.trust = '' GROUP BY op.role, op.issuer`, nil, func(r row) error {
		var o operatorRow
		n := int64(0)
		if err := r.Scan(&o.Role, &o.Issuer, &n); err != nil {
			return err
		}
		counts[o.issuer()] += n
		return nil
	})
	return counts, err
}
