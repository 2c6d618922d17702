// Package access says who may do what: operators, their roles, and the site
// or owner that confines them. It decides nothing about devices.
package access

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/vetting"
)

// Role is what an operator is there for.
type Role string

const (
	RoleAdmin        Role = "admin"         // everything, operators included
	RolePlanner      Role = "planner"       // products, sites, orders, held registrations
	RoleSiteOperator Role = "site-operator" // signs and hands in manifests of one site
	RoleRig          Role = "rig"           // a QA rig of one site: registers devices
	// RoleOwnerOperator is for the people of one owner: its devices, and how
	// they change hands.
	RoleOwnerOperator Role = "owner-operator"
	// RoleReleaseEngineer proposes firmware releases, approves those of others,
	// and signs them.
	RoleReleaseEngineer Role = "release-engineer"
	RoleSupport         Role = "support"  // looks devices up
	RoleReporter        Role = "reporter" // a broker or gateway: reports what it saw of devices
	// RoleResponder is for a node that answers OCSP requests and holds no CA's
	// key.
	RoleResponder Role = "responder"
	RoleAuditor   Role = "auditor"  // reads everything, the log above all
	RoleApprover  Role = "approver" // agrees to what others ask for, and asks for nothing
)

// Roles lists every role.
var Roles = []Role{RoleAdmin, RolePlanner, RoleSiteOperator, RoleRig, RoleOwnerOperator, RoleReleaseEngineer, RoleSupport, RoleReporter, RoleResponder, RoleAuditor, RoleApprover}

// OfSite reports whether the role belongs to a site. Such operators hold
// certificates of the factory CA, the others of the operator CA.
func (r Role) OfSite() bool { return r == RoleSiteOperator || r == RoleRig }

// OfOwner reports whether the role belongs to an owner.
func (r Role) OfOwner() bool { return r == RoleOwnerOperator }

// OfManufacturer reports whether the role belongs to neither site nor owner,
// and so may know of all of them.
func (r Role) OfManufacturer() bool { return !r.OfSite() && !r.OfOwner() }

// Permission is one kind of act.
type Permission string

const (
	ManageOperators Permission = "manage operators"
	PlanProduction  Permission = "plan production" // write products, sites, orders
	ReadProduction  Permission = "read production"
	HandInManifests Permission = "hand in manifests"
	ReadManifests   Permission = "read manifests"
	RegisterDevices Permission = "register devices"
	TestDevices     Permission = "hand in test results and replace units"
	Decide          Permission = "decide held registrations"
	ReadDevices     Permission = "read devices"
	ManageDevices   Permission = "manage devices"
	ScrapRecords    Permission = "scrap records"        // of devices that were never powered on
	MakeCodes       Permission = "make enrolment codes" // and account keys for ACME; a site operator only where the product says so
	ReadCodes       Permission = "read enrolment codes"
	ReadAudit       Permission = "read the audit log"
	// VerifyDevices is to ask whether a device is genuine.
	VerifyDevices Permission = "verify devices"
	// ReadParticulars is to see, of what one may read, also who did it and
	// from where: operators' names, addresses, bootstrap keys, disputed records.
	ReadParticulars Permission = "read particulars"
	ClearEvidence   Permission = "clear evidence"
	// ReportObservations is to tell what was seen of devices, and to learn
	// nothing about them.
	ReportObservations Permission = "report observations"
	ManageOwners       Permission = "manage owners" // create them, and reverse transfers
	TransferDevices    Permission = "transfer devices"
	ReadOwners         Permission = "read owners and transfers"
	ManageWebhooks     Permission = "manage webhooks"
	ManageIssuers      Permission = "manage issuing CAs"
	LicenseChips       Permission = "get licences for chips"
	ReadLicences       Permission = "read licences"
	ManageLicenceKeys  Permission = "manage licence keys"
	// AnswerStatus is to be let answer OCSP requests, and to report the forged
	// certificates that somebody asked about.
	AnswerStatus Permission = "answer status requests"
	// Approve is to approve proposals, of the kinds that approvers lists.
	Approve            Permission = "approve proposals"
	ReadProposals      Permission = "read proposals"
	ManageFirmwareKeys Permission = "manage firmware keys"
	SignFirmware       Permission = "propose and sign firmware releases"
	ReadReleases       Permission = "read firmware releases"
)

