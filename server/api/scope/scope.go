// Package scope shows an operator that part of the store which the operator
// may know of, and no other.
//
// The API's handlers have no way to the store but a [View], so none of them
// can forget to confine a site's people to their site, and an owner's to what
// their owner has now. What belongs to others is not forbidden but unknown: it
// looks like something that does not exist.
package scope

import (
	"context"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/vetting"
)

// Store is what the operators' API reads and changes. Every change is
// durable, and in the audit log, when its method returns nil. An act that
// carries an idempotency key is done once: the same operator, key and request
// again give the first result. Refusals are *vetting.Errors, written for the
// operator; NotFound among them. All methods are safe for concurrent use.
type Store interface {
	Plans
	Proposals
	Manifests
	Devices
	Jobs
	Owners
	IssuingCAs
	Authenticity
	Codes
	AccountKeys
	Licences
	Events
	Operators
}

// Plans are products, sites and orders.
type Plans interface {
	Products(context.Context, vetting.Page) ([]*vetting.Product, error)
	Product(ctx context.Context, name string) (*vetting.Product, error)
	CreateProduct(context.Context, access.Act, *vetting.Product) (*vetting.Product, error)
	UpdateProduct(context.Context, access.Act, *vetting.Product) (*vetting.Product, error)
	RuleVersions(ctx context.Context, product string, p vetting.Page) ([]*vetting.RuleVersion, error)
	PastRegistrations(ctx context.Context, product string, since time.Time, limit int, fn func(vetting.Past) error) error
	Sites(context.Context, vetting.Page) ([]*vetting.Site, error)
	Site(ctx context.Context, name string) (*vetting.Site, error)
	CreateSite(context.Context, access.Act, *vetting.Site) (*vetting.Site, error)
	UpdateSite(context.Context, access.Act, *vetting.Site) (*vetting.Site, error)
	Orders(context.Context, vetting.OrderFilter, vetting.Page) ([]*vetting.Order, error)
	Order(ctx context.Context, name string) (*vetting.Order, error)
	CreateOrder(context.Context, access.Act, *vetting.Order) (*vetting.Order, error)
	// ProposeOpening asks others to agree that an order opens; one that wants
	// nobody's approval is a Conflict.
	ProposeOpening(ctx context.Context, act access.Act, order, note string) (*approval.Proposal, error)
	Raises(ctx context.Context, order string, p vetting.Page) ([]*vetting.Raise, error)
	ProposeRaise(ctx context.Context, act access.Act, order string, to int64, note string) (*vetting.Raise, error)
	ApproveRaise(ctx context.Context, act access.Act, order string, id, to int64, yes approval.Approval) (*vetting.Raise, error)
	WithdrawRaise(ctx context.Context, act access.Act, order string, id int64, note string) (*vetting.Raise, error)
	ChangeOrder(ctx context.Context, act access.Act, name string, c vetting.OrderChange) (*vetting.Order, error)
}

// Manifests are read here; they are written by the importer.
type Manifests interface {
	Manifests(context.Context, vetting.ManifestFilter, vetting.Page) ([]*vetting.Manifest, error)
	Manifest(ctx context.Context, id int64) (*vetting.Manifest, error)
	// ProposeManifest asks again that others approve a manifest that waits for
	// it.
	ProposeManifest(ctx context.Context, act access.Act, id int64, note string) (*vetting.Manifest, error)
}

// Devices are devices and what is kept about them.
type Devices interface {
	Registrations(context.Context, vetting.RegistrationFilter, vetting.Page) ([]*vetting.Registration, error)
	Registration(ctx context.Context, id int64) (*vetting.Registration, error)
	DecideRegistration(ctx context.Context, act access.Act, id int64, d vetting.Decision) (*vetting.Registration, error)
	Devices(context.Context, vetting.DeviceFilter, vetting.Page) ([]*vetting.Device, error)
	Device(ctx context.Context, id int64) (*vetting.Device, error)
	DeviceHistory(ctx context.Context, id int64) (*vetting.History, error)
	AddTestResult(ctx context.Context, act access.Act, deviceID int64, r *vetting.TestResult) (*vetting.TestResult, error)
	ReplaceDevice(ctx context.Context, act access.Act, id, by int64, note string) (*vetting.Device, error)
	ReworkDevice(ctx context.Context, act access.Act, id int64, note string) (*vetting.Device, error)
	ScrapRecord(ctx context.Context, act access.Act, id int64, note string) (*vetting.Device, error)
	ReadmitDevice(ctx context.Context, act access.Act, id int64, note string) (*vetting.Device, error)
	SetDeviceState(ctx context.Context, act access.Act, id int64, s vetting.DeviceState, note string) (*vetting.Device, error)
	RevokeDevice(ctx context.Context, act access.Act, id int64, reason vetting.RevocationReason, note string) (*vetting.Device, error)
	Certificate(ctx context.Context, serial string) (*vetting.Certificate, error)
	RevokeCertificate(ctx context.Context, act access.Act, serial string, reason vetting.RevocationReason, note string) (*vetting.Certificate, error)
}

