package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/rules"
	"github.com/touchmark/touchmark/vetting/vendorid"
)

// Bounds of the bodies that may be long, in bytes.
const (
	maxProductBody = 256 << 10 // a certificate template
	maxOrderBody   = 2 << 20   // vetting.MaxIdentifierRanges ranges
)

// ProductSettings are everything about a product but its name.
type ProductSettings struct {
	Description  string                 `json:"description,omitempty" maxLength:"1000"`
	Profile      vetting.Profile        `json:"profile" doc:"What the product's certificates look like"`
	Proofs       []vetting.Proof        `json:"proofs" minItems:"1" nullable:"false" enum:"bootstrap-key,identifiers,code,rig,vendor-certificate,tpm,attestation,domain-control" doc:"The proofs on which a device may first enrol"`
	Rules        []vetting.Rule         `json:"rules,omitempty" maxItems:"20" doc:"What a first enrolment must meet beyond record and order"`
	AwaitRecords string                 `json:"awaitRecords,omitempty" maxLength:"32" doc:"How long a device that is in no record is held, as 72h; absent refuses it at once"`
	ServerKeys   vetting.ServerKeys     `json:"serverKeys,omitempty" enum:"off,encrypted,plain" default:"off" doc:"Whether devices may have their private key made by the server (EST's serverkeygen): never, sent only encrypted to a key that the device names, or also plain within TLS"`
	SiteCodes    bool                   `json:"siteCodes,omitempty" doc:"Whether a site's operators may make enrolment codes for the site's orders"`
	Vendors      []vetting.Vendor       `json:"vendors,omitempty" maxItems:"8" doc:"Makers of chips and modules whose certificates prove devices"`
	TPM          vetting.TPMPolicy      `json:"tpm,omitzero" doc:"How TPMs prove devices"`
	Licences     *vetting.LicencePolicy `json:"licences,omitempty" doc:"Declares that the firmware runs only on licensed chips; absent if it does not ask"`
	Domains      vetting.Domains        `json:"domains,omitzero" doc:"The DNS names that servers may prove"`
	Life         vetting.Life           `json:"life,omitzero" doc:"What comes after the first certificate: activation, renewal, rescue, copies"`

	Approvals vetting.ProductApprovals `json:"approvals,omitzero" doc:"How many others must agree to its orders and manifests; the numbers can only grow"`
}

// apply has the product hold the settings.
func (s *ProductSettings) apply(p *vetting.Product) {
	p.Description, p.Profile, p.Proofs, p.Rules, p.AwaitRecords = s.Description, s.Profile, s.Proofs, s.Rules, s.AwaitRecords
	p.ServerKeys, p.SiteCodes, p.Vendors, p.TPM = s.ServerKeys, s.SiteCodes, s.Vendors, s.TPM
	p.Licences, p.Domains, p.Life, p.Approvals = s.Licences, s.Domains, s.Life, s.Approvals
}

// ProductInput is a product to be created.
type ProductInput struct {
	Name string `json:"name" minLength:"1" maxLength:"63" doc:"The product's name; it is also its EST label"`
	ProductSettings
}

// ProductUpdate replaces everything about a product but its name.
type ProductUpdate struct {
	ProductSettings
	Revision int64 `json:"revision" minimum:"1" doc:"The revision that is replaced, as it was read; another one in the database is a conflict"`
}

// SiteInput is a site to be created.
type SiteInput struct {
	Name        string `json:"name" minLength:"1" maxLength:"63"`
	Description string `json:"description,omitempty" maxLength:"1000"`

	Networks []string `json:"networks,omitempty" maxItems:"100" doc:"The site's own networks, as CIDR prefixes"`
}

// SiteUpdate replaces everything about a site but its name.
type SiteUpdate struct {
	Description string   `json:"description,omitempty" maxLength:"1000"`
	Networks    []string `json:"networks,omitempty" maxItems:"100" doc:"The site's own networks, as CIDR prefixes"`
	Revision    int64    `json:"revision" minimum:"1" doc:"The revision that is replaced, as it was read; another one in the database is a conflict"`
}

