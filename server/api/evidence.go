package api

import (
	"context"
	"net/http"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// EvidenceNote says why evidence is cleared, or open again.
type EvidenceNote struct {
	Note string `json:"note" minLength:"1" maxLength:"1000" doc:"Why, for the audit log"`
}

func (a *API) evidence() {
	type list struct {
		PageInput
		Site   string               `query:"site" maxLength:"63" doc:"Only evidence about devices of this site"`
		Kind   vetting.EvidenceKind `query:"kind" enum:"unknown-device,wrong-key,identity-mismatch,duplicate-serial,duplicate-uid,duplicate-mac,duplicate-key,over-quota,out-of-window,wrong-site,spent-bootstrap-key,superseded-certificate,wrong-code,misused-code,forged-certificate,unknown-certificate,proof-by-another-device,concurrent-use,impossible-travel,revoked-certificate" doc:"Only evidence of this kind"`
		Device int64                `query:"device" minimum:"1" doc:"Only evidence against this device"`
		Open   bool                 `query:"open" doc:"Only evidence that no person has cleared"`
	}
	register(a, access.ReadDevices, operation{
		id: "listEvidence", method: http.MethodGet, path: "/evidence", tag: tagAuthenticity,
		summary: "List evidence of counterfeit and misuse, newest first", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[vetting.Evidence], error) {
		f := vetting.EvidenceFilter{Site: in.Site, Kind: in.Kind, DeviceID: in.Device, Open: in.Open}
		return listing(in.PageInput, "evidence", func(e *vetting.Evidence) int64 { return e.ID },
			func(p vetting.Page) ([]*vetting.Evidence, error) { return c.Evidence(ctx, f, p) })
	})
	register(a, access.ClearEvidence, operation{
		id: "clearEvidence", method: http.MethodPost, path: "/evidence/{id}/clear", tag: tagAuthenticity,
		summary:     "Clear evidence that was a false alarm",
		description: "Cleared evidence stays with the device, with who cleared it and why, and no longer makes it suspect. If the same is seen again, that is new evidence.",
	}, func(ctx context.Context, c *call, in *idBody[EvidenceNote]) (*bodyOutput[vetting.Evidence], error) {
		return answer(c.ClearEvidence(ctx, c.act, in.ID, in.Body.Note))
	})
	register(a, access.ClearEvidence, operation{
		id: "reopenEvidence", method: http.MethodPost, path: "/evidence/{id}/reopen", tag: tagAuthenticity,
		summary: "Take back that evidence was cleared",
	}, func(ctx context.Context, c *call, in *idBody[EvidenceNote]) (*bodyOutput[vetting.Evidence], error) {
		return answer(c.ReopenEvidence(ctx, c.act, in.ID, in.Body.Note))
	})
	register(a, access.ClearEvidence, operation{
		id: "clearDeviceEvidence", method: http.MethodPost, path: "/devices/{id}/evidence/clear", tag: tagAuthenticity,
		summary:     "Clear all evidence that is open against a device",
		description: "One act for all of it, up to 1,000. The answer is the device's evidence, newest first.",
	}, func(ctx context.Context, c *call, in *idBody[EvidenceNote]) (*bodyOutput[List[vetting.Evidence]], error) {
		items, err := c.ClearDeviceEvidence(ctx, c.act, in.ID, in.Body.Note)
		if err != nil {
			return nil, err
		}
		return &bodyOutput[List[vetting.Evidence]]{&List[vetting.Evidence]{Items: items}}, nil
	})
}
