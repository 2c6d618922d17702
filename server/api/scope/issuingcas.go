package scope

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// IssuingCAs are the CAs that issue to the devices of owners that name them.
type IssuingCAs interface {
	IssuingCAs(context.Context) ([]*vetting.IssuingCA, error)
	IssuingCA(ctx context.Context, name string) (*vetting.IssuingCA, error)
	// CertificateCounts tells how many certificates of each, by its ID, have
	// not run out before today; 0 is the device CA.
	CertificateCounts(context.Context) (map[int64]int64, error)
	CreateIssuingCA(context.Context, access.Act, *vetting.IssuingCA) (*vetting.IssuingCA, error)
	RenewIssuingCA(context.Context, access.Act, *vetting.IssuingCA) (*vetting.IssuingCA, error)
	SetDefaultIssuingCA(ctx context.Context, act access.Act, name string) error
	CloseIssuingCA(context.Context, access.Act, *vetting.IssuingCA) (*vetting.IssuingCA, error)
	ReopenIssuingCA(ctx context.Context, act access.Act, name string) (*vetting.IssuingCA, error)
}

// IssuingCAs lists issuing CAs, whose names may be those of customers; only
// the manufacturer's operators know of them.
func (v View) IssuingCAs(ctx context.Context) ([]*vetting.IssuingCA, error) {
	if !v.op.Role.OfManufacturer() {
		return nil, nil
	}
	return v.store.IssuingCAs(ctx)
}

// IssuingCA finds an issuing CA.
func (v View) IssuingCA(ctx context.Context, name string) (*vetting.IssuingCA, error) {
	return ofManufacturer(v, unknownName("issuing CA", name), func() (*vetting.IssuingCA, error) { return v.store.IssuingCA(ctx, name) })
}

// CertificateCounts tells how much of each issuing CA is in the field; only
// the manufacturer learns.
func (v View) CertificateCounts(ctx context.Context) (map[int64]int64, error) {
	if !v.op.Role.OfManufacturer() {
		return nil, nil
	}
	return v.store.CertificateCounts(ctx)
}

// CreateIssuingCA adds an issuing CA.
func (v View) CreateIssuingCA(ctx context.Context, act access.Act, c *vetting.IssuingCA) (*vetting.IssuingCA, error) {
	return ofManufacturer(v, unknownName("issuing CA", c.Name), func() (*vetting.IssuingCA, error) { return v.store.CreateIssuingCA(ctx, act, c) })
}

// RenewIssuingCA replaces an issuing CA's certificate.
func (v View) RenewIssuingCA(ctx context.Context, act access.Act, c *vetting.IssuingCA) (*vetting.IssuingCA, error) {
	return ofManufacturer(v, unknownName("issuing CA", c.Name), func() (*vetting.IssuingCA, error) { return v.store.RenewIssuingCA(ctx, act, c) })
}

// SetDefaultIssuingCA chooses the CA that issues to devices whose owner names
// none.
func (v View) SetDefaultIssuingCA(ctx context.Context, act access.Act, name string) error {
	_, err := ofManufacturer(v, unknownName("issuing CA", name), func() (*vetting.IssuingCA, error) {
		return nil, v.store.SetDefaultIssuingCA(ctx, act, name)
	})
	return err
}

// CloseIssuingCA has an issuing CA issue no more.
func (v View) CloseIssuingCA(ctx context.Context, act access.Act, c *vetting.IssuingCA) (*vetting.IssuingCA, error) {
	return ofManufacturer(v, unknownName("issuing CA", c.Name), func() (*vetting.IssuingCA, error) { return v.store.CloseIssuingCA(ctx, act, c) })
}

// ReopenIssuingCA lets a closed issuing CA issue again.
func (v View) ReopenIssuingCA(ctx context.Context, act access.Act, name string) (*vetting.IssuingCA, error) {
	return ofManufacturer(v, unknownName("issuing CA", name), func() (*vetting.IssuingCA, error) { return v.store.ReopenIssuingCA(ctx, act, name) })
}
