package store

import (
	"encoding/json"
	"fmt"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/audit"
)

// firmwarePolicyRow is a row of firmware_policies.
type firmwarePolicyRow struct {
	ID, ProductID int64
	Body          string // the release.Policy as JSON
}

const firmwarePolicyColumns = `fp.id, fp.product_id, fp.body`

func (p *firmwarePolicyRow) dest() []any { return []any{&p.ID, &p.ProductID, &p.Body} }

func (p *firmwarePolicyRow) scan(from row) error { return from.Scan(p.dest()...) }

func (p *firmwarePolicyRow) object() audit.Object {
	return audit.Object{Kind: audit.KindFirmwarePolicy, ID: p.ID, Digest: audit.DigestOf(p)}
}

func (p *firmwarePolicyRow) policy() (release.Policy, error) {
	out := release.DefaultPolicy
	if p.ID == 0 {
		return out, nil
	}
	if err := json.Unmarshal([]byte(p.Body), &out); err != nil {
		return out, fmt.Errorf("the firmware policy %d in the database: %w", p.ID, err)
	}
	return out, nil
}

// firmwarePolicy is what holds for all releases of a product.
func (w *writing) firmwarePolicy(product int64) (release.Policy, error) {
	row := new(firmwarePolicyRow)
	w.fetch(`SELECT `+firmwarePolicyColumns+` FROM firmware_policies fp WHERE fp.product_id = $1`, []any{product}, row.scan)
	if err := w.flush(); err != nil {
		return release.Policy{}, err
	}
	return row.policy()
}
