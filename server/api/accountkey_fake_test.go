package api_test

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

func (m *memory) AccountKeys(_ context.Context, f vetting.AccountKeyFilter, p vetting.Page) ([]*vetting.AccountKey, error) {
	return pick(m, m.accountKeys, p, true, func(k *vetting.AccountKey) int64 { return k.ID }, func(k *vetting.AccountKey) bool {
		return fits(f.Site, k.Site) && fits(f.Order, k.Order)
	})
}

func (m *memory) AccountKey(_ context.Context, id int64) (*vetting.AccountKey, error) {
	return find(m, m.accountKeys, func(k *vetting.AccountKey) bool { return k.ID == id })
}

func (m *memory) CreateAccountKey(_ context.Context, a access.Act, k *vetting.AccountKey) (*vetting.AccountKey, error) {
	return act(m, a, func() (*vetting.AccountKey, error) {
		made := *k
		made.ID, made.Site = m.next(), "near"
		m.accountKeys = append(m.accountKeys, &made)
		return &made, nil
	})
}

func (m *memory) RevokeAccountKey(_ context.Context, a access.Act, id int64) (*vetting.AccountKey, error) {
	return act(m, a, func() (*vetting.AccountKey, error) {
		for _, k := range m.accountKeys {
			if k.ID == id {
				k.State = vetting.CodeRevoked
				return k, nil
			}
		}
		return nil, vetting.Errorf(vetting.NotFound, "no account key")
	})
}
