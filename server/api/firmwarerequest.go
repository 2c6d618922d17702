package api

import (
	"context"
	"net/http"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// FirmwareCeremonies are keys that no server reaches, and what they signed.
type FirmwareCeremonies interface {
	// ImportFirmwareKey has a key certified whose private half is elsewhere.
	ImportFirmwareKey(context.Context, access.Act, *release.Key) (*release.Key, error)
	// ImportSignatures keeps what an offline key signed for a release, all of
	// it or nothing, if it may still be signed.
	ImportSignatures(ctx context.Context, act access.Act, id int64, in *release.Response) (*release.Release, error)
}

// FirmwareKeyImport is a key that stays where it is.
type FirmwareKeyImport struct {
	Name    string `json:"name" minLength:"1" maxLength:"63" doc:"The key's name"`
	Product string `json:"product" minLength:"1" maxLength:"63" doc:"The product's name"`
	CSR     string `json:"csr" minLength:"1" doc:"A PKCS#10 request (RFC 2986) that the key signed, as PEM or as base64 of DER; only its key counts"`
}

func (a *API) firmwareCeremonies() {
	register(a, access.ManageFirmwareKeys, operation{
		id: "importFirmwareKey", method: http.MethodPost, path: "/firmware-keys/import", tag: tagFirmware,
		summary: "Have a key certified that is kept offline", status: http.StatusCreated, errors: []int{404},
		description: "It signs for production. The server never signs with it: what it signed elsewhere is imported.",
	}, func(ctx context.Context, c *call, in *bodyOf[FirmwareKeyImport]) (*createdOutput[release.Key], error) {
		csr, err := parseCSR(in.Body.CSR)
		if err != nil {
			return nil, err
		}
		k := &release.Key{Name: in.Body.Name, Product: in.Body.Product, Stage: release.Production, Kind: release.KindOf(csr.PublicKey), PublicKey: csr.RawSubjectPublicKeyInfo, Offline: true}
		if err := vetting.CheckName("firmware key", k.Name); err != nil {
			return nil, err
		}
		if err := k.Check(); err != nil {
			return nil, vetting.Errorf(vetting.Invalid, "%v", err)
		}
		made, err := a.config.Firmware.ImportFirmwareKey(ctx, c.act, k)
		return created(made, err, func(k *release.Key) string { return "/firmware-keys/" + k.Name })
	})
	register(a, access.SignFirmware, operation{
		id: "importSignatures", method: http.MethodPost, path: "/releases/{id}/signatures", tag: tagFirmware,
		summary:     "Import what an offline key signed for a release",
		description: "All that the key is to sign for the release, and nothing else. Each signature is verified; if one is not good, none is taken. Imported again, it changes nothing: the first signatures are what everybody gets.",
	}, func(ctx context.Context, c *call, in *idBody[release.Response]) (*bodyOutput[release.Release], error) {
		return answer(a.config.Firmware.ImportSignatures(ctx, c.act, in.ID, &in.Body))
	})
}