// OrderInput is an order to be created.
type OrderInput struct {
	Name               string              `json:"name" minLength:"1" maxLength:"63"`
	Product            string              `json:"product" minLength:"1" maxLength:"63" doc:"What is built"`
	Site               string              `json:"site" minLength:"1" maxLength:"63" doc:"Where it is built"`
	Quantity           int64               `json:"quantity" minimum:"1" maximum:"100000000" doc:"The most units that may be issued"`
	State              vetting.OrderState  `json:"state,omitempty" enum:"draft,open" default:"draft" doc:"Whether devices are admitted at once or when the order is opened"`
	Identifiers        vetting.Identifiers `json:"identifiers,omitzero" doc:"Confines what the units may be called"`
	NotBefore          time.Time           `json:"notBefore,omitzero" doc:"From when devices may first enrol; absent means from the beginning"`
	NotAfter           time.Time           `json:"notAfter,omitzero" doc:"Until when devices may first enrol; absent means without end"`
	Limits             vetting.Limits      `json:"limits,omitzero" doc:"How fast units may be issued"`
	Waste              vetting.WastePolicy `json:"waste,omitempty" enum:"counts,returns" default:"counts" doc:"Whether a record that is scrapped before power-on uses up a unit, or leaves it to another device"`
	Rework             vetting.Rework      `json:"rework,omitempty" enum:"administrator,site" default:"administrator" doc:"Who may replace a unit that failed before it used its certificate: the site's rigs, too, or an administrator only"`
	MaxReplacements    int64               `json:"maxReplacements,omitempty" minimum:"0" maximum:"100000000" doc:"How many units the site's rigs may replace, if rework is left to it; 0 means 2 % of the quantity, rounded up"`
	RaiseApprovals     int                 `json:"raiseApprovals,omitempty" minimum:"0" maximum:"8" doc:"How many others must approve a larger quantity"`
	ManifestApprovals  int                 `json:"manifestApprovals,omitempty" minimum:"0" maximum:"8" doc:"How many others must approve each manifest; the product may want more"`
	ManifestSignatures int                 `json:"manifestSignatures,omitempty" default:"1" minimum:"1" maximum:"8" doc:"How many site operators must sign each manifest"`
}

// OrderPatch is what may change about an order. What is absent stays.
type OrderPatch struct {
	State          *vetting.OrderState `json:"state,omitempty" enum:"open,paused,closed,cancelled" doc:"The order's new state"`
	Quantity       *int64              `json:"quantity,omitempty" minimum:"1" maximum:"100000000" doc:"The new quantity, at least what was issued already"`
	NotBefore      OptionalTime        `json:"notBefore,omitzero" doc:"The window's new begin; null removes it"`
	NotAfter       OptionalTime        `json:"notAfter,omitzero" doc:"The window's new end; null removes it"`
	RaiseApprovals *int                `json:"raiseApprovals,omitempty" minimum:"0" maximum:"8" doc:"How many others must approve a larger quantity; it can only grow"`

	ManifestApprovals *int `json:"manifestApprovals,omitempty" minimum:"0" maximum:"8" doc:"How many others must approve each manifest; it can only grow"`

	Rework          *vetting.Rework `json:"rework,omitempty" enum:"administrator,site" doc:"Who may replace a unit that failed before it used its certificate"`
	MaxReplacements *int64          `json:"maxReplacements,omitempty" minimum:"0" maximum:"100000000" doc:"How many units the site's rigs may replace; 0 means 2 % of the quantity, rounded up"`
	Limits          *vetting.Limits `json:"limits,omitempty" doc:"How fast units may be issued; replaces all limits"`
}

// OptionalTime tells an absent time (the zero value) from null (Set, with the
// zero Time) and from a given one.
type OptionalTime struct {
	Set  bool
	Time time.Time
}

// IsZero reports whether the value is absent.
func (o OptionalTime) IsZero() bool { return !o.Set }

// MarshalJSON gives null or the time.
func (o OptionalTime) MarshalJSON() ([]byte, error) {
	if o.Time.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(o.Time)
}

// UnmarshalJSON reads null or a time.
func (o *OptionalTime) UnmarshalJSON(b []byte) error {
	o.Set, o.Time = true, time.Time{}
	return json.Unmarshal(b, &o.Time) // null leaves it as it is
}

// Schema describes the type to huma.
func (OptionalTime) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Nullable: true}
}

func (o OptionalTime) pointer() *time.Time {
	if !o.Set {
		return nil
	}
	return &o.Time
}

// nameInput names the object that a route is about.
type nameInput struct {
	Name string `path:"name" maxLength:"63" doc:"The name"`
}

type bodyOf[T any] struct{ Body T }

type namedBody[T any] struct {
	Name string `path:"name" maxLength:"63" doc:"The name"`
	Body T
}

// bodyOutput answers with an object.
type bodyOutput[T any] struct{ Body *T }

func answer[T any](v *T, err error) (*bodyOutput[T], error) {
	if err != nil {
		return nil, err
	}
	return &bodyOutput[T]{v}, nil
}

// createdOutput answers with a new object and where it is found.
type createdOutput[T any] struct {
	Location string `header:"Location" doc:"The path of the new object"`
	Body     *T
}

func created[T any](v *T, err error, location func(*T) string) (*createdOutput[T], error) {
	if err != nil {
		return nil, err
	}
	return &createdOutput[T]{Base + location(v), v}, nil
}

