package scope

import (
	"context"
	"encoding/hex"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// Licences are what chips were given, and the keys that signed it. They are
// given by the licenser.
type Licences interface {
	Licences(context.Context, vetting.LicenceFilter, vetting.Page) ([]*vetting.Licence, error)
	LicencesOf(ctx context.Context, uids [][]byte) ([]*vetting.Licence, error)
	LicenceKeys(ctx context.Context, product string) ([]*vetting.LicenceKey, error)
	// LicenceKeyMade is what the same act made before, nil if nothing.
	LicenceKeyMade(ctx context.Context, act access.Act, product string) (*vetting.LicenceKey, error)
	CreateLicenceKey(context.Context, access.Act, *vetting.LicenceKey) (*vetting.LicenceKey, error)
	UseLicenceKey(ctx context.Context, act access.Act, product string, number uint8) (*vetting.LicenceKey, error)
}

// Licences lists licences.
func (v View) Licences(ctx context.Context, f vetting.LicenceFilter, p vetting.Page) ([]*vetting.Licence, error) {
	if !v.site(&f.Site) {
		return nil, nil
	}
	list, err := v.store.Licences(ctx, f, p)
	return masked(v, list, maskLicence), err
}

// LicenceOf finds a chip's licence.
func (v View) LicenceOf(ctx context.Context, uid []byte) (*vetting.Licence, error) {
	unknown := unknownName("licence", hex.EncodeToString(uid))
	list, err := v.store.LicencesOf(ctx, [][]byte{uid})
	if err == nil && len(list) == 0 {
		err = unknown
	}
	if err != nil {
		return nil, err
	}
	l, err := confine(list[0], nil, func(l *vetting.Licence) bool { return v.sees(l.Site) }, unknown)
	return mask(v, l, maskLicence), err
}

// maskLicence leaves out what makes firmware run, and who asked for it.
func maskLicence(l *vetting.Licence) { l.By, l.Bytes = "", nil }

// LicenceKeys lists a product's licence keys, all of it public.
func (v View) LicenceKeys(ctx context.Context, product string) ([]*vetting.LicenceKey, error) {
	if _, err := v.Product(ctx, product); err != nil {
		return nil, err
	}
	return v.store.LicenceKeys(ctx, product)
}

// LicenceKeyMade is the key that the same act made before.
func (v View) LicenceKeyMade(ctx context.Context, act access.Act, product string) (*vetting.LicenceKey, error) {
	return ofManufacturer(v, unknownName("product", product), func() (*vetting.LicenceKey, error) { return v.store.LicenceKeyMade(ctx, act, product) })
}

// CreateLicenceKey keeps a new key. It is not a site's or owner's to say.
func (v View) CreateLicenceKey(ctx context.Context, act access.Act, k *vetting.LicenceKey) (*vetting.LicenceKey, error) {
	return ofManufacturer(v, unknownName("product", k.Product), func() (*vetting.LicenceKey, error) { return v.store.CreateLicenceKey(ctx, act, k) })
}

// UseLicenceKey has another key sign.
func (v View) UseLicenceKey(ctx context.Context, act access.Act, product string, number uint8) (*vetting.LicenceKey, error) {
	return ofManufacturer(v, unknownName("product", product), func() (*vetting.LicenceKey, error) {
		return v.store.UseLicenceKey(ctx, act, product, number)
	})
}
