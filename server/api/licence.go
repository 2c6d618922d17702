package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/licensing"
	"github.com/touchmark/touchmark/vetting"
)

// Licenser gives licences to chips.
type Licenser interface {
	// License reserves, signs and keeps a licence for each chip, named by its
	// UID in hexadecimal. A chip that has one from before gets the same. What is
	// answered is durable, and asking again is safe.
	License(ctx context.Context, act access.Act, o *vetting.Order, uids []string) (*licensing.Answer, error)
	// Confirm keeps that chips of a site have their licences, and says of each
	// why it cannot be, or nil.
	Confirm(ctx context.Context, act access.Act, site string, uids []string) ([]*vetting.LicenceRefusal, error)
}

// LicencesInput asks for licences, for one chip or for many.
type LicencesInput struct {
	Order string   `json:"order" minLength:"1" maxLength:"63" doc:"The order whose quota they are taken from"`
	UID   string   `json:"uid,omitempty" maxLength:"128" doc:"The chip's UID in hexadecimal, as it is read from the silicon; a chip that gets no licence is an error then"`
	UIDs  []string `json:"uids,omitempty" maxItems:"1000" doc:"The UIDs of several chips, each of which gets an answer of its own"`
}

// LicencesAnswer is what the chips got.
type LicencesAnswer struct {
	Lot      uint32        `json:"lot" doc:"The order's number in its licences"`
	Left     int64         `json:"left" doc:"How many further chips can get a licence from the order"`
	Licences []ChipLicence `json:"licences" nullable:"false" doc:"One for each UID, in the order of the request"`
}

// ChipLicence is what one chip got.
type ChipLicence struct {
	UID      string                  `json:"uid" doc:"The UID as it was asked for"`
	Licence  []byte                  `json:"licence,omitempty" doc:"The licence, 80 bytes in base64; absent if the chip gets none"`
	Repeated bool                    `json:"repeated,omitempty" doc:"Whether the chip had this licence before, so that it takes nothing from the quota"`
	Refused  *vetting.LicenceRefusal `json:"refused,omitempty" doc:"Why the chip gets none"`
}

// ConfirmationInput says which chips have their licence.
type ConfirmationInput struct {
	UID  string   `json:"uid,omitempty" maxLength:"128" doc:"The chip's UID in hexadecimal"`
	UIDs []string `json:"uids,omitempty" maxItems:"1000" doc:"The UIDs of several chips, each of which gets an answer of its own"`
}

// ConfirmationAnswer says what became of it.
type ConfirmationAnswer struct {
	Confirmed int          `json:"confirmed" doc:"How many of the chips are noted as programmed, now or before"`
	Refused   []Unlicensed `json:"refused" nullable:"false" doc:"The others"`
}

// Unlicensed is a chip that cannot be confirmed.
type Unlicensed struct {
	UID    string                 `json:"uid" doc:"The UID as it was given"`
	Reason vetting.LicenceRefusal `json:"reason" doc:"Why"`
}

// maxLicencesBody is for vetting.MaxLicences UIDs of 32 bytes with separators.
const maxLicencesBody = 160 << 10

