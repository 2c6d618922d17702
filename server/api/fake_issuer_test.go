package api_test

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

func (m *memory) IssuingCAs(context.Context) ([]*vetting.IssuingCA, error) {
	return pick(m, m.issuers, vetting.Page{Limit: 100}, false, func(i *vetting.IssuingCA) int64 { return i.ID }, func(*vetting.IssuingCA) bool { return true })
}

func (m *memory) IssuingCA(_ context.Context, name string) (*vetting.IssuingCA, error) {
	return find(m, m.issuers, func(i *vetting.IssuingCA) bool { return i.Name == name })
}

func (m *memory) CertificateCounts(context.Context) (map[int64]int64, error) { return nil, nil }

func (m *memory) OperatorCounts(context.Context) (map[string]int64, error) { return nil, nil }

func (m *memory) CreateIssuingCA(_ context.Context, a access.Act, i *vetting.IssuingCA) (*vetting.IssuingCA, error) {
	return act(m, a, func() (*vetting.IssuingCA, error) { return i, nil })
}

func (m *memory) RenewIssuingCA(_ context.Context, a access.Act, i *vetting.IssuingCA) (*vetting.IssuingCA, error) {
	return act(m, a, func() (*vetting.IssuingCA, error) { return i, nil })
}

func (m *memory) SetDefaultIssuingCA(ctx context.Context, a access.Act, name string) error {
	i, err := m.IssuingCA(ctx, name)
	if err == nil {
		_, err = m.RenewIssuingCA(ctx, a, i)
	}
	return err
}

func (m *memory) CloseIssuingCA(ctx context.Context, a access.Act, c *vetting.IssuingCA) (*vetting.IssuingCA, error) {
	i, err := m.IssuingCA(ctx, c.Name)
	if err != nil {
		return nil, err
	}
	return m.RenewIssuingCA(ctx, a, i)
}

func (m *memory) ReopenIssuingCA(ctx context.Context, a access.Act, name string) (*vetting.IssuingCA, error) {
	return m.CloseIssuingCA(ctx, a, &vetting.IssuingCA{Name: name})
}

// hands is a server that can use the key of every issuing CA.
type hands struct{ der []byte }

func (h hands) Founding(p vetting.Purpose) *vetting.IssuingCA {
	return &vetting.IssuingCA{Name: p.FoundingCA(), Purpose: p, Certificate: h.der}
}

func (h hands) CheckIssuingCA(_ context.Context, name string, der []byte) (*vetting.IssuingCA, error) {
	return &vetting.IssuingCA{Name: name, Certificate: der}, nil
}

func (h hands) Refresh(context.Context) error { return nil }

func (h hands) Unable() map[string]error { return nil }
