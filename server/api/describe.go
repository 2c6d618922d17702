package api

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/events/webhook"
)

const overview = `The API for everybody at the OEM and its factories who plans, watches and decides.

Authenticate with a TLS client certificate. What an operator may do follows from the role, which each operation names; site operators and rigs know of their own site's things only, owner operators of the devices that their owner has now and of the transfers from and to it; everything else looks as if it did not exist.

One operation needs no certificate: a build gets one for an ID token of its CI system (POST /logins).

Errors are application/problem+json (RFC 9457); detail says what was wrong and what to do. Times are RFC 3339. Lists are paged: pass the field next of a page as the parameter cursor, until it is absent. Every POST takes an Idempotency-Key, with which it can be sent again safely after a lost answer.

The audit log's checkpoint, verifier and tiles are served without authentication below /audit/.`

// Tags group the operations.
const (
	tagPlanning  = "planning"
	tagApprovals = "approvals"
	tagManifests = "manifests"
	tagDevices   = "devices"
	tagJobs      = "jobs"
	tagCodes     = "codes"
	tagEvents    = "events"
	tagOperators = "operators"
	tagOwners    = "owners"
	tagIssuers   = "issuers"
	tagLicences  = "licences"
	tagFirmware  = "firmware"

	tagAuthenticity = "authenticity"
)

var tags = []*huma.Tag{
	{Name: tagPlanning, Description: "Products, sites and production orders"},
	{Name: tagApprovals, Description: "Acts that others must agree to, and their signatures"},
	{Name: tagManifests, Description: "The signed lists of manufacturing records"},
	{Name: tagDevices, Description: "Devices, their registrations, certificates and evidence"},
	{Name: tagJobs, Description: "Acts on many devices"},
	{Name: tagAuthenticity, Description: "Whether a device is genuine, and what speaks against it"},
	{Name: tagCodes, Description: "One-time codes by which devices enrol"},
	{Name: tagLicences, Description: "Licences that let firmware run on single chips"},
	{Name: tagEvents, Description: "What became of devices, as it happens"},
	{Name: tagOwners, Description: "Whom devices belong to, and how they change hands"},
	{Name: tagIssuers, Description: "The CAs that issue to devices"},
	{Name: tagFirmware, Description: "Firmware releases, and the keys that sign them"},
	{Name: tagOperators, Description: "Who uses this API"},
}

var (
	problemGoType = reflect.TypeFor[Problem]()
	messageType   = reflect.TypeFor[webhook.Message]()
)

// errorMeanings describe the statuses of errors.
var errorMeanings = map[int]string{
	http.StatusBadRequest:            "The request cannot be read.",
	http.StatusUnauthorized:          "No client certificate, or one that is expired, foreign, or of a revoked or unknown operator.",
	http.StatusForbidden:             "The operator's role does not include this.",
	http.StatusNotFound:              "There is no such thing, or none that the operator may know of.",
	http.StatusRequestTimeout:        "The body did not arrive in time.",
	http.StatusConflict:              "The name is taken, or the state or revision does not allow this.",
	http.StatusRequestEntityTooLarge: "The body is too large.",
	http.StatusUnsupportedMediaType:  "The body is of a type that is not accepted here.",
	http.StatusUnprocessableEntity:   "The values make no sense.",
	http.StatusServiceUnavailable:    "There is too much to do at the moment, or the database does not work.",
	http.StatusInternalServerError:   "The server failed; the reference names the entry in its log.",
}

// describeNeeds appends to a description who may use the operation.
func describeNeeds(text string, needs access.Permission) string {
	if text != "" {
		text += "\n\n"
	}
	if needs == AnyOperator {
		return text + "For every operator."
	}
	var roles []string
	for _, role := range access.Roles {
		if (&access.Operator{Role: role}).May(needs) {
			roles = append(roles, string(role))
		}
	}
	return text + fmt.Sprintf("Needs the permission to %s, which the roles %s include.", needs, strings.Join(roles, ", "))
}

// describe adds to the document what the Go types of vetting, access and
// audit cannot say themselves, and lets answers grow: a client must not refuse
// a field that it does not know yet.
func (a *API) describe() {
	schemas := a.huma.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel") // huma's own, which problemsOnly replaces
	delete(schemas, "ErrorDetail")
	delete(schemas["IssuedCertificate"].Properties, "der") // pem says the same
	for name, s := range schemas {
		if !requestTypes[name] {
			s.AdditionalProperties = nil
		}
		for field, p := range s.Properties {
			describeField(p, name, field)
		}
	}
}

// requestTypes are the schemas that requests are validated by; in them an
// unknown field is a mistake.
var requestTypes = map[string]bool{
	"ProductInput": true, "ProductUpdate": true, "SiteInput": true, "SiteUpdate": true, "OrderInput": true, "OrderPatch": true,
	"RegistrationInput": true, "DecisionInput": true, "DeviceStateInput": true, "TrialInput": true, "ReasonInput": true, "RevocationInput": true, "ScrapInput": true, "OperatorInput": true, "WorkloadInput": true, "LoginInput": true, "AccountKeyInput": true,
	"TestResultInput": true, "Test": true, "ReplacementInput": true, "RaiseInput": true, "RaiseApprovalInput": true, "OperatorProposalInput": true, "ApprovalPolicyInput": true, "IssuerProposalInput": true, "ApprovalInput": true, "Unit": true,
	"JobInput": true, "JobConfirmation": true, "JobNote": true, "SelectionInput": true,
	"VerifyInput": true, "ChallengeInput": true, "ObservationsInput": true, "ObservationInput": true, "Place": true, "AnswerInput": true, "EvidenceNote": true,
	"CodesInput":    true,
	"LicencesInput": true, "ConfirmationInput": true, "LicenceKeyInput": true, "LicencePolicy": true,
	"WebhookInput": true, "PauseInput": true, "RotationInput": true,
	"IssuerInput": true, "IssuerCertificate": true, "ResponderInput": true, "ForgeriesInput": true,
	"FirmwareKeyInput": true, "ReleaseInput": true, "ContentInput": true, "FamilyKeyInput": true, "DeviceKeyInput": true, "WrapInput": true, "ArtefactInput": true, "ChecksInput": true, "DocumentInput": true, "FloorInput": true, "FirmwareApprovalsInput": true, "RunningInput": true,
	"TUFKeyInput": true, "TUFRootInput": true,
	"OwnerInput": true, "HandoutInput": true, "OfferInput": true, "TransferNote": true,
	"Profile": true, "Identifiers": true,
	"Reason": true, // keeps the type of its values
}

func describeField(p *huma.Schema, schema, field string) {
	for _, key := range describedAs(schema, field) {
		if p.Description == "" {
			p.Description = docs[key]
		}
		if list, ok := values[key]; ok && p.Items != nil {
			p.Items.Enum = list
		} else if ok {
			p.Enum = list
		}
	}
}

// describedAs are the keys under which docs may tell of a field, the best
// first. An IssuedCertificate is a Certificate and more.
func describedAs(schema, field string) []string {
	return []string{schema + "." + field, strings.TrimPrefix(schema, "Issued") + "." + field, "*." + field}
}
