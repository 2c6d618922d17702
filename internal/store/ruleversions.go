package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// ruleVersionRow is a row of rule_versions. Who made it and when stands in
// the log, under its leaf.
type ruleVersionRow struct {
	ID, ProductID, Version int64
	Body                   string // []vetting.Rule as JSON

	leaf int64
}

func (r *ruleVersionRow) dest() []any {
	return []any{&r.ID, &r.ProductID, &r.Version, &r.Body, &r.leaf}
}

func (r *ruleVersionRow) object() audit.Object {
	return audit.Object{Kind: audit.KindRules, ID: r.ID, Digest: audit.DigestOf(r)}
}

const ruleVersionColumns = `rv.id, rv.product_id, rv.version, rv.body, rv.leaf`

// unknownLeaf is that of rules from before versions were kept.
const unknownLeaf = -1

// rulesChange is what a change of a product does to the versions of its
// rules.
type rulesChange struct{ rows []*ruleVersionRow }

// changeRules numbers the rules of made, and gives what is to be kept of
// them: nothing if they are those of old, which is nil for a new product.
// Rules from before versions were kept become version 0.
func (w *writing) changeRules(id int64, old, made *vetting.Product) *rulesChange {
	c := new(rulesChange)
	if old == nil {
		old = new(vetting.Product)
	}
	made.RulesVersion = old.RulesVersion
	if slices.Equal(old.Rules, made.Rules) {
		return c
	}
	if old.RulesVersion == 0 && len(old.Rules) > 0 {
		c.rows = append(c.rows, &ruleVersionRow{ID: w.ids(1), ProductID: id, Body: mustJSON(old.Rules), leaf: unknownLeaf})
	}
	made.RulesVersion++
	c.rows = append(c.rows, &ruleVersionRow{ID: w.ids(1), ProductID: id, Version: made.RulesVersion, Body: mustJSON(made.Rules)})
	return c
}

// objects are what the change's leaf accounts for.
func (c *rulesChange) objects(product audit.Object) []audit.Object {
	list := []audit.Object{product}
	for _, row := range c.rows {
		list = append(list, row.object())
	}
	return list
}

// save queues the rows of a change that has its leaf.
func (c *rulesChange) save(w *writing, leaf int64) {
	for _, row := range c.rows {
		if row.leaf != unknownLeaf {
			row.leaf = leaf
		}
		w.insert(`rule_versions (id, product_id, version, body, leaf)`, row.ID, row.ProductID, row.Version, row.Body, row.leaf)
	}
}

// RuleVersions lists the versions of a product's rules, newest first.
func (s *Store) RuleVersions(ctx context.Context, product string, p vetting.Page) ([]*vetting.RuleVersion, error) {
	of, err := s.Product(ctx, product)
	if err != nil {
		return nil, err
	}
	var rows []*ruleVersionRow
	err = s.db.query(ctx, `SELECT `+ruleVersionColumns+` FROM rule_versions rv WHERE rv.product_id = $1 AND rv.id < $2 ORDER BY rv.id DESC LIMIT $3`,
		[]any{of.ID, newestFirst(p), limit(p)}, func(r row) error {
			row := new(ruleVersionRow)
			rows = append(rows, row)
			return r.Scan(row.dest()...)
		})
	if err != nil {
		return nil, err
	}
	list := make([]*vetting.RuleVersion, len(rows))
	for i, row := range rows {
		if list[i], err = s.ruleVersion(ctx, row); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// ruleVersion adds what the log tells.
func (s *Store) ruleVersion(ctx context.Context, r *ruleVersionRow) (*vetting.RuleVersion, error) {
	v := &vetting.RuleVersion{ID: r.ID, Version: r.Version, Leaf: r.leaf}
	if err := json.Unmarshal([]byte(r.Body), &v.Rules); err != nil {
		return nil, fmt.Errorf("rules %d in the database: %w", r.ID, err)
	}
	err := s.Leaves(ctx, r.leaf, r.leaf+1, func(_ int64, body []byte) error {
		leaf, err := audit.ParseLeaf(body)
		v.At, v.By = leaf.Time, leaf.By
		return err
	})
	return v, err
}