func (a *API) products() {
	type list struct{ PageInput }
	register(a, access.ReadProduction, operation{
		id: "listProducts", method: http.MethodGet, path: "/products", tag: tagPlanning,
		summary: "List products", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[vetting.Product], error) {
		return listing(in.PageInput, "products", func(p *vetting.Product) int64 { return p.ID },
			func(p vetting.Page) ([]*vetting.Product, error) { return c.Products(ctx, p) })
	})
	register(a, access.PlanProduction, operation{
		id: "createProduct", method: http.MethodPost, path: "/products", tag: tagPlanning, maxBody: maxProductBody,
		summary: "Create a product", status: http.StatusCreated,
		description: "The profile is rendered and linted first; a finding refuses the product with status 422.",
	}, func(ctx context.Context, c *call, in *bodyOf[ProductInput]) (*createdOutput[vetting.Product], error) {
		p := &vetting.Product{Name: in.Body.Name}
		in.Body.apply(p)
		if err := a.checkProduct(ctx, p); err != nil {
			return nil, err
		}
		p, err := c.CreateProduct(ctx, c.act, p)
		return created(p, err, func(p *vetting.Product) string { return "/products/" + p.Name })
	})
	register(a, access.ReadProduction, operation{
		id: "getProduct", method: http.MethodGet, path: "/products/{name}", tag: tagPlanning,
		summary: "Show a product",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[vetting.Product], error) {
		return answer(c.Product(ctx, in.Name))
	})
	register(a, access.PlanProduction, operation{
		id: "replaceProduct", method: http.MethodPut, path: "/products/{name}", tag: tagPlanning, maxBody: maxProductBody,
		summary:     "Replace a product",
		description: "What was issued stays as it is; later certificates follow the new profile. The revision must be the one that was read, so that nobody overwrites another's change unseen.",
	}, a.replaceProduct)
}

func (a *API) replaceProduct(ctx context.Context, c *call, in *namedBody[ProductUpdate]) (*bodyOutput[vetting.Product], error) {
	p, err := c.Product(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	changed := *p
	in.Body.apply(&changed)
	changed.Revision = in.Body.Revision
	if err := a.checkProduct(ctx, &changed); err != nil {
		return nil, err
	}
	return answer(c.UpdateProduct(ctx, c.act, &changed))
}

// checkProduct refuses a product whose fields, rules or certificates are bad.
func (a *API) checkProduct(ctx context.Context, p *vetting.Product) error {
	if err := p.Check(); err != nil {
		return vetting.Errorf(vetting.Invalid, "%v", err)
	}
	if _, err := rules.Compile(p.Rules); err != nil {
		return invalid("body.rules", "%v", err)
	}
	for i, v := range p.Vendors {
		if _, err := vendorid.Compile(v); err != nil {
			return invalid(fmt.Sprintf("body.vendors[%d]", i), "%v", err)
		}
	}
	for i, m := range p.TPM.Makers {
		if _, err := vendorid.Compile(m); err != nil {
			return invalid(fmt.Sprintf("body.tpm.makers[%d]", i), "%v", err)
		}
	}
	if err := a.config.Profiles.CheckProfile(ctx, p); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return invalid("body.profile", "%v", err)
	}
	return nil
}

func (a *API) sites() {
	type list struct{ PageInput }
	register(a, access.ReadProduction, operation{
		id: "listSites", method: http.MethodGet, path: "/sites", tag: tagPlanning,
		summary: "List sites", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[vetting.Site], error) {
		return listing(in.PageInput, "sites", func(s *vetting.Site) int64 { return s.ID },
			func(p vetting.Page) ([]*vetting.Site, error) { return c.Sites(ctx, p) })
	})
	register(a, access.PlanProduction, operation{
		id: "createSite", method: http.MethodPost, path: "/sites", tag: tagPlanning,
		summary: "Create a site", status: http.StatusCreated,
	}, func(ctx context.Context, c *call, in *bodyOf[SiteInput]) (*createdOutput[vetting.Site], error) {
		s := &vetting.Site{Name: in.Body.Name, Description: in.Body.Description, Networks: in.Body.Networks}
		if err := checkSite(s); err != nil {
			return nil, err
		}
		s, err := c.CreateSite(ctx, c.act, s)
		return created(s, err, func(s *vetting.Site) string { return "/sites/" + s.Name })
	})
	register(a, access.ReadProduction, operation{
		id: "getSite", method: http.MethodGet, path: "/sites/{name}", tag: tagPlanning,
		summary: "Show a site",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[vetting.Site], error) {
		return answer(c.Site(ctx, in.Name))
	})
	register(a, access.PlanProduction, operation{
		id: "replaceSite", method: http.MethodPut, path: "/sites/{name}", tag: tagPlanning,
		summary: "Replace a site's description and networks",
	}, replaceSite)
}

