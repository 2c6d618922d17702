package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// OwnerInput is an owner to be created.
type OwnerInput struct {
	Name        string           `json:"name" minLength:"1" maxLength:"63" doc:"The name; it never changes"`
	Description string           `json:"description,omitempty" maxLength:"1000" doc:"A few words for people"`
	Issuer      string           `json:"issuer,omitempty" maxLength:"63" doc:"The name of the issuing CA of its devices; absent means the default"`
	Profile     *vetting.Profile `json:"profile,omitempty" doc:"What the certificates of its devices look like, whatever their products; absent leaves that to the products"`
}

// OwnerIssuer changes an owner's issuing CA.
type OwnerIssuer struct {
	Issuer string `json:"issuer,omitempty" maxLength:"63" doc:"The name of the issuing CA; absent means the default"`
}

type ownerIssuerBody struct {
	Name string `path:"name" maxLength:"63" doc:"The name"`
	Body OwnerIssuer
}

// OfferInput is a transfer to be.
type OfferInput struct {
	From    string   `json:"from,omitempty" maxLength:"63" doc:"The present owner; absent means the operator's own, or the manufacturer"`
	To      string   `json:"to" minLength:"1" maxLength:"63" doc:"The next owner; \"manufacturer\" gives devices back"`
	Serials []string `json:"serials" minItems:"1" maxItems:"10000" nullable:"false" doc:"The serial numbers of the devices"`
	Product string   `json:"product,omitempty" maxLength:"63" doc:"Their product, where several have devices with these serial numbers"`
	Seconds int64    `json:"seconds,omitempty" minimum:"3600" maximum:"31622400" doc:"How long the offer stands; absent means 14 days"`
	Note    string   `json:"note,omitempty" maxLength:"1000" doc:"A few words for the next owner, and the audit log"`
}

// TransferNote goes with a step of a transfer.
type TransferNote struct {
	Note string `json:"note,omitempty" maxLength:"1000" doc:"A few words for the audit log"`
}

// maxOfferBody holds vetting.MaxTransferred serial numbers.
const maxOfferBody = 1 << 20

func (a *API) owners() {
	type list struct{ PageInput }
	register(a, access.ReadOwners, operation{
		id: "listOwners", method: http.MethodGet, path: "/owners", tag: tagOwners,
		summary: "List owners", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[vetting.Owner], error) {
		return listing(in.PageInput, "owners", func(o *vetting.Owner) int64 { return o.ID },
			func(p vetting.Page) ([]*vetting.Owner, error) { return c.Owners(ctx, p) })
	})
	register(a, access.ManageOwners, operation{
		id: "createOwner", method: http.MethodPost, path: "/owners", tag: tagOwners, maxBody: maxProductBody,
		summary: "Create an owner", status: http.StatusCreated,
		description: "The profile is rendered and linted first; a finding refuses the owner with status 422.",
	}, a.createOwner)
	register(a, access.ReadOwners, operation{
		id: "getOwner", method: http.MethodGet, path: "/owners/{name}", tag: tagOwners,
		summary: "Show an owner",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[vetting.Owner], error) {
		return answer(c.Owner(ctx, in.Name))
	})
	register(a, access.ManageOwners, operation{
		id: "setOwnerIssuer", method: http.MethodPut, path: "/owners/{name}/issuer", tag: tagOwners,
		summary:     "Have the devices of an owner get their certificates from another issuing CA",
		description: "From the next enrolment or renewal on, on every server within a second or two. What the other issued stays valid.",
	}, func(ctx context.Context, c *call, in *ownerIssuerBody) (*bodyOutput[vetting.Owner], error) {
		return answer(c.SetOwnerIssuer(ctx, c.act, in.Name, in.Body.Issuer))
	})
	a.transfers()
	a.transferSteps()
	a.vouchers()
}

func (a *API) createOwner(ctx context.Context, c *call, in *bodyOf[OwnerInput]) (*createdOutput[vetting.Owner], error) {
	o := &vetting.Owner{Name: in.Body.Name, Description: in.Body.Description, Issuer: in.Body.Issuer, Profile: in.Body.Profile}
	if err := o.Check(); err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "%v", err)
	}
	if o.Profile != nil {
		if err := a.config.Profiles.CheckProfile(ctx, &vetting.Product{Name: o.Name, Profile: *o.Profile}); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, invalid("body.profile", "%v", err)
		}
	}
	o, err := c.CreateOwner(ctx, c.act, o)
	return created(o, err, func(o *vetting.Owner) string { return "/owners/" + o.Name })
}