// Authenticity is what tells genuine devices from others.
type Authenticity interface {
	Subjects(context.Context, vetting.SubjectQuery) ([]*vetting.Subject, error)
	// Observe keeps what was seen; what is known already changes nothing.
	Observe(ctx context.Context, act access.Act, rules vetting.ObservationRules, list []vetting.Observation) (*vetting.Observed, error)
	Challenge(ctx context.Context, id int64) (*vetting.Challenge, error)
	CreateChallenge(ctx context.Context, act access.Act, device int64, lifetime time.Duration) (*vetting.Challenge, error)
	// AnswerChallenge judges a signature over a challenge and keeps what it
	// came to, once.
	AnswerChallenge(ctx context.Context, act access.Act, id int64, certificate string, signature []byte) (*vetting.Challenge, error)
	Evidence(context.Context, vetting.EvidenceFilter, vetting.Page) ([]*vetting.Evidence, error)
	// RecordEvidence keeps evidence; what is open under the same mark already
	// is counted as seen again.
	RecordEvidence(context.Context, access.Act, []vetting.Evidence) error
	ClearEvidence(ctx context.Context, act access.Act, id int64, note string) (*vetting.Evidence, error)
	ReopenEvidence(ctx context.Context, act access.Act, id int64, note string) (*vetting.Evidence, error)
	ClearDeviceEvidence(ctx context.Context, act access.Act, device int64, note string) ([]*vetting.Evidence, error)
}

// Jobs are acts on many devices. They are worked on in the background, by
// one of the servers.
type Jobs interface {
	// PlanJob looks what a task would do, and keeps that as a plan.
	PlanJob(context.Context, access.Act, vetting.Task) (*vetting.Job, error)
	// ConfirmJob starts a planned job. The digest names the plan that was
	// looked at; where others would change by now, that is a Conflict unless
	// accept is set.
	ConfirmJob(ctx context.Context, act access.Act, id int64, digest string, accept bool) (*vetting.Job, error)
	CancelJob(ctx context.Context, act access.Act, id int64, note string) (*vetting.Job, error)
	ResumeJob(ctx context.Context, act access.Act, id int64, note string) (*vetting.Job, error)
	Jobs(context.Context, vetting.Page) ([]*vetting.Job, error)
	Job(ctx context.Context, id int64) (*vetting.Job, error)
	JobDevices(ctx context.Context, id int64, p vetting.Page) ([]*vetting.JobDevice, error)
}

// Codes are enrolment codes, of which only hashes are kept.
type Codes interface {
	Codes(context.Context, vetting.CodeFilter, vetting.Page) ([]*vetting.EnrolmentCode, error)
	Code(ctx context.Context, id int64) (*vetting.EnrolmentCode, error)
	CreateCodes(context.Context, access.Act, vetting.NewCodes) ([]*vetting.EnrolmentCode, error)
	RevokeCode(ctx context.Context, act access.Act, id int64) (*vetting.EnrolmentCode, error)
	// RevokeBatch names a batch by its first code.
	RevokeBatch(ctx context.Context, act access.Act, batch int64) (revoked int64, err error)
}

// AccountKeys are what ACME accounts are opened with; their secrets are not
// kept.
type AccountKeys interface {
	AccountKeys(context.Context, vetting.AccountKeyFilter, vetting.Page) ([]*vetting.AccountKey, error)
	AccountKey(ctx context.Context, id int64) (*vetting.AccountKey, error)
	CreateAccountKey(context.Context, access.Act, *vetting.AccountKey) (*vetting.AccountKey, error)
	RevokeAccountKey(ctx context.Context, act access.Act, id int64) (*vetting.AccountKey, error)
}

// Events are what became of devices, and the webhooks that are told of it.
type Events interface {
	Events(ctx context.Context, after events.Position, f events.Filter, limit int) (events.Page, error)
	Webhooks(context.Context, vetting.Page) ([]*events.Webhook, error)
	Webhook(ctx context.Context, name string) (*events.Webhook, error)
	CreateWebhook(ctx context.Context, act access.Act, w *events.Webhook, after *events.Position) (*events.Webhook, error)
	UpdateWebhook(ctx context.Context, act access.Act, to *events.Webhook) (*events.Webhook, error)
	PauseWebhook(ctx context.Context, act access.Act, name, reason string) (*events.Webhook, error)
	ResumeWebhook(ctx context.Context, act access.Act, name string) (*events.Webhook, error)
	RotateWebhook(ctx context.Context, act access.Act, name string, seed []byte, period time.Duration) (*events.Webhook, error)
	DeleteWebhook(ctx context.Context, act access.Act, name string) error
}

