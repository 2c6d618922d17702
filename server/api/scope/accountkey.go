package scope

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// AccountKeys lists account keys.
func (v View) AccountKeys(ctx context.Context, f vetting.AccountKeyFilter, p vetting.Page) ([]*vetting.AccountKey, error) {
	if !v.site(&f.Site) {
		return nil, nil
	}
	return v.store.AccountKeys(ctx, f, p)
}

// AccountKey finds an account key.
func (v View) AccountKey(ctx context.Context, id int64) (*vetting.AccountKey, error) {
	k, err := v.store.AccountKey(ctx, id)
	return confine(k, err, func(k *vetting.AccountKey) bool { return v.sees(k.Site) }, unknownID("account key", id))
}

// CreateAccountKey makes an account key for an order or a site.
func (v View) CreateAccountKey(ctx context.Context, act access.Act, k *vetting.AccountKey) (*vetting.AccountKey, error) {
	var err error
	if k.Order != "" {
		_, err = v.Order(ctx, k.Order)
	} else {
		_, err = v.Site(ctx, k.Site)
	}
	if err != nil {
		return nil, err
	}
	return v.store.CreateAccountKey(ctx, act, k)
}

// RevokeAccountKey takes an account key back.
func (v View) RevokeAccountKey(ctx context.Context, act access.Act, id int64) (*vetting.AccountKey, error) {
	if _, err := v.AccountKey(ctx, id); err != nil {
		return nil, err
	}
	return v.store.RevokeAccountKey(ctx, act, id)
}
