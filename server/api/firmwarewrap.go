package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/touchmark/touchmark/firmware-sign/content"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// FirmwareWraps is about encrypted firmware: what is secret of it, and for whom
// it is wrapped. The contract is that of [Firmware].
type FirmwareWraps interface {
	// ContentKey is the public half of the key that secrets are sealed for. It
	// is made in the key store when it is first asked for.
	ContentKey(context.Context) (*content.WrappingKey, error)
	// KeepContent is KeepChecks for an encrypted artefact.
	KeepContent(ctx context.Context, act access.Act, id int64, signed release.File, checks []release.Check, sealed *content.Sealed) (*release.Artefact, error)
	Recipients(ctx context.Context, product string, p vetting.Page) ([]*release.Recipient, error)
	AddRecipient(context.Context, access.Act, *release.Recipient) (*release.Recipient, error)
	RevokeRecipient(ctx context.Context, act access.Act, id int64, reason string) (*release.Recipient, error)
	// WrapArtefact makes what follows the encrypted file for each target, or
	// nothing at all if one of them may not have it.
	WrapArtefact(ctx context.Context, act access.Act, id int64, wanted release.Wanted) (*Wraps, error)
	Wraps(ctx context.Context, artefact int64, p vetting.Page) ([]*release.Wrapped, error)
}

// ContentInput is ChecksInput for an encrypted file.
type ContentInput struct {
	ChecksInput
	Sealed content.Sealed `json:"sealed" doc:"What is secret of the file, sealed for the key of /firmware-content-key, the artefact's number and the file's SHA-256"`
}

// FamilyKeyInput is a public key that all devices of a product have.
type FamilyKeyInput struct {
	Name      string `json:"name" minLength:"1" maxLength:"63" doc:"What the key is called"`
	PublicKey []byte `json:"publicKey" minLength:"1" maxLength:"2048" doc:"The public key: a SubjectPublicKeyInfo, DER in base64"`
}

// DeviceKeyInput is a public key of one device.
type DeviceKeyInput struct {
	Serial    string `json:"serial" minLength:"1" maxLength:"64" doc:"The device's serial number"`
	PublicKey []byte `json:"publicKey" minLength:"1" maxLength:"2048" doc:"The public key: a SubjectPublicKeyInfo, DER in base64"`
}

// WrapInput says whom an encrypted file is wrapped for.
type WrapInput struct {
	Serials []string `json:"serials,omitempty" maxItems:"1000" doc:"The serial numbers of devices of the release's product"`
	Family  bool     `json:"family,omitempty" doc:"Whether it is for all devices that have the family's keys, instead of single ones"`
	Names   []string `json:"names,omitempty" maxItems:"16" doc:"Which of the family's keys; all that are not revoked if there are none. An MCUboot image has room for one"`
}

// Wraps are what follows an encrypted file, for each target.
type Wraps struct {
	Shared release.File `json:"shared" doc:"The encrypted file, which is the same for all"`
	Ends   []WrapEnd    `json:"ends" nullable:"false" doc:"What follows that file, in the order of the request"`
}

// WrapEnd is what follows an encrypted file for one target.
type WrapEnd struct {
	Device int64  `json:"device,omitempty" doc:"The number of the device; absent for a family"`
	Serial string `json:"serial,omitempty" doc:"The device's serial number; absent for a family"`
	End    []byte `json:"end" doc:"The bytes that follow, in base64"`
}

func (a *API) firmwareWraps() {
	register(a, access.SignFirmware, operation{
		id: "getContentKey", method: http.MethodGet, path: "/firmware-content-key", tag: tagFirmware,
		summary:     "Show the public key that secrets of encrypted firmware are sealed for",
		description: "Its private half is in the server's key store, which it never leaves.",
	}, func(ctx context.Context, c *call, in *struct{}) (*bodyOutput[content.WrappingKey], error) {
		return answer(a.config.Firmware.ContentKey(ctx))
	})
	register(a, access.SignFirmware, operation{
		id: "keepContent", method: http.MethodPost, path: "/artefacts/{id}/content", tag: tagFirmware, maxBody: maxContentBody,
		summary:     "Keep the secret of an encrypted artefact, and how its file was verified",
		description: "The file is the part that all devices share. Once its release is published, another one is a conflict.",
	}, func(ctx context.Context, c *call, in *idBody[ContentInput]) (*bodyOutput[release.Artefact], error) {
		return answer(a.config.Firmware.KeepContent(ctx, c.act, in.ID, in.Body.Signed, in.Body.Checks, &in.Body.Sealed))
	})
	register(a, access.SignFirmware, operation{
		id: "wrapArtefact", method: http.MethodPost, path: "/artefacts/{id}/wraps", tag: tagFirmware,
		summary:     "Wrap an encrypted artefact for devices, or for a family",
		description: "Devices must be active, of the release's product, and with a certificate that is not revoked. If one is not, nobody gets anything, and the answer is 409. It takes as long for gigabytes as for kilobytes.",
	}, a.wrapArtefact)
	type list struct {
		PageInput
		ID int64 `path:"id" minimum:"1" doc:"The number"`
	}
	register(a, access.ReadReleases, operation{
		id: "listWraps", method: http.MethodGet, path: "/artefacts/{id}/wraps", tag: tagFirmware,
		summary: "List for whom an artefact was wrapped, newest first", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[release.Wrapped], error) {
		return listing(in.PageInput, "wraps", func(w *release.Wrapped) int64 { return w.ID },
			func(p vetting.Page) ([]*release.Wrapped, error) { return a.config.Firmware.Wraps(ctx, in.ID, p) })
	})
	a.recipients()
}

