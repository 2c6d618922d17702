package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// CodesInput asks for enrolment codes.
type CodesInput struct {
	Order   string    `json:"order,omitempty" maxLength:"63" doc:"The order whose devices may use the codes; absent if devices are named"`
	Count   int       `json:"count,omitempty" minimum:"1" maximum:"1000" doc:"How many codes to make for the order; absent means one"`
	Devices []int64   `json:"devices,omitempty" maxItems:"1000" doc:"The devices, of one order, that get a code each; the unused one that a device has is revoked"`
	Expires time.Time `json:"expires" doc:"Until when the codes can be used, at most two years from now"`
}

// CodesCreated are new enrolment codes, which are shown only here.
type CodesCreated struct {
	Batch   int64         `json:"batch" doc:"What the codes are revoked by together"`
	Order   string        `json:"order"`
	Product string        `json:"product"`
	Site    string        `json:"site"`
	Expires time.Time     `json:"expires" doc:"Until when the codes can be used"`
	EST     string        `json:"est" doc:"Host and port that devices enrol at"`
	Codes   []CodeCreated `json:"codes" nullable:"false" doc:"The new codes"`
}

// CodeCreated is one new enrolment code.
type CodeCreated struct {
	ID     int64  `json:"id" doc:"The code's number"`
	Device int64  `json:"device,omitempty" doc:"The device that may use it; absent if any of the order may"`
	Serial string `json:"serial,omitempty" doc:"That device's serial number"`
	Code   string `json:"code" doc:"The code as it is printed: four groups of four; it is not kept"`
	URI    string `json:"uri" doc:"What a QR label holds: touchmark://HOST:PORT/PRODUCT?code=CODE, with order=ORDER, and serial=SERIAL if it is for one device"`
}

// CodesRevoked tells how many codes of a batch were revoked.
type CodesRevoked struct {
	Revoked int64 `json:"revoked" doc:"How many codes were unused, and are revoked now"`
}

func (a *API) codes() {
	type list struct {
		PageInput
		Site   string            `query:"site" maxLength:"63" doc:"Only codes of this site's orders"`
		Order  string            `query:"order" maxLength:"63" doc:"Only codes of this order"`
		Device int64             `query:"device" minimum:"1" doc:"Only codes made for this device"`
		Batch  int64             `query:"batch" minimum:"1" doc:"Only codes of this batch"`
		State  vetting.CodeState `query:"state" enum:"unused,used,expired,revoked" doc:"Only codes in this state"`
	}
	register(a, access.MakeCodes, operation{
		id: "createCodes", method: http.MethodPost, path: "/codes", tag: tagCodes,
		summary: "Make enrolment codes", status: http.StatusCreated, errors: []int{404},
		description: "Each lets one device enrol once, by HTTP Basic over EST. They are shown in this answer and never again: a repetition with the same idempotency key is refused. A site operator may make codes where the product lets sites do so.",
	}, a.createCodes)
	register(a, access.ReadCodes, operation{
		id: "listCodes", method: http.MethodGet, path: "/codes", tag: tagCodes,
		summary: "List enrolment codes, newest first; never the codes themselves", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[vetting.EnrolmentCode], error) {
		f := vetting.CodeFilter{Site: in.Site, Order: in.Order, DeviceID: in.Device, Batch: in.Batch, State: in.State}
		return listing(in.PageInput, "codes", func(e *vetting.EnrolmentCode) int64 { return e.ID },
			func(p vetting.Page) ([]*vetting.EnrolmentCode, error) { return c.Codes(ctx, f, p) })
	})
	register(a, access.ReadCodes, operation{
		id: "getCode", method: http.MethodGet, path: "/codes/{id}", tag: tagCodes,
		summary: "Show an enrolment code; never the code itself",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[vetting.EnrolmentCode], error) {
		return answer(c.Code(ctx, in.ID))
	})
	register(a, access.MakeCodes, operation{
		id: "revokeCode", method: http.MethodPost, path: "/codes/{id}/revoke", tag: tagCodes,
		summary: "Revoke an enrolment code", description: "One that was used already cannot be revoked: quarantine the device.",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[vetting.EnrolmentCode], error) {
		if err := mayMakeFor(ctx, c, in.ID); err != nil {
			return nil, err
		}
		return answer(c.RevokeCode(ctx, c.act, in.ID))
	})
	register(a, access.MakeCodes, operation{
		id: "revokeCodes", method: http.MethodPost, path: "/code-batches/{id}/revoke", tag: tagCodes,
		summary: "Revoke the unused enrolment codes of a batch",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[CodesRevoked], error) {
		if err := mayMakeFor(ctx, c, in.ID); err != nil {
			return nil, err
		}
		n, err := c.RevokeBatch(ctx, c.act, in.ID)
		return answer(&CodesRevoked{n}, err)
	})
}