func (a *API) licences() {
	type list struct {
		PageInput
		Site    string               `query:"site" maxLength:"63" doc:"Only licences of this site"`
		Order   string               `query:"order" maxLength:"63" doc:"Only licences of this order"`
		Product string               `query:"product" maxLength:"63" doc:"Only licences of this product"`
		State   vetting.LicenceState `query:"state" enum:"reserved,signed,programmed" doc:"Only licences in this state"`
	}
	type one struct {
		UID string `path:"uid" maxLength:"128" doc:"The chip's UID in hexadecimal"`
	}
	register(a, access.LicenseChips, operation{
		id: "giveLicences", method: http.MethodPost, path: "/licences", tag: tagLicences, maxBody: maxLicencesBody,
		summary: "Get licences for chips", errors: []int{404, 503},
		description: "Each chip takes one unit of the order's licences, of which there are as many as units, and keeps it, whether it is ever programmed or not. A chip that asks again gets the same licence and takes nothing, so this can be sent again without an Idempotency-Key. With uid, a chip that gets none is an error: 422 for a UID that no chip of the order has, 409 for the rest.",
	}, a.giveLicences)
	register(a, access.LicenseChips, operation{
		id: "confirmLicences", method: http.MethodPost, path: "/licences/confirm", tag: tagLicences, maxBody: maxLicencesBody,
		summary:     "Confirm that chips have their licences",
		description: "To be sent when the licence was read back from the chip. It changes nothing about quotas.",
	}, a.confirmLicences)
	register(a, access.ReadLicences, operation{
		id: "listLicences", method: http.MethodGet, path: "/licences", tag: tagLicences,
		summary: "List licences, newest first", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[vetting.Licence], error) {
		f := vetting.LicenceFilter{Site: in.Site, Order: in.Order, Product: in.Product, State: in.State}
		return listing(in.PageInput, "licences", func(l *vetting.Licence) int64 { return l.ID },
			func(p vetting.Page) ([]*vetting.Licence, error) { return c.Licences(ctx, f, p) })
	})
	register(a, access.ReadLicences, operation{
		id: "getLicence", method: http.MethodGet, path: "/licences/{uid}", tag: tagLicences,
		summary: "Show a chip's licence",
	}, func(ctx context.Context, c *call, in *one) (*bodyOutput[vetting.Licence], error) {
		uid, err := licensing.ParseUID(in.UID)
		if err != nil {
			return nil, err
		}
		return answer(c.LicenceOf(ctx, uid))
	})
}

// chips are the UIDs of a request: one or several.
func chips(uid string, uids []string) ([]string, error) {
	switch {
	case uid != "" && len(uids) > 0:
		return nil, invalid("body.uids", "give uid for one chip or uids for several, and not both")
	case uid != "":
		return []string{uid}, nil
	case len(uids) == 0:
		return nil, invalid("body", "no chip is named: give uid or uids")
	}
	return uids, nil
}

func (a *API) giveLicences(ctx context.Context, c *call, in *bodyOf[LicencesInput]) (*bodyOutput[LicencesAnswer], error) {
	uids, err := chips(in.Body.UID, in.Body.UIDs)
	if err != nil {
		return nil, err
	}
	o, err := c.Order(ctx, in.Body.Order)
	if err != nil {
		return nil, err
	}
	given, err := a.config.Licenser.License(ctx, c.act, o, uids)
	if err != nil {
		return nil, err
	}
	if in.Body.UID != "" {
		if err := refusal(given.Given[0].Refused, "body.uid"); err != nil {
			return nil, err
		}
	}
	out := &LicencesAnswer{Lot: given.Lot, Left: given.Left, Licences: make([]ChipLicence, len(given.Given))}
	for i, g := range given.Given {
		out.Licences[i] = ChipLicence(g)
	}
	return answer(out, nil)
}

// refusal is that of the only chip of a request, as an error.
func refusal(r *vetting.LicenceRefusal, location string) error {
	switch {
	case r == nil:
		return nil
	case r.Code == vetting.RefusedUID || r.Code == vetting.RefusedLot:
		return invalid(location, "%s", r.Text)
	}
	return vetting.Errorf(vetting.Conflict, "%s", r.Text)
}

func (a *API) confirmLicences(ctx context.Context, c *call, in *bodyOf[ConfirmationInput]) (*bodyOutput[ConfirmationAnswer], error) {
	uids, err := chips(in.Body.UID, in.Body.UIDs)
	if err != nil {
		return nil, err
	}
	refused, err := a.config.Licenser.Confirm(ctx, c.act, c.Operator().Site, uids)
	if err != nil {
		return nil, err
	}
	if in.Body.UID != "" {
		if err := refusal(refused[0], "body.uid"); err != nil {
			return nil, err
		}
	}
	out := &ConfirmationAnswer{Refused: []Unlicensed{}}
	for i, r := range refused {
		if r == nil {
			out.Confirmed++
		} else {
			out.Refused = append(out.Refused, Unlicensed{uids[i], *r})
		}
	}
	return answer(out, nil)
}

