package api

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// AccountKeyInput asks for an account key.
type AccountKeyInput struct {
	Order   string    `json:"order,omitempty" maxLength:"63" doc:"The order whose devices the account may speak for; absent if a site is named"`
	Site    string    `json:"site,omitempty" maxLength:"63" doc:"The site whose orders' devices the account may speak for"`
	Note    string    `json:"note,omitempty" maxLength:"1000" doc:"Who gets it, and what for"`
	Expires time.Time `json:"expires" doc:"Until when an account can be opened with it, at most two years from now"`
}

// AccountKeyCreated is a new account key, whose secret is shown only here.
type AccountKeyCreated struct {
	Key       vetting.AccountKey `json:"key" doc:"The account key, as it is listed"`
	KeyID     string             `json:"kid" doc:"What ACME clients call the key identifier"`
	Secret    string             `json:"hmac" doc:"The HMAC-SHA-256 key in base64url; it is not shown again"`
	Directory string             `json:"directory" doc:"The URL of the ACME directory"`
}

func (a *API) accountKeys() {
	type list struct {
		PageInput
		Site  string `query:"site" maxLength:"63" doc:"Only account keys of this site and its orders"`
		Order string `query:"order" maxLength:"63" doc:"Only account keys of this order"`
	}
	register(a, access.MakeCodes, operation{
		id: "createAccountKey", method: http.MethodPost, path: "/account-keys", tag: tagCodes,
		summary: "Make an account key for ACME", status: http.StatusCreated, errors: []int{404},
		description: "It opens one ACME account (external account binding, RFC 8555 §7.3.4), which may then ask for certificates for the devices of the order or site. Its secret is shown in this answer and never again: a repetition with the same idempotency key is refused. A site operator may make keys for orders where the product lets sites make enrolment codes.",
	}, a.createAccountKey)
	register(a, access.ReadCodes, operation{
		id: "listAccountKeys", method: http.MethodGet, path: "/account-keys", tag: tagCodes,
		summary: "List account keys, newest first; never their secrets",
	}, func(ctx context.Context, c *call, in *list) (*listOutput[vetting.AccountKey], error) {
		f := vetting.AccountKeyFilter{Site: in.Site, Order: in.Order}
		return listing(in.PageInput, "account keys", func(k *vetting.AccountKey) int64 { return k.ID },
			func(p vetting.Page) ([]*vetting.AccountKey, error) { return c.AccountKeys(ctx, f, p) })
	})
	register(a, access.ReadCodes, operation{
		id: "getAccountKey", method: http.MethodGet, path: "/account-keys/{id}", tag: tagCodes,
		summary: "Show an account key; never its secret",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[vetting.AccountKey], error) {
		return answer(c.AccountKey(ctx, in.ID))
	})
	register(a, access.MakeCodes, operation{
		id: "revokeAccountKey", method: http.MethodPost, path: "/account-keys/{id}/revoke", tag: tagCodes,
		summary: "Revoke an account key", description: "The account that was opened with it ends, too. Certificates that it was given stay valid.",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[vetting.AccountKey], error) {
		k, err := c.AccountKey(ctx, in.ID)
		if err == nil {
			err = mayBind(ctx, c, k)
		}
		if err != nil {
			return nil, err
		}
		return answer(c.RevokeAccountKey(ctx, c.act, in.ID))
	})
}

func (a *API) createAccountKey(ctx context.Context, c *call, in *bodyOf[AccountKeyInput]) (*createdOutput[AccountKeyCreated], error) {
	k := &vetting.AccountKey{Order: in.Body.Order, Site: in.Body.Site, Note: in.Body.Note, Expires: in.Body.Expires.UTC()}
	if err := k.Check(a.config.Now()); err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "%v", err)
	}
	if err := mayBind(ctx, c, k); err != nil {
		return nil, err
	}
	made, err := c.CreateAccountKey(ctx, c.act, k)
	if err != nil {
		return nil, err
	}
	out := &AccountKeyCreated{Key: *made, KeyID: strconv.FormatInt(made.ID, 10),
		Secret: base64.RawURLEncoding.EncodeToString(a.config.AccountKeys(made.ID)), Directory: a.config.ACME()}
	return &createdOutput[AccountKeyCreated]{Base + fmt.Sprintf("/account-keys/%d", made.ID), out}, nil
}

// mayBind reports whether the operator may make and revoke such a key: a
// site's only for an order, where the product lets sites make codes.
func mayBind(ctx context.Context, c *call, k *vetting.AccountKey) error {
	if k.Order == "" {
		if c.Operator().Role.OfSite() {
			return problem(http.StatusForbidden, "account keys for a whole site are the planner's: ask for one, or make one for an order")
		}
		_, err := c.Site(ctx, k.Site)
		return err
	}
	o, err := c.Order(ctx, k.Order)
	if err != nil {
		return err
	}
	return mayMake(ctx, c, o)
}