func (a *API) createCodes(ctx context.Context, c *call, in *bodyOf[CodesInput]) (*createdOutput[CodesCreated], error) {
	n := vetting.NewCodes{Order: in.Body.Order, Devices: in.Body.Devices, Expires: in.Body.Expires.UTC()}
	count := len(n.Devices)
	if count == 0 {
		count = max(1, in.Body.Count)
	} else if in.Body.Count != 0 {
		return nil, invalid("body.count", "count is for the codes of an order; each device that is named gets one")
	}
	secrets := make([]vetting.OneTimeCode, count)
	for i := range secrets {
		var err error
		if secrets[i], err = vetting.NewOneTimeCode(rand.Reader); err != nil {
			return nil, err
		}
		n.Hashes = append(n.Hashes, secrets[i].Hash())
	}
	if err := n.Check(a.config.Now()); err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "%v", err)
	}
	order, err := orderOf(ctx, c, n)
	if err != nil {
		return nil, err
	}
	if err := mayMake(ctx, c, order); err != nil {
		return nil, err
	}
	made, err := c.CreateCodes(ctx, c.act, n)
	if err != nil {
		return nil, err
	}
	out := &CodesCreated{Batch: made[0].Batch, Order: order.Name, Product: order.Product, Site: order.Site, Expires: made[0].Expires, EST: a.config.EST()}
	for i, code := range made {
		out.Codes = append(out.Codes, CodeCreated{ID: code.ID, Device: code.DeviceID, Serial: code.Serial,
			Code: secrets[i].Label(), URI: codeURI(out, code.Serial, secrets[i])})
	}
	return &createdOutput[CodesCreated]{Base + fmt.Sprintf("/codes?batch=%d", out.Batch), out}, nil
}

// orderOf finds the order that codes are asked for, as far as the operator
// knows of it.
func orderOf(ctx context.Context, c *call, n vetting.NewCodes) (*vetting.Order, error) {
	if len(n.Devices) == 0 {
		return c.Order(ctx, n.Order)
	}
	d, err := c.Device(ctx, n.Devices[0])
	if err != nil {
		return nil, err
	}
	return c.Order(ctx, d.Order)
}

// mayMake reports whether the operator may make codes for an order: at its
// site only where the product says so.
func mayMake(ctx context.Context, c *call, o *vetting.Order) error {
	if !c.Operator().Role.OfSite() {
		return nil
	}
	p, err := c.Product(ctx, o.Product)
	if err == nil && !p.SiteCodes {
		err = problem(http.StatusForbidden, "product %s leaves enrolment codes to the planner: ask for them, or for the product to let sites make their own", p.Name)
	}
	return err
}

func mayMakeFor(ctx context.Context, c *call, code int64) error {
	e, err := c.Code(ctx, code)
	if err != nil {
		return err
	}
	o, err := c.Order(ctx, e.Order)
	if err != nil {
		return err
	}
	return mayMake(ctx, c, o)
}

// codeURI is what a label's QR code holds.
func codeURI(of *CodesCreated, serial string, code vetting.OneTimeCode) string {
	q := url.Values{"code": {code.Label()}, "order": {of.Order}}
	if serial != "" {
		q.Set("serial", serial)
	}
	u := url.URL{Scheme: "touchmark", Host: of.EST, Path: "/" + of.Product, RawQuery: q.Encode()}
	return u.String()
}