func (a *API) transfers() {
	type list struct {
		PageInput
		Owner string                `query:"owner" maxLength:"63" doc:"Only transfers from or to this owner, or \"manufacturer\""`
		State vetting.TransferState `query:"state" enum:"offered,expired,accepted,withdrawn,declined,handed-out,reversed" doc:"Only transfers in this state"`
	}
	register(a, access.ReadOwners, operation{
		id: "listTransfers", method: http.MethodGet, path: "/transfers", tag: tagOwners,
		summary: "List transfers, newest first", errors: []int{400, 404},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[vetting.Transfer], error) {
		f := vetting.TransferFilter{State: in.State}
		if in.Owner != "" {
			f.Parties = []string{in.Owner}
		}
		return listing(in.PageInput, "transfers", func(t *vetting.Transfer) int64 { return t.ID },
			func(p vetting.Page) ([]*vetting.Transfer, error) { return c.Transfers(ctx, f, p) })
	})
	register(a, access.ReadOwners, operation{
		id: "getTransfer", method: http.MethodGet, path: "/transfers/{id}", tag: tagOwners,
		summary: "Show a transfer",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[vetting.Transfer], error) {
		return answer(c.Transfer(ctx, in.ID))
	})
	type devices struct {
		PageInput
		ID int64 `path:"id" minimum:"1" doc:"The number"`
	}
	register(a, access.ReadOwners, operation{
		id: "listTransferDevices", method: http.MethodGet, path: "/transfers/{id}/devices", tag: tagOwners,
		summary: "List the devices of a transfer, as they are now", errors: []int{400},
	}, func(ctx context.Context, c *call, in *devices) (*listOutput[vetting.Device], error) {
		return listing(in.PageInput, "transfer-devices", func(d *vetting.Device) int64 { return d.ID },
			func(p vetting.Page) ([]*vetting.Device, error) { return c.TransferDevices(ctx, in.ID, p) })
	})
}

func (a *API) transferSteps() {
	register(a, access.TransferDevices, operation{
		id: "offerTransfer", method: http.MethodPost, path: "/transfers", tag: tagOwners, maxBody: maxOfferBody,
		summary: "Offer devices to another owner", status: http.StatusCreated, errors: []int{404},
		description: "Nothing becomes of the devices before the offer is accepted. A device is in one open offer at most.",
	}, func(ctx context.Context, c *call, in *bodyOf[OfferInput]) (*createdOutput[vetting.Transfer], error) {
		b := in.Body
		t, err := c.OfferTransfer(ctx, c.act, vetting.Offer{From: b.From, To: b.To, Serials: b.Serials, Product: b.Product,
			Time: time.Duration(b.Seconds) * time.Second, Note: b.Note})
		return created(t, err, func(t *vetting.Transfer) string { return fmt.Sprintf("/transfers/%d", t.ID) })
	})
	register(a, access.TransferDevices, operation{
		id: "acceptTransfer", method: http.MethodPost, path: "/transfers/{id}/accept", tag: tagOwners,
		summary:     "Accept devices that were offered",
		description: "All of them at once: they are the next owner's, their certificates are revoked (affiliationChanged), and each may enrol anew, with its first proof or with the certificate that it had.",
	}, func(ctx context.Context, c *call, in *idBody[TransferNote]) (*bodyOutput[vetting.Transfer], error) {
		return answer(c.AcceptTransfer(ctx, c.act, in.ID, in.Body.Note))
	})
	register(a, access.TransferDevices, operation{
		id: "declineTransfer", method: http.MethodPost, path: "/transfers/{id}/decline", tag: tagOwners,
		summary: "Turn an offer down",
	}, func(ctx context.Context, c *call, in *idBody[TransferNote]) (*bodyOutput[vetting.Transfer], error) {
		return answer(c.DeclineTransfer(ctx, c.act, in.ID, in.Body.Note))
	})
	register(a, access.TransferDevices, operation{
		id: "withdrawTransfer", method: http.MethodPost, path: "/transfers/{id}/withdraw", tag: tagOwners,
		summary: "Take an offer back",
	}, func(ctx context.Context, c *call, in *idBody[TransferNote]) (*bodyOutput[vetting.Transfer], error) {
		return answer(c.WithdrawTransfer(ctx, c.act, in.ID, in.Body.Note))
	})
	register(a, access.ManageOwners, operation{
		id: "reverseTransfer", method: http.MethodPost, path: "/transfers/{id}/reverse", tag: tagOwners,
		summary:     "Give the devices of an accepted transfer back",
		description: "As accepting it did, the other way round. Not if one of them took part in another transfer since.",
	}, func(ctx context.Context, c *call, in *idBody[ReasonInput]) (*bodyOutput[vetting.Transfer], error) {
		return answer(c.ReverseTransfer(ctx, c.act, in.ID, in.Body.Note))
	})
}