func replaceSite(ctx context.Context, c *call, in *namedBody[SiteUpdate]) (*bodyOutput[vetting.Site], error) {
	s := &vetting.Site{Name: in.Name, Description: in.Body.Description, Networks: in.Body.Networks, Revision: in.Body.Revision}
	if err := checkSite(s); err != nil {
		return nil, err
	}
	return answer(c.UpdateSite(ctx, c.act, s))
}

func checkSite(s *vetting.Site) error {
	if err := s.Check(); err != nil {
		return vetting.Errorf(vetting.Invalid, "%v", err)
	}
	for i, text := range s.Networks {
		p, err := netip.ParsePrefix(text)
		if err != nil || p != p.Masked() {
			return invalid(fmt.Sprintf("body.networks[%d]", i), "%q is no network: want a prefix such as 203.0.113.0/24 or 2001:db8:7::/48, with nothing after its length", text)
		}
	}
	return nil
}

func (a *API) orders() {
	type list struct {
		PageInput
		Site    string             `query:"site" maxLength:"63" doc:"Only orders of this site"`
		Product string             `query:"product" maxLength:"63" doc:"Only orders of this product"`
		State   vetting.OrderState `query:"state" enum:"draft,open,paused,closed,cancelled" doc:"Only orders in this state"`
	}
	register(a, access.ReadProduction, operation{
		id: "listOrders", method: http.MethodGet, path: "/orders", tag: tagPlanning,
		summary: "List orders", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[vetting.Order], error) {
		f := vetting.OrderFilter{Site: in.Site, Product: in.Product, State: in.State}
		return listing(in.PageInput, "orders", func(o *vetting.Order) int64 { return o.ID },
			func(p vetting.Page) ([]*vetting.Order, error) { return c.Orders(ctx, f, p) })
	})
	register(a, access.PlanProduction, operation{
		id: "createOrder", method: http.MethodPost, path: "/orders", tag: tagPlanning, maxBody: maxOrderBody,
		summary: "Create an order", status: http.StatusCreated, errors: []int{404},
		description: "A new order is a draft unless it says otherwise; open it to admit devices. Where it wants approvals for that, it can only be a draft: see proposeOpening.",
	}, func(ctx context.Context, c *call, in *bodyOf[OrderInput]) (*createdOutput[vetting.Order], error) {
		o := in.Body.order()
		if err := o.Check(); err != nil {
			return nil, vetting.Errorf(vetting.Invalid, "%v", err)
		}
		o, err := c.CreateOrder(ctx, c.act, o)
		return created(o, err, func(o *vetting.Order) string { return "/orders/" + o.Name })
	})
	register(a, access.ReadProduction, operation{
		id: "getOrder", method: http.MethodGet, path: "/orders/{name}", tag: tagPlanning,
		summary: "Show an order",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[vetting.Order], error) {
		return answer(c.Order(ctx, in.Name))
	})
	register(a, access.PlanProduction, operation{
		id: "changeOrder", method: http.MethodPatch, path: "/orders/{name}", tag: tagPlanning,
		summary:     "Change an order's state, quantity, window, limits or rework",
		description: "What is absent stays. A draft may be opened or cancelled; an open order paused, closed or cancelled; a paused one opened again, closed or cancelled; a closed one opened again or cancelled. The quantity cannot fall below what was issued; a larger one is a conflict where the order wants approvals for it. So is opening one that wants them, and loosening it while it is open.",
	}, changeOrder)
}

func (in *OrderInput) order() *vetting.Order {
	o := &vetting.Order{
		Name: in.Name, Product: in.Product, Site: in.Site, Quantity: in.Quantity,
		State: in.State, Identifiers: in.Identifiers, Limits: in.Limits, Waste: in.Waste, Rework: in.Rework, MaxReplacements: in.MaxReplacements, RaiseApprovals: in.RaiseApprovals, ManifestApprovals: in.ManifestApprovals, ManifestSignatures: in.ManifestSignatures,
		NotBefore: in.NotBefore.UTC(), NotAfter: in.NotAfter.UTC(),
	}
	return o
}

func changeOrder(ctx context.Context, c *call, in *namedBody[OrderPatch]) (*bodyOutput[vetting.Order], error) {
	change := vetting.OrderChange{
		State: in.Body.State, Quantity: in.Body.Quantity,
		NotBefore: in.Body.NotBefore.pointer(), NotAfter: in.Body.NotAfter.pointer(),
		Limits: in.Body.Limits, Rework: in.Body.Rework, MaxReplacements: in.Body.MaxReplacements, RaiseApprovals: in.Body.RaiseApprovals, ManifestApprovals: in.Body.ManifestApprovals,
	}
	if change == (vetting.OrderChange{}) {
		return nil, invalid("body", "the request changes nothing: give state, quantity, notBefore, notAfter, limits, rework, maxReplacements, raiseApprovals or manifestApprovals")
	}
	return answer(c.ChangeOrder(ctx, c.act, in.Name, change))
}