// licenceAlgorithms are the kinds of keys that sign licences.
var licenceAlgorithms = []string{"Ed25519", "P-256"}

// LicenceKeyMaker makes keys in the key store of the installation.
type LicenceKeyMaker interface {
	// MakeLicenceKey makes a key of a name and algorithm, or takes the one that
	// is there, and gives its SubjectPublicKeyInfo.
	MakeLicenceKey(ctx context.Context, name, algorithm string) (public []byte, err error)
}

// LicenceKeyInput is a key to be made.
type LicenceKeyInput struct {
	Algorithm string `json:"algorithm,omitempty" enum:"Ed25519,P-256" default:"Ed25519" doc:"How licences are signed; an HSM may know P-256 only"`
}

func (a *API) licenceKeys() {
	type numbered struct {
		Name   string `path:"name" maxLength:"63" doc:"The product's name"`
		Number uint8  `path:"number" minimum:"1" doc:"The key's number"`
	}
	register(a, access.ReadLicences, operation{
		id: "listLicenceKeys", method: http.MethodGet, path: "/products/{name}/licence-keys", tag: tagLicences,
		summary: "List a product's licence keys",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[List[vetting.LicenceKey]], error) {
		keys, err := c.LicenceKeys(ctx, in.Name)
		return answer(&List[vetting.LicenceKey]{Items: append([]*vetting.LicenceKey{}, keys...)}, err)
	})
	register(a, access.ManageLicenceKeys, operation{
		id: "createLicenceKey", method: http.MethodPost, path: "/products/{name}/licence-keys", tag: tagLicences,
		summary: "Make a licence key", status: http.StatusCreated,
		description: "The server makes it in its key store, as licence-PRODUCT-NUMBER. The first key of a product signs at once; a later one when it is put to use, for firmware must know it first. Several servers need the key each, unless it is in an HSM.",
	}, a.createLicenceKey)
	register(a, access.ManageLicenceKeys, operation{
		id: "useLicenceKey", method: http.MethodPost, path: "/products/{name}/licence-keys/{number}/use", tag: tagLicences,
		summary: "Have a product's licences signed by a key from now on", description: "Licences that were given stay as they are.",
	}, func(ctx context.Context, c *call, in *numbered) (*bodyOutput[vetting.LicenceKey], error) {
		return answer(c.UseLicenceKey(ctx, c.act, in.Name, in.Number))
	})
}

func (a *API) createLicenceKey(ctx context.Context, c *call, in *namedBody[LicenceKeyInput]) (*createdOutput[vetting.LicenceKey], error) {
	location := func(k *vetting.LicenceKey) string { return "/products/" + k.Product + "/licence-keys" }
	if made, err := c.LicenceKeyMade(ctx, c.act, in.Name); made != nil || err != nil {
		return created(made, err, location)
	}
	have, err := c.LicenceKeys(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	p, err := c.Product(ctx, in.Name)
	switch {
	case err != nil:
		return nil, err
	case p.Licences == nil:
		return nil, vetting.Errorf(vetting.Conflict, "product %s declares no licences: declare them first, with the type of its chips' UIDs", p.Name)
	case len(have) >= vetting.MaxLicenceKeys:
		return nil, vetting.Errorf(vetting.Conflict, "product %s has %d licence keys already, and a licence has room for no more", p.Name, len(have))
	}
	k := &vetting.LicenceKey{Product: p.Name, Number: uint8(len(have) + 1), Algorithm: in.Body.Algorithm}
	if !slices.Contains(licenceAlgorithms, k.Algorithm) {
		k.Algorithm = licenceAlgorithms[0]
	}
	if k.Public, err = a.config.LicenceKeys.MakeLicenceKey(ctx, k.Name(), k.Algorithm); err != nil {
		return nil, err
	}
	k, err = c.CreateLicenceKey(ctx, c.act, k)
	return created(k, err, location)
}