// maxContentBody bounds a request with a sealed secret, which base64 makes
// longer.
const maxContentBody = content.MaxSecret/3*4*3/2 + 16<<10

func (a *API) recipients() {
	type list struct {
		PageInput
		Name string `path:"name" maxLength:"63" doc:"The product's name"`
	}
	register(a, access.ReadReleases, operation{
		id: "listRecipients", method: http.MethodGet, path: "/products/{name}/firmware/recipients", tag: tagFirmware,
		summary: "List the keys that a product's firmware is wrapped for, revoked ones too", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[release.Recipient], error) {
		return listing(in.PageInput, "recipients", func(r *release.Recipient) int64 { return r.ID },
			func(p vetting.Page) ([]*release.Recipient, error) {
				return a.config.Firmware.Recipients(ctx, in.Name, p)
			})
	})
	register(a, access.ManageFirmwareKeys, operation{
		id: "addFamilyKey", method: http.MethodPost, path: "/products/{name}/firmware/family-keys", tag: tagFirmware,
		summary: "Register a public key that all devices of a product have", status: http.StatusCreated,
		description: "Whoever has its private half can read every image that is wrapped for the family. Several may be there while they are exchanged.",
	}, func(ctx context.Context, c *call, in *namedBody[FamilyKeyInput]) (*createdOutput[release.Recipient], error) {
		if err := vetting.CheckName("family key", in.Body.Name); err != nil {
			return nil, err
		}
		return a.addRecipient(ctx, c, &release.Recipient{Product: in.Name, Name: in.Body.Name, PublicKey: in.Body.PublicKey})
	})
	register(a, access.SignFirmware, operation{
		id: "addDeviceKey", method: http.MethodPost, path: "/products/{name}/firmware/device-keys", tag: tagFirmware,
		summary: "Register the public key that a device decrypts firmware with", status: http.StatusCreated,
		description: "Its newest key that is not revoked counts. It is another one than that of its certificate.",
	}, func(ctx context.Context, c *call, in *namedBody[DeviceKeyInput]) (*createdOutput[release.Recipient], error) {
		return a.addRecipient(ctx, c, &release.Recipient{Product: in.Name, Serial: in.Body.Serial, PublicKey: in.Body.PublicKey})
	})
	register(a, access.SignFirmware, operation{
		id: "revokeRecipient", method: http.MethodPost, path: "/firmware-recipients/{id}/revoke", tag: tagFirmware,
		summary:     "Have nothing wrapped for a key any more",
		description: "What was wrapped for it stays readable with it.",
	}, func(ctx context.Context, c *call, in *idBody[ReasonInput]) (*bodyOutput[release.Recipient], error) {
		return answer(a.config.Firmware.RevokeRecipient(ctx, c.act, in.ID, in.Body.Note))
	})
}

func (a *API) addRecipient(ctx context.Context, c *call, r *release.Recipient) (*createdOutput[release.Recipient], error) {
	if err := r.Check(); err != nil {
		return nil, invalid("body.publicKey", "%v", err)
	}
	made, err := a.config.Firmware.AddRecipient(ctx, c.act, r)
	return created(made, err, func(r *release.Recipient) string { return fmt.Sprintf("/firmware-recipients/%d", r.ID) })
}

func (a *API) wrapArtefact(ctx context.Context, c *call, in *idBody[WrapInput]) (*bodyOutput[Wraps], error) {
	b := in.Body
	switch {
	case b.Family == (len(b.Serials) > 0):
		return nil, invalid("body", "say either for which devices (serials), or that it is for the family")
	case len(b.Names) > 0 && !b.Family:
		return nil, invalid("body.names", "names are those of a family's keys: they are for the family alone")
	}
	return answer(a.config.Firmware.WrapArtefact(ctx, c.act, in.ID, release.Wanted{Serials: b.Serials, Family: b.Family, Names: b.Names}))
}
