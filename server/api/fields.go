package api

import (
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// docs describe the fields of the types that are not this package's own, as
// "Schema.field"; "*" stands for any schema.
var docs = map[string]string{
	"*.name":         "The name: letters, digits, '.', '_' and '-', beginning with a letter or digit",
	"*.description":  "A few words for people",
	"*.revision":     "Grows with every change",
	"*.created":      "When it was created",
	"*.updated":      "When it was changed last",
	"*.leaf":         "The index of the audit log's leaf that records it",
	"*.serial":       "The serial number",
	"*.mac":          "The MAC address, EUI-48 or EUI-64, in lower case with colons",
	"*.uid":          "The chip's UID, in lower case where it is hexadecimal",
	"*.product":      "The product's name",
	"*.order":        "The order's name",
	"*.site":         "The site's name",
	"*.bootstrapKey": "The fingerprint of the bootstrap key: the SHA-256 of its SubjectPublicKeyInfo, in hexadecimal",
	"*.contested":    "Whether another record claims one of its identifiers or its key",
	"*.validity":     "The lifetime: days and a Go duration (\"825d\", \"397d12h\"), or \"forever\" for the notAfter 99991231235959Z (RFC 5280 §4.1.2.5)",

	"Auth.proof":       "What proves that the requester speaks for the device",
	"Auth.key":         "The fingerprint of the key that authenticated the request",
	"Auth.certificate": "The serial number of the official certificate, in hexadecimal",
	"Auth.operator":    "The rig's name",
	"Auth.site":        "The rig's site",

	"Certificate.device":   "The device's number",
	"Certificate.serial":   "The serial number, in lower-case hexadecimal",
	"Certificate.key":      "The fingerprint of the certified key",
	"Certificate.der":      "The certificate in DER",
	"Certificate.state":    "The certificate's standing",
	"Certificate.notAfter": "When it runs out",
	"Certificate.issued":   "When it was issued",
	"Certificate.used":     "When its key was first used; absent if never",
	"Certificate.revoked":  "When it was revoked",
	"Certificate.reason":   "The CRLReason of a revoked certificate (RFC 5280 §5.3.1)",

	"Claim.at":        "When the request came",
	"Claim.key":       "The fingerprint of the key to be certified",
	"Claim.auth":      "How the request was authenticated",
	"Claim.asserted":  "What the requester calls the device",
	"Claim.label":     "The product that the request was addressed to",
	"Claim.transport": "How the request came",
	"Claim.remote":    "The peer's address",

	"Decision.admit": "Whether the device is let in",
	"Decision.by":    "The operator who decided",
	"Decision.at":    "When it was decided",
	"Decision.note":  "Why",

	"Device.id":          "The device's number; its record has the same",
	"Device.state":       "Where the device is in its life",
	"Device.before":      "The state that a quarantined device came from",
	"Device.key":         "The fingerprint of the current certificate's key",
	"Device.certificate": "The serial number of the current certificate",
	"Device.issued":      "When its first certificate was issued",
	"Device.activated":   "When it first used its official key",

	"Dispute.id":      "The dispute's number",
	"Dispute.record":  "The record that holds the identity or key already",
	"Dispute.claimed": "The record that could not be taken in",
	"Dispute.kinds":   "What the two have in common",

	"Evidence.id":           "The evidence's number",
	"Evidence.at":           "When it was observed",
	"Evidence.kind":         "What kind of sign it is",
	"Evidence.device":       "The device or record that it speaks against; absent if none is known",
	"Evidence.registration": "The registration that showed it",
	"Evidence.manifest":     "The manifest that showed it",
	"Evidence.text":         "What was observed, in a sentence",

	"History.device":        "The device",
	"History.record":        "The record that it was built from",
	"History.certificates":  "Its certificates",
	"History.registrations": "Its registrations",
	"History.evidence":      "The evidence against it",
	"History.disputes":      "The records that claim its identity or key",

	"Identifiers.serials": "Serial numbers, single or as inclusive ranges of equal length (\"A-0001..A-0500\"); empty allows all",
	"Identifiers.macs":    "MAC addresses, in the same way",
	"Identifiers.uids":    "Chip UIDs, in the same way",

	"Manifest.id":               "The manifest's number",
	"Manifest.format":           "The form of the file",
	"Manifest.state":            "Where the manifest stands",
	"Manifest.sha256":           "The SHA-256 of the file, in hexadecimal",
	"Manifest.size":             "The file's length in bytes",
	"Manifest.records":          "How many records the file lists",
	"Manifest.loaded":           "How many of them were worked off so far",
	"Manifest.fresh":            "How many became new records",
	"Manifest.repeated":         "How many were known already, word for word",
	"Manifest.disputed":         "How many claim an identifier or key that another record holds",
	"Manifest.signers":          "The operators whose signatures were verified",
	"Manifest.wantedSignatures": "How many signatures the order wants",
	"Manifest.received":         "When it was handed in",

	"Manufacturing.ekHash":           "The SHA-256 of the TPM's endorsement key, in hexadecimal",
	"Manufacturing.hardwareRevision": "The hardware revision",
	"Manufacturing.line":             "The production line",
	"Manufacturing.rig":              "The rig that tested it",
	"Manufacturing.tests":            "The test results, any JSON value",
	"Manufacturing.time":             "When it was made",

	"Operator.role":            "What the operator is there for",
	"Operator.site":            "The site that confines a site operator or rig",
	"Operator.key":             "The fingerprint of the operator's key",
	"Operator.revoked":         "When the operator was revoked; absent if never",
	"OperatorCreated.operator": "The new operator",
	"OperatorInput.role":       "What the operator is there for",
	"Whoami.operator":          "The operator whose certificate was presented",
	"Product.profile":          "What the product's certificates look like",
	"Product.proofs":           "The proofs on which a device may first enrol",
	"Profile.template":         "A certificate template (JSON with Go template actions) in the manner of smallstep's x509util; empty means the default device template",
	"Profile.keys":             "The accepted keys: P-256, P-384, P-521, Ed25519, RSA-2048, RSA-3072, RSA-4096; empty means P-256, P-384 and Ed25519",
	"Order.quantity":           "The most units that may be issued",
	"Order.issued":             "How many units were issued",
	"Order.state":              "Where the order stands",
	"Order.identifiers":        "What the units may be called",
	"Order.notBefore":          "From when devices may first enrol; absent means from the beginning",
	"Order.notAfter":           "Until when devices may first enrol; absent means without end",
	"Order.manifestSignatures": "How many site operators must sign each manifest",
	"Order.revision":           "Grows with every planner's change, not with issued",
	"Proof.index":              "The leaf's index",
	"Proof.leaf":               "The leaf's bytes, which are JSON themselves",
	"Proof.hashes":             "What leads from the leaf to the checkpoint's root (RFC 6962 §2.1.1)",
	"Proof.checkpoint":         "The checkpoint, a signed note",
	"Reason.code":              "The reason for programs",
	"Reason.text":              "The reason in a sentence",
	"Reason.values":            "The values that decided",
	"Record.id":                "The record's number",
	"Record.manifest":          "The manifest that listed it",
	"Record.row":               "Its place in the manifest, counted from 1",
	"Record.made":              "How it was made",
	"Registration.id":          "The registration's number",
	"Registration.at":          "When it first came",
	"Registration.claim":       "What the request proved and asserted",
	"Registration.device":      "The device's number; absent if no record was found",
	"Registration.verdict":     "The verdict; held means that a person must decide or a condition must come true",
	"Registration.reasons":     "Why",
	"Registration.certificate": "The serial number of the certificate that was answered",
	"Registration.decision":    "What a person decided on a held registration",
	"Registration.repeats":     "How often the same request came again with the same verdict",
	"Registration.last":        "When it came last",
}

// values list what fields of answers may hold.
var values = map[string][]any{
	"Auth.proof":           anys(vetting.ProofNone, vetting.ProofBootstrapKey, vetting.ProofRig, vetting.ProofOfficial),
	"Product.proofs":       anys(vetting.ProofBootstrapKey, vetting.ProofRig),
	"Device.state":         anys(vetting.DeviceStates...),
	"Device.before":        anys(vetting.DeviceStates...),
	"Order.state":          anys(vetting.OrderDraft, vetting.OrderOpen, vetting.OrderClosed, vetting.OrderCancelled),
	"Manifest.state":       anys(vetting.ManifestUnsigned, vetting.ManifestAccepted, vetting.ManifestLoaded),
	"Manifest.format":      anys(vetting.FormatJSONLines, vetting.FormatCSV),
	"Registration.verdict": anys(vetting.Admitted, vetting.Held, vetting.Refused),
	"Certificate.state":    certificateStates,
	"Operator.role":        anys(access.Roles...),
}

var certificateStates = anys(vetting.CertificateValid, vetting.CertificateSuperseded, vetting.CertificateRevoked, vetting.CertificateOnHold)

func anys[T ~string](list ...T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}
