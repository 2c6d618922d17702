package api

import (
	"context"
	"net/http"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// ReasonInput says why something is done.
type ReasonInput struct {
	Note string `json:"note" minLength:"1" maxLength:"1000" doc:"Why, for the audit log"`
}

// ScrapInput scraps what was never powered on.
type ScrapInput struct {
	Note string `json:"note" minLength:"1" maxLength:"1000" doc:"Why, for the audit log"`
}

// DeviceStateInput moves a device to another state.
type DeviceStateInput struct {
	State vetting.DeviceState `json:"state" enum:"manufactured,registered,issued,active,suspended,retired,quarantined,scrapped" doc:"The new state. A quarantined device may go back to the state it came from; registered, issued and active are otherwise reached by enrolment only"`
	Note  string              `json:"note" minLength:"1" maxLength:"1000" doc:"Why, for the audit log"`
}

type idInput struct {
	ID int64 `path:"id" minimum:"1" doc:"The number"`
}

type idBody[T any] struct {
	ID   int64 `path:"id" minimum:"1" doc:"The number"`
	Body T
}

// deviceList are the parameters of the list of devices.
type deviceList struct {
	PageInput
	Site    string              `query:"site" maxLength:"63" doc:"Only devices of this site"`
	Order   string              `query:"order" maxLength:"63" doc:"Only devices of this order"`
	Product string              `query:"product" maxLength:"63" doc:"Only devices of this product"`
	State   vetting.DeviceState `query:"state" enum:"manufactured,registered,issued,active,suspended,retired,quarantined,scrapped" doc:"Only devices in this state"`
	Owner   string              `query:"owner" maxLength:"63" doc:"Only devices of this owner; \"manufacturer\" for those of nobody else"`
	Serial  string              `query:"serial" maxLength:"64" doc:"Only the device with this serial number"`
	MAC     string              `query:"mac" maxLength:"64" doc:"Only the device with this MAC address, with or without separators"`
	UID     string              `query:"uid" maxLength:"128" doc:"Only the device with this chip UID"`
}

func (in *deviceList) filter() (vetting.DeviceFilter, error) {
	id, err := vetting.Identity{Serial: in.Serial, MAC: in.MAC, UID: in.UID}.Normalize()
	if err != nil {
		return vetting.DeviceFilter{}, invalid("query", "%v", err)
	}
	return vetting.DeviceFilter{Site: in.Site, Order: in.Order, Product: in.Product, State: in.State, Owner: in.Owner, Identity: id}, nil
}

func (a *API) devices() {
	register(a, access.ReadDevices, operation{
		id: "listDevices", method: http.MethodGet, path: "/devices", tag: tagDevices,
		summary: "List devices", errors: []int{400},
	}, func(ctx context.Context, c *call, in *deviceList) (*listOutput[vetting.Device], error) {
		f, err := in.filter()
		if err != nil {
			return nil, err
		}
		return listing(in.PageInput, "devices", func(d *vetting.Device) int64 { return d.ID },
			func(p vetting.Page) ([]*vetting.Device, error) { return c.Devices(ctx, f, p) })
	})
	register(a, access.ReadDevices, operation{
		id: "getDevice", method: http.MethodGet, path: "/devices/{id}", tag: tagDevices,
		summary: "Show a device",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[vetting.Device], error) {
		return answer(c.Device(ctx, in.ID))
	})
	register(a, access.ReadDevices, operation{
		id: "getDeviceHistory", method: http.MethodGet, path: "/devices/{id}/history", tag: tagDevices,
		summary:     "Show all that is kept about a device",
		description: "The record it was built from, its certificates, registrations, evidence and the disputed records that claim the same identity. A site's operators do not see the disputed records of other sites.",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[vetting.History], error) {
		return answer(c.DeviceHistory(ctx, in.ID))
	})
	register(a, access.ManageDevices, operation{
		id: "setDeviceState", method: http.MethodPost, path: "/devices/{id}/state", tag: tagDevices,
		summary:     "Move a device to another state",
		description: "Suspends, reactivates, retires, quarantines or scraps a device. A device out of service has no way to a certificate; scrapping is final.",
	}, func(ctx context.Context, c *call, in *idBody[DeviceStateInput]) (*bodyOutput[vetting.Device], error) {
		return answer(c.SetDeviceState(ctx, c.act, in.ID, in.Body.State, in.Body.Note))
	})
	register(a, access.ScrapRecords, operation{
		id: "scrapRecord", method: http.MethodPost, path: "/devices/{id}/scrap", tag: tagDevices,
		summary:     "Scrap what was never powered on",
		description: "For waste at the factory: only a device in state manufactured. It uses up a unit of its order, as long as one is left, unless the order says that waste returns. That cannot be taken back.",
	}, func(ctx context.Context, c *call, in *idBody[ScrapInput]) (*bodyOutput[vetting.Device], error) {
		return answer(c.ScrapRecord(ctx, c.act, in.ID, in.Body.Note))
	})
	register(a, access.ManageDevices, operation{
		id: "reworkDevice", method: http.MethodPost, path: "/devices/{id}/rework", tag: tagDevices,
		summary:     "Scrap a device and give its unit back",
		description: "For a board that was replaced: the device is scrapped, its certificate revoked, and the unit of the order that it took is free for the board that replaces it. That cannot be taken back.",
	}, func(ctx context.Context, c *call, in *idBody[ReasonInput]) (*bodyOutput[vetting.Device], error) {
		return answer(c.ReworkDevice(ctx, c.act, in.ID, in.Body.Note))
	})
	register(a, access.ManageDevices, operation{
		id: "revokeDevice", method: http.MethodPost, path: "/devices/{id}/revoke", tag: tagDevices,
		summary:     "Revoke a device's certificates",
		description: "All its certificates that have not run out are revoked, superseded ones among them. The device stays in its state, but has no way to another certificate until an administrator readmits it. That cannot be taken back.",
	}, func(ctx context.Context, c *call, in *idBody[RevocationInput]) (*bodyOutput[vetting.Device], error) {
		return answer(c.RevokeDevice(ctx, c.act, in.ID, in.Body.Reason, in.Body.Note))
	})
	register(a, access.ManageDevices, operation{
		id: "readmitDevice", method: http.MethodPost, path: "/devices/{id}/readmit", tag: tagDevices,
		summary:     "Let a device start anew",
		description: "For a device in service that lost its key, or whose certificate was revoked: every certificate it has is revoked, and it may enrol once more with its first proof, on the unit that it took.",
	}, func(ctx context.Context, c *call, in *idBody[ReasonInput]) (*bodyOutput[vetting.Device], error) {
		return answer(c.ReadmitDevice(ctx, c.act, in.ID, in.Body.Note))
	})
}
