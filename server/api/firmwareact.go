package api

import (
	"context"
	"net/http"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
)

// FirmwareActs are those that others must approve, and whom they touch.
type FirmwareActs interface {
	AttachDocument(ctx context.Context, act access.Act, id int64, d release.Document, content []byte) (*release.Release, error)
	ReleaseDocument(ctx context.Context, id int64, sha256 string) ([]byte, error)
	SubmitRelease(ctx context.Context, act access.Act, id int64, note string) (*release.Release, error)
	ProposeYank(ctx context.Context, act access.Act, id int64, reason string) (*approval.Proposal, error)
	YankImpact(ctx context.Context, id int64) (*release.Impact, error)
	FirmwarePolicy(ctx context.Context, product string) (*release.Policy, error)
	SetFirmwareApprovals(ctx context.Context, act access.Act, product string, n int) (*release.Policy, error)
	ProposeFloor(ctx context.Context, act access.Act, product string, to uint32, note string) (*approval.Proposal, error)
	FloorImpact(ctx context.Context, product string, floor uint32) (*release.Impact, error)
	// RevokeFirmwareKey gives no proposal where nobody has to agree.
	RevokeFirmwareKey(ctx context.Context, act access.Act, name, reason string) (*approval.Proposal, error)
	KeyImpact(ctx context.Context, name string) (*release.Impact, error)
	NoteFirmware(context.Context, release.Running) error
}

// DocumentInput is an SBOM or provenance.
type DocumentInput struct {
	Content []byte `json:"content" minLength:"1" doc:"The document: an SBOM (CycloneDX or SPDX in JSON) or SLSA provenance (an in-toto statement, alone or in DSSE), in base64"`
}

// DocumentContent is a document as it was handed in.
type DocumentContent struct {
	Content []byte `json:"content" doc:"The document in base64"`
}

// FloorInput is a counter floor that is asked for.
type FloorInput struct {
	Floor uint32 `json:"floor" doc:"The least security counter"`
	Note  string `json:"note" minLength:"1" maxLength:"1000" doc:"Why, for those who approve it"`
}

// FirmwareApprovalsInput says how many others must approve.
type FirmwareApprovalsInput struct {
	Approvals int `json:"approvals" minimum:"1" maximum:"8" doc:"How many others must approve a release, its yanking, a higher floor, and the revocation of a production key"`
}

// RunningInput is what a device was seen to run.
type RunningInput struct {
	Device  int64     `json:"device" minimum:"1" doc:"The device's number"`
	Version string    `json:"version" minLength:"1" maxLength:"63" doc:"The version of its firmware"`
	Counter uint32    `json:"counter" doc:"The security counter of its firmware"`
	At      time.Time `json:"at" doc:"When it was seen"`
}

// Revoking is what became of the wish to revoke a key.
type Revoking struct {
	Key      release.Key `json:"key" doc:"The key"`
	Proposal *Proposal   `json:"proposal,omitempty" doc:"What others have to approve; absent if the key is revoked"`
}

// maxDocumentBody bounds a request with a document, which base64 makes longer.
const maxDocumentBody = release.MaxDocument/3*4 + 1024

func (a *API) releaseActs() {
	register(a, access.SignFirmware, operation{
		id: "attachDocument", method: http.MethodPost, path: "/releases/{id}/documents", tag: tagFirmware, maxBody: maxDocumentBody,
		summary:     "Add an SBOM or provenance to a draft",
		description: "At most 4 MiB. A release is approved only with both, and its provenance must name every artefact among its subjects.",
	}, func(ctx context.Context, c *call, in *idBody[DocumentInput]) (*bodyOutput[release.Release], error) {
		d, err := release.ReadDocument(in.Body.Content)
		if err != nil {
			return nil, invalid("body.content", "%v", err)
		}
		return answer(a.config.Firmware.AttachDocument(ctx, c.act, in.ID, d, in.Body.Content))
	})
	type document struct {
		ID     int64  `path:"id" minimum:"1" doc:"The release's number"`
		SHA256 string `path:"sha256" maxLength:"64" doc:"The document's SHA-256 in hexadecimal"`
	}
	register(a, access.ReadReleases, operation{
		id: "getDocument", method: http.MethodGet, path: "/releases/{id}/documents/{sha256}", tag: tagFirmware,
		summary: "Show a document of a release",
	}, func(ctx context.Context, c *call, in *document) (*bodyOutput[DocumentContent], error) {
		content, err := a.config.Firmware.ReleaseDocument(ctx, in.ID, in.SHA256)
		return answer(&DocumentContent{content}, err)
	})
	register(a, access.SignFirmware, operation{
		id: "submitRelease", method: http.MethodPost, path: "/releases/{id}/submit", tag: tagFirmware,
		summary:     "Ask others to approve a draft",
		description: "They approve a proposal with the release's statement: every artefact with its digests, parameters and keys, the counter, the documents. Whoever changes the draft ends the proposal.",
	}, func(ctx context.Context, c *call, in *idBody[ReasonInput]) (*bodyOutput[release.Release], error) {
		return answer(a.config.Firmware.SubmitRelease(ctx, c.act, in.ID, in.Body.Note))
	})
	register(a, access.SignFirmware, operation{
		id: "yankRelease", method: http.MethodPost, path: "/releases/{id}/yank", tag: tagFirmware, status: http.StatusAccepted,
		summary: "Ask others to agree that a release is taken back",
	}, func(ctx context.Context, c *call, in *idBody[ReasonInput]) (*bodyOutput[Proposal], error) {
		return asked(a.config.Firmware.ProposeYank(ctx, c.act, in.ID, in.Body.Note))
	})
	register(a, access.ReadReleases, operation{
		id: "getYankImpact", method: http.MethodGet, path: "/releases/{id}/yank-impact", tag: tagFirmware,
		summary: "Show whom it would touch that a release is yanked",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[release.Impact], error) {
		return answer(a.config.Firmware.YankImpact(ctx, in.ID))
	})
	register(a, access.SignFirmware, operation{
		id: "revokeFirmwareKey", method: http.MethodPost, path: "/firmware-keys/{name}/revoke", tag: tagFirmware,
		summary:     "Revoke a key that signs firmware",
		description: "A test key at once; a production key when others have approved it. What it signed stays as it is: yank releases, or raise the floor.",
	}, a.revokeFirmwareKey)
	register(a, access.ReadReleases, operation{
		id: "getKeyImpact", method: http.MethodGet, path: "/firmware-keys/{name}/impact", tag: tagFirmware,
		summary: "Show whom it would touch that a key is revoked",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[release.Impact], error) {
		return answer(a.config.Firmware.KeyImpact(ctx, in.Name))
	})
}