var grants = map[Role][]Permission{
	RoleAdmin: {ManageOperators, PlanProduction, ReadProduction, HandInManifests, ReadManifests,
		Decide, ReadDevices, ManageDevices, ScrapRecords, MakeCodes, ReadCodes, ReadAudit, VerifyDevices, ReadParticulars, ClearEvidence, ManageWebhooks, ManageOwners, TransferDevices, ReadOwners, ManageIssuers, ReadLicences, ManageLicenceKeys, Approve, ReadProposals, ManageFirmwareKeys, SignFirmware, ReadReleases},
	RolePlanner:         {PlanProduction, ReadProduction, ReadManifests, Decide, ReadDevices, MakeCodes, ReadCodes, VerifyDevices, ReadParticulars, ClearEvidence, ReadLicences, Approve, ReadProposals},
	RoleSiteOperator:    {ReadProduction, HandInManifests, ReadManifests, ReadDevices, ScrapRecords, MakeCodes, ReadCodes, VerifyDevices, ReadParticulars, LicenseChips, ReadLicences},
	RoleRig:             {ReadProduction, RegisterDevices, TestDevices, ReadDevices, VerifyDevices, ReadParticulars, LicenseChips, ReadLicences},
	RoleOwnerOperator:   {ReadDevices, VerifyDevices, ReadOwners, TransferDevices},
	RoleSupport:         {ReadProduction, ReadDevices, VerifyDevices, ReadLicences},
	RoleReporter:        {ReportObservations},
	RoleResponder:       {AnswerStatus},
	RoleAuditor:         {ReadProduction, ReadManifests, ReadDevices, ReadCodes, ReadAudit, VerifyDevices, ReadParticulars, ReadOwners, ReadLicences, ReadProposals, ReadReleases},
	RoleApprover:        {ReadProduction, ReadManifests, ReadParticulars, Approve, ReadProposals, ReadReleases},
	RoleReleaseEngineer: {SignFirmware, ReadReleases, ReadProduction, Approve, ReadProposals},
}

// approvers are the roles that may approve a kind of act, besides admins and
// approvers, who may approve all. None of them is of a site or owner: bundles
// count the certificates of operator CAs only.
var approvers = map[approval.Kind][]Role{
	approval.OrderOpen:      {RolePlanner},
	approval.OrderRaise:     {RolePlanner},
	approval.ManifestAccept: {RolePlanner},
	approval.ReleaseApprove: {RoleReleaseEngineer}, approval.ReleaseYank: {RoleReleaseEngineer}, approval.FirmwareCounter: {RoleReleaseEngineer}, approval.FirmwareKeyRevoke: {RoleReleaseEngineer},
}

// Operator is a person or machine that uses the API with a client
// certificate. The certificate proves the key; role, site, owner and revocation
// come from the database, so that a change takes effect at once: on another
// server of the same database within a second.
type Operator struct {
	ID   int64  `json:"-"`
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Site confines a site operator or rig; "" for the others.
	Site   string `json:"site,omitempty"`
	SiteID int64  `json:"-"`
	// Owner confines an operator of an owner; "" for the others.
	Owner   string              `json:"owner,omitempty"`
	Key     vetting.Fingerprint `json:"key,omitzero"`
	Created time.Time           `json:"created"`
	Revoked time.Time           `json:"revoked,omitzero"`
	// Issuer is the name of the CA that issued the newest certificate, and
	// NotAfter its end, which is not known of the oldest ones.
	Issuer   string    `json:"issuer,omitempty"`
	NotAfter time.Time `json:"notAfter,omitzero"`
	// Trust is set of an operator that is a workload and has no key of its own.
	Trust *Trust `json:"trust,omitempty"`
}

// AddStatement is what those sign who approve that an operator is added.
type AddStatement struct {
	Operator string `json:"operator"`
	Role     Role   `json:"role"`
	Key      string `json:"key"` // the fingerprint of the operator's key
}

// Certificate is one that was made for an operator.
type Certificate struct {
	DER []byte
	// Chain leads to the root: the DER of the issuing CA first, the root's
	// last.
	Chain    [][]byte
	Issuer   string // the name of the CA that issued it
	NotAfter time.Time
}

// Check reports the first thing wrong with the operator.
func (o *Operator) Check() error {
	if err := vetting.CheckName("operator", o.Name); err != nil {
		return err
	}
	if !slices.Contains(Roles, o.Role) {
		return fmt.Errorf("unknown role %q; known are %s", o.Role, joinRoles())
	}
	if o.Trust != nil && !slices.Contains(workloadRoles, o.Role) {
		return fmt.Errorf("a workload cannot have the role %s: known for workloads are %v", o.Role, workloadRoles)
	}
	if err := o.belongs("a site", o.Role.OfSite(), o.Site); err != nil {
		return err
	}
	return o.belongs("an owner", o.Role.OfOwner(), o.Owner)
}

// belongs reports whether a name is given where the role wants one, and only
// there.
func (o *Operator) belongs(to string, does bool, name string) error {
	switch {
	case does && name == "":
		return fmt.Errorf("role %s belongs to %s: name it", o.Role, to)
	case !does && name != "":
		return fmt.Errorf("role %s does not belong to %s: leave %q out", o.Role, to, name)
	}
	return nil
}

// May reports whether the operator's role grants the permission.
func (o *Operator) May(p Permission) bool {
	// A workload's wish is nobody's judgement.
	return o.Revoked.IsZero() && slices.Contains(grants[o.Role], p) && (o.Trust == nil || p != Approve)
}

// MayApprove reports whether the operator may approve acts of a kind.
func (o *Operator) MayApprove(k approval.Kind) bool {
	return o.May(Approve) && (o.Role == RoleAdmin || o.Role == RoleApprover || slices.Contains(approvers[k], o.Role))
}

// Act is who does something, and the idempotency key that came along.
// A store that gets the same Operator and Key twice does the act once; with
// another Request under the same key it fails.
type Act struct {
	Operator string
	Owner    string   // whom the operator belongs to; "" is the manufacturer
	Key      string   // "" if the act may not be repeated safely
	Request  [32]byte // digest of the request under this key
}

func joinRoles() string {
	names := make([]string, len(Roles))
	for i, r := range Roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}