// Operators are the API's own users.
type Operators interface {
	Operators(context.Context, vetting.Page) ([]*access.Operator, error)
	Operator(ctx context.Context, name string) (*access.Operator, error)
	CreateOperator(context.Context, access.Act, *access.Operator) (*access.Operator, error)
	RevokeOperator(ctx context.Context, act access.Act, name string) (*access.Operator, error)
	// RenewOperator keeps that an operator has another certificate on its key.
	RenewOperator(context.Context, access.Act, *access.Operator) (*access.Operator, error)
	// OperatorCounts says how many operators that were not revoked have their
	// newest certificates of a CA, by its name.
	OperatorCounts(context.Context) (map[string]int64, error)
	// LogIn keeps that a workload has a key for a while, for a token that was
	// verified and counts once.
	LogIn(context.Context, access.Login) (*access.Operator, error)
	// OperatorByKey finds the operator that holds a key, revoked ones too.
	OperatorByKey(context.Context, vetting.Fingerprint) (*access.Operator, error)
}

// Gate opens views on a store.
type Gate struct{ store Store }

// NewGate makes the gate of a store.
func NewGate(s Store) Gate { return Gate{s} }

// Holder finds the operator that holds a key, revoked ones too. The error is
// a *vetting.Error with NotFound if none does.
func (g Gate) Holder(ctx context.Context, key vetting.Fingerprint) (*access.Operator, error) {
	return g.store.OperatorByKey(ctx, key)
}

// Workload finds the operator of a name if a workload's tokens may speak for it.
// The error is a *vetting.Error with NotFound if they may not.
func (g Gate) Workload(ctx context.Context, name string) (*access.Operator, error) {
	o, err := g.store.Operator(ctx, name)
	if err == nil && (o.Trust == nil || !o.Revoked.IsZero()) {
		return nil, unknownName("operator", name)
	}
	return o, err
}

// LogIn is the store's.
func (g Gate) LogIn(ctx context.Context, l access.Login) (*access.Operator, error) {
	return g.store.LogIn(ctx, l)
}

// View gives what the operator may know of.
func (g Gate) View(op *access.Operator) View { return View{g.store, op} }

// View is the store as one operator sees it. Its methods are the store's,
// confined to the operator's site or owner if the role belongs to one. Which
// of them the operator's role may use at all is not decided here.
type View struct {
	store Store
	op    *access.Operator
}

// Operator is whose view it is.
func (v View) Operator() *access.Operator { return v.op }

// site narrows a filter to the operator's site. It returns false if nothing
// can be left, because the filter names another site, or the operator belongs
// to an owner.
func (v View) site(filter *string) bool {
	return !v.op.Role.OfOwner() && (!v.op.Role.OfSite() || narrow(filter, v.op.Site))
}

// holder narrows a filter of devices, or of what is kept about them, to those
// that the operator may know of. It returns false if nothing can be left.
func (v View) holder(site, owner *string) bool {
	switch role := v.op.Role; {
	case role.OfSite():
		return *owner == "" && narrow(site, v.op.Site)
	case role.OfOwner():
		return *site == "" && narrow(owner, v.op.Owner)
	}
	return true
}

// narrow sets a filter to the only name that is allowed.
func narrow(filter *string, own string) bool {
	if *filter != "" && *filter != own {
		return false
	}
	*filter = own
	// Who has lost his own sees nothing, rather than everything.
	return own != ""
}

// sees reports whether the operator may know of something of a site.
func (v View) sees(site string) bool {
	if v.op.Role.OfSite() {
		return site != "" && site == v.op.Site
	}
	return v.op.Role.OfManufacturer()
}

// seesDevice reports whether the operator may know of a device.
func (v View) seesDevice(d *vetting.Device) bool {
	if v.op.Role.OfOwner() {
		return d.Owner != "" && d.Owner == v.op.Owner
	}
	return v.sees(d.Site)
}

// ofManufacturer does what only the manufacturer's own operators may know of;
// to a site's and an owner's it is unknown.
func ofManufacturer[T any](v View, unknown error, do func() (*T, error)) (*T, error) {
	if !v.op.Role.OfManufacturer() {
		return nil, unknown
	}
	return do()
}

func unknownName(what, name string) error {
	return vetting.Errorf(vetting.NotFound, "there is no %s %q", what, name)
}

func unknownID(what string, id int64) error {
	return vetting.Errorf(vetting.NotFound, "there is no %s %d", what, id)
}

// confine passes on an object that the operator sees. For all others, and for
// those that do not exist, it gives the same error.
func confine[T any](obj *T, err error, sees func(*T) bool, unknown error) (*T, error) {
	switch {
	case vetting.ProblemOf(err) == vetting.NotFound:
		return nil, unknown
	case err != nil:
		return nil, err
	case !sees(obj):
		return nil, unknown
	}
	return obj, nil
}
