package api

import (
	"context"
	"fmt"
	"net/http"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// Firmware are the keys that sign firmware, and the releases that they sign.
// Every change is durable, and in the audit log, when its method returns nil,
// and an act that carries an idempotency key is done once. Refusals are
// *vetting.Errors.
type Firmware interface {
	FirmwareKeys(ctx context.Context, product string, p vetting.Page) ([]*release.Key, error)
	FirmwareKey(ctx context.Context, name string) (*release.Key, error)
	// CreateFirmwareKey makes a key in the installation's key store.
	CreateFirmwareKey(context.Context, access.Act, *release.Key) (*release.Key, error)
	Releases(context.Context, release.Filter, vetting.Page) ([]*release.Release, error)
	Release(ctx context.Context, id int64) (*release.Release, error)
	CreateRelease(context.Context, access.Act, *release.Release) (*release.Release, error)
	PublishRelease(ctx context.Context, act access.Act, id int64) (*release.Release, error)
	Artefact(ctx context.Context, id int64) (*release.Artefact, error)
	AddArtefact(ctx context.Context, act access.Act, release int64, a *release.Artefact) (*release.Artefact, error)
	// SignArtefact makes an artefact's signatures if it may be signed, and
	// gives those that there are already.
	SignArtefact(ctx context.Context, act access.Act, id int64) (*release.Artefact, error)
	KeepChecks(ctx context.Context, act access.Act, id int64, signed release.File, checks []release.Check) (*release.Artefact, error)
	FirmwareActs
	FirmwareCeremonies
	Statements
	FirmwareWraps
}

// FirmwareKeyInput is a key to be made.
type FirmwareKeyInput struct {
	Name    string        `json:"name" minLength:"1" maxLength:"63" doc:"The key's name"`
	Product string        `json:"product" minLength:"1" maxLength:"63" doc:"The product's name"`
	Stage   release.Stage `json:"stage" enum:"test,production" doc:"What it is for"`
	Kind    string        `json:"kind" enum:"P-256,P-384,RSA-2048,RSA-3072,Ed25519,ML-DSA-65,ML-DSA-87" doc:"What kind of key it is"`
}

// ReleaseInput is a draft.
type ReleaseInput struct {
	Product     string `json:"product" minLength:"1" maxLength:"63" doc:"The product's name"`
	Version     string `json:"version" minLength:"1" maxLength:"63" doc:"The version"`
	Counter     uint32 `json:"counter" doc:"The security counter; not below that of any release before, nor below the product's floor"`
	SupportEnd  string `json:"supportEnd" minLength:"10" maxLength:"10" doc:"The last day on which the release is supported, as 2031-12-31"`
	Maintenance bool   `json:"maintenance,omitempty" doc:"Whether it is for an older line, and its version may be below one that was published"`
	Note        string `json:"note,omitempty" maxLength:"1000" doc:"A few words for people"`
}

// ArtefactInput is what somebody wants signed.
type ArtefactInput struct {
	Stage      release.Stage         `json:"stage" enum:"test,production" doc:"Which keys sign it. Test keys sign at once, production keys when the release was approved"`
	Name       string                `json:"name" minLength:"1" maxLength:"128" doc:"The file's name"`
	Format     string                `json:"format" minLength:"1" maxLength:"32" doc:"The format of the signed file"`
	Parameters map[string]string     `json:"parameters,omitempty" doc:"What the format was told"`
	Source     release.File          `json:"source" doc:"The file before it is signed"`
	Keys       []string              `json:"keys" minItems:"1" maxItems:"4" nullable:"false" doc:"The names of the keys that sign it"`
	ToSign     []firmwaresign.ToSign `json:"toSign" minItems:"1" maxItems:"4" nullable:"false" doc:"What is to be signed: digests, or short messages"`
}

// ChecksInput says how a signed file was verified.
type ChecksInput struct {
	Signed release.File    `json:"signed" doc:"The signed file, or the file with the signature"`
	Checks []release.Check `json:"checks" minItems:"1" maxItems:"16" nullable:"false" doc:"What verified it"`
}

func (a *API) firmware() {
	a.firmwareKeys()
	a.releases()
	a.artefacts()
	a.releaseActs()
	a.statements()
	a.firmwarePolicies()
	a.firmwareCeremonies()
	a.firmwareWraps()
}

func (a *API) firmwareKeys() {
	type list struct {
		PageInput
		Product string `query:"product" maxLength:"63" doc:"Only those of this product"`
	}
	register(a, access.ReadReleases, operation{
		id: "listFirmwareKeys", method: http.MethodGet, path: "/firmware-keys", tag: tagFirmware,
		summary: "List the keys that sign firmware, revoked ones too", errors: []int{400, 404},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[release.Key], error) {
		return listing(in.PageInput, "firmware-keys", func(k *release.Key) int64 { return k.ID },
			func(p vetting.Page) ([]*release.Key, error) {
				return a.config.Firmware.FirmwareKeys(ctx, in.Product, p)
			})
	})
	register(a, access.ReadReleases, operation{
		id: "getFirmwareKey", method: http.MethodGet, path: "/firmware-keys/{name}", tag: tagFirmware,
		summary: "Show a key that signs firmware",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[release.Key], error) {
		return answer(a.config.Firmware.FirmwareKey(ctx, in.Name))
	})
	register(a, access.ManageFirmwareKeys, operation{
		id: "createFirmwareKey", method: http.MethodPost, path: "/firmware-keys", tag: tagFirmware,
		summary: "Make a key that signs firmware", status: http.StatusCreated, errors: []int{404},
		description: "In the server's key store, which it never leaves. The code signing CA certifies it. Test keys sign whatever is handed in for a release; production keys sign approved releases alone.",
	}, func(ctx context.Context, c *call, in *bodyOf[FirmwareKeyInput]) (*createdOutput[release.Key], error) {
		k := &release.Key{Name: in.Body.Name, Product: in.Body.Product, Stage: in.Body.Stage, Kind: in.Body.Kind}
		if err := vetting.CheckName("firmware key", k.Name); err != nil {
			return nil, err
		}
		if err := k.Check(); err != nil {
			return nil, vetting.Errorf(vetting.Invalid, "%v", err)
		}
		made, err := a.config.Firmware.CreateFirmwareKey(ctx, c.act, k)
		return created(made, err, func(k *release.Key) string { return "/firmware-keys/" + k.Name })
	})
}

func (a *API) releases() {
	type list struct {
		PageInput
		Product string        `query:"product" maxLength:"63" doc:"Only those of this product"`
		Version string        `query:"version" maxLength:"63" doc:"Only those of this version"`
		State   release.State `query:"state" enum:"draft,approved,signed,published,yanked" doc:"Only those in this state"`
	}
	register(a, access.ReadReleases, operation{
		id: "listReleases", method: http.MethodGet, path: "/releases", tag: tagFirmware,
		summary: "List releases, newest first", errors: []int{400, 404},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[release.Release], error) {
		return listing(in.PageInput, "releases", func(r *release.Release) int64 { return r.ID },
			func(p vetting.Page) ([]*release.Release, error) {
				return a.config.Firmware.Releases(ctx, release.Filter{Product: in.Product, Version: in.Version, State: in.State}, p)
			})
	})
	register(a, access.ReadReleases, operation{
		id: "getRelease", method: http.MethodGet, path: "/releases/{id}", tag: tagFirmware,
		summary: "Show a release",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[release.Release], error) {
		return answer(a.config.Firmware.Release(ctx, in.ID))
	})
	register(a, access.SignFirmware, operation{
		id: "createRelease", method: http.MethodPost, path: "/releases", tag: tagFirmware,
		summary: "Create a draft of a release", status: http.StatusCreated, errors: []int{404},
	}, func(ctx context.Context, c *call, in *bodyOf[ReleaseInput]) (*createdOutput[release.Release], error) {
		r := &release.Release{Product: in.Body.Product, Version: in.Body.Version, Counter: in.Body.Counter, SupportEnd: in.Body.SupportEnd, Maintenance: in.Body.Maintenance, Note: in.Body.Note}
		if err := r.Check(); err != nil {
			return nil, vetting.Errorf(vetting.Invalid, "%v", err)
		}
		made, err := a.config.Firmware.CreateRelease(ctx, c.act, r)
		return created(made, err, func(r *release.Release) string { return fmt.Sprintf("/releases/%d", r.ID) })
	})
	register(a, access.SignFirmware, operation{
		id: "publishRelease", method: http.MethodPost, path: "/releases/{id}/publish", tag: tagFirmware,
		summary:     "Publish a release",
		description: "Every artefact must be signed, and its signed file verified.",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[release.Release], error) {
		return answer(a.config.Firmware.PublishRelease(ctx, c.act, in.ID))
	})
}

func (a *API) artefacts() {
	register(a, access.SignFirmware, operation{
		id: "addArtefact", method: http.MethodPost, path: "/releases/{id}/artefacts", tag: tagFirmware,
		summary: "Hand in what is to be signed for a release", status: http.StatusCreated,
		description: "The file stays where it is; its digests and the parameters of the format are handed in. For test the answer has the signatures. For production it becomes a part of the draft, in the place of one of the same name, and its number is the ticket to ask with once the release was approved.",
	}, a.addArtefact)
	register(a, access.ReadReleases, operation{
		id: "getArtefact", method: http.MethodGet, path: "/artefacts/{id}", tag: tagFirmware,
		summary: "Show an artefact",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[release.Artefact], error) {
		return answer(a.config.Firmware.Artefact(ctx, in.ID))
	})
	register(a, access.SignFirmware, operation{
		id: "signArtefact", method: http.MethodPost, path: "/artefacts/{id}/sign", tag: tagFirmware,
		summary:     "Sign an artefact",
		description: "One for production is signed once its release was approved; before, that is a conflict. Asked again, the answer is the same.",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[release.Artefact], error) {
		return answer(a.config.Firmware.SignArtefact(ctx, c.act, in.ID))
	})
	register(a, access.SignFirmware, operation{
		id: "keepChecks", method: http.MethodPost, path: "/artefacts/{id}/checks", tag: tagFirmware,
		summary:     "Keep how the signed file of an artefact was verified",
		description: "A release is published only with that.",
	}, func(ctx context.Context, c *call, in *idBody[ChecksInput]) (*bodyOutput[release.Artefact], error) {
		return answer(a.config.Firmware.KeepChecks(ctx, c.act, in.ID, in.Body.Signed, in.Body.Checks))
	})
}

func (a *API) addArtefact(ctx context.Context, c *call, in *idBody[ArtefactInput]) (*createdOutput[release.Artefact], error) {
	b := in.Body
	if b.Parameters == nil {
		b.Parameters = map[string]string{}
	}
	made, err := a.config.Firmware.AddArtefact(ctx, c.act, in.ID, &release.Artefact{
		Stage: b.Stage, Name: b.Name, Format: b.Format, Parameters: b.Parameters, Source: b.Source, Keys: b.Keys, ToSign: b.ToSign,
	})
	if err == nil && made.Stage == release.Test {
		act := c.act
		act.Key = "" // it stands for the artefact; to sign twice is to sign once
		made, err = a.config.Firmware.SignArtefact(ctx, act, made.ID)
	}
	return created(made, err, func(a *release.Artefact) string { return fmt.Sprintf("/artefacts/%d", a.ID) })
}