func (a *API) firmwarePolicies() {
	register(a, access.ReadReleases, operation{
		id: "getFirmwarePolicy", method: http.MethodGet, path: "/products/{name}/firmware", tag: tagFirmware,
		summary: "Show a product's counter floor, and how many approvals its firmware wants",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[release.Policy], error) {
		return answer(a.config.Firmware.FirmwarePolicy(ctx, in.Name))
	})
	register(a, access.ManageFirmwareKeys, operation{
		id: "setFirmwareApprovals", method: http.MethodPut, path: "/products/{name}/firmware/approvals", tag: tagFirmware,
		summary:     "Say how many others must approve what is done with a product's firmware",
		description: "Two, if nothing is said. Once it was said, the number only grows.",
	}, func(ctx context.Context, c *call, in *namedBody[FirmwareApprovalsInput]) (*bodyOutput[release.Policy], error) {
		return answer(a.config.Firmware.SetFirmwareApprovals(ctx, c.act, in.Name, in.Body.Approvals))
	})
	register(a, access.SignFirmware, operation{
		id: "raiseFloor", method: http.MethodPost, path: "/products/{name}/firmware/floor", tag: tagFirmware, status: http.StatusAccepted,
		summary:     "Ask others to agree that a product's counter floor is raised",
		description: "A floor above every published release would strand devices, and is a conflict that says how many.",
	}, func(ctx context.Context, c *call, in *namedBody[FloorInput]) (*bodyOutput[Proposal], error) {
		return asked(a.config.Firmware.ProposeFloor(ctx, c.act, in.Name, in.Body.Floor, in.Body.Note))
	})
	type floor struct {
		Name  string `path:"name" maxLength:"63" doc:"The product's name"`
		Floor uint32 `query:"floor" maximum:"4294967295" doc:"The floor that is thought of"`
	}
	register(a, access.ReadReleases, operation{
		id: "getFloorImpact", method: http.MethodGet, path: "/products/{name}/firmware/floor-impact", tag: tagFirmware,
		summary: "Show whom a counter floor would touch",
	}, func(ctx context.Context, c *call, in *floor) (*bodyOutput[release.Impact], error) {
		return answer(a.config.Firmware.FloorImpact(ctx, in.Name, in.Floor))
	})
	register(a, access.ReportObservations, operation{
		id: "reportFirmware", method: http.MethodPost, path: "/firmware-reports", tag: tagFirmware, errors: []int{404},
		summary: "Report what a device runs",
	}, func(ctx context.Context, c *call, in *bodyOf[RunningInput]) (*bodyOutput[RunningInput], error) {
		return answer(&in.Body, a.config.Firmware.NoteFirmware(ctx, release.Running(in.Body)))
	})
}

func (a *API) revokeFirmwareKey(ctx context.Context, c *call, in *namedBody[ReasonInput]) (*bodyOutput[Revoking], error) {
	p, err := a.config.Firmware.RevokeFirmwareKey(ctx, c.act, in.Name, in.Body.Note)
	if err != nil {
		return nil, err
	}
	k, err := a.config.Firmware.FirmwareKey(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	out := &Revoking{Key: *k}
	if p != nil {
		out.Proposal = proposalOf(p)
	}
	return answer(out, nil)
}

// asked answers with a proposal that waits.
func asked(p *approval.Proposal, err error) (*bodyOutput[Proposal], error) {
	if err != nil {
		return nil, err
	}
	return answer(proposalOf(p), nil)
}
