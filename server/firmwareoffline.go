package server

import (
	"context"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// ImportFirmwareKey has a key certified whose private half is elsewhere, and
// keeps that.
func (f firmware) ImportFirmwareKey(ctx context.Context, act access.Act, k *release.Key) (*release.Key, error) {
	switch _, err := f.FirmwareKey(ctx, k.Name); {
	case err == nil: // the same request again; otherwise it is refused
		return f.Store.CreateFirmwareKey(ctx, act, k)
	case vetting.ProblemOf(err) != vetting.NotFound:
		return nil, err
	}
	if _, err := f.Product(ctx, k.Product); err != nil {
		return nil, err
	}
	return f.certify(ctx, act, k)
}
