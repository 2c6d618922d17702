package vetting

import (
	"fmt"
	"slices"
	"time"
)

// Authenticity is the one-word answer to the question whether a unit is what
// it claims to be.
type Authenticity string

const (
	// Genuine: it is in the records, in service, and nothing speaks against it.
	Genuine Authenticity = "genuine"
	// Suspect: there is such a device, but something speaks against this one.
	Suspect Authenticity = "suspect"
	// Counterfeit: there can be no such device, or what was shown is forged.
	Counterfeit Authenticity = "counterfeit"
	// Unknown: nothing that is known speaks for or against it.
	Unknown Authenticity = "unknown"
)

// Authenticities lists every answer, the best first.
var Authenticities = []Authenticity{Genuine, Unknown, Suspect, Counterfeit}

// Reasons of an [Authenticity].
const (
	ReasonRecorded        Code = "recorded"         // the records know the device
	ReasonByName          Code = "by-name"          // only a name was given, which can be copied
	ReasonCertificateGood Code = "certificate-good" // our CA's, and the device's current one
	ReasonNotLetIn        Code = "not-let-in"       // made, but it never enrolled
	ReasonStartsAnew      Code = "starts-anew"      // it was let in, and is to come for another certificate
	ReasonRanOut          Code = "certificate-ran-out"
	ReasonProved          Code = "proved"       // a challenge was answered with its key
	ReasonProofFailed     Code = "proof-failed" // the last challenge was not

	ReasonNotRecorded Code = "not-recorded"
	ReasonForeign     Code = "foreign-certificate" // another CA's
	ReasonSeveral     Code = "several-records"     // the name alone does not tell which

	ReasonEvidence    Code = "evidence" // there is open evidence against the device
	ReasonSuspended   Code = "suspended"
	ReasonQuarantined Code = "quarantined"
	ReasonRetired     Code = "retired"
	ReasonNotKept     Code = "certificate-not-kept" // made by our CA, but not in the database
	ReasonCertRevoked Code = "certificate-revoked"
	ReasonCertOnHold  Code = "certificate-on-hold"

	ReasonForged   Code = "forged-certificate"
	ReasonScrapped Code = "scrapped"
)

// Origin is where a certificate that somebody shows comes from.
type Origin string

const (
	OriginDeviceCA Origin = "device-ca" // signed by a CA that issues to devices
	OriginForged   Origin = "forged"    // names the device CA, which did not sign it
	OriginSelf     Origin = "self"      // self-signed, as bootstrap certificates are
	OriginOther    Origin = "other"     // another CA's
)

// ShownCertificate is a certificate that somebody shows, and what the CAs
// say of it without looking into the database.
type ShownCertificate struct {
	Origin Origin
	// Serial is its serial number in lower-case hexadecimal; OwnSerial says
	// that the device CA makes such numbers.
	Serial    string
	OwnSerial bool
	Key       Fingerprint
	// Digest is the SHA-256 of its DER.
	Digest   [32]byte
	Issuer   string
	NotAfter time.Time
	// Asserted is what a self-signed certificate calls the device.
	Asserted Identity
}

// Subject is a device that an inspection is about.
type Subject struct {
	// Device has no keys and no revision here.
	Device Device
	// Bootstrap says that the bootstrap key of the query is the device's.
	Bootstrap bool
	// Current is the device's current certificate without its
	// DER, Shown the kept one with
	// the serial number of the certificate that was shown, ShownDigest its
	// SHA-256; nil if there is none.
	Current     *Certificate
	Shown       *Certificate
	ShownDigest [32]byte
	// Seen is when a broker saw it last; zero if never.
	Seen time.Time
	// Proof is the challenge that was answered last; nil if none was.
	Proof *Challenge
	// Evidence is what is open against the device, the newest first.
	Evidence []*Evidence
}

// SubjectQuery is what to look devices up by: everything that is set is
// looked up for itself.
type SubjectQuery struct {
	Identity
	Certificate string      // an official certificate's serial number in hex
	Bootstrap   Fingerprint // the key of a record
}

// Inspection is everything that [Inspect] may look at.
type Inspection struct {
	Now time.Time
	// Asked is what the unit is said to be called, Product which one it is
	// said to be; empty where nothing was said.
	Asked   Identity
	Product string
	Shown   *ShownCertificate // nil if none was shown
	// Subjects are the devices that were found by any of that, as far as the
	// one who asks may know of them. Kept says that the shown certificate is
	// in the database, whoever may know of it.
	Subjects []*Subject
	Kept     bool
}

// Query is what to look up for an inspection.
func (i *Inspection) Query() SubjectQuery {
	q := SubjectQuery{Identity: i.Asked}
	if i.Shown == nil {
		return q
	}
	switch i.Shown.Origin {
	case OriginDeviceCA:
		q.Certificate = i.Shown.Serial
	case OriginSelf:
		q.Bootstrap = i.Shown.Key
		if q.Identity.IsZero() {
			q.Identity = i.Shown.Asserted
		}
	}
	return q
}

// Finding is what an inspection came to.
type Finding struct {
	Verdict Authenticity
	Reasons []Reason
	// Subject is the device that it is about; nil if it is about none, or
	// about one of several.
	Subject *Subject
	// Evidence is what the inspection itself brought up.
	Evidence []Evidence
}

// Inspect tells whether a unit is what it claims to be. It is pure: the same
// facts give the same finding.
func Inspect(i Inspection) Finding {
	n := &inspection{Inspection: i, Finding: Finding{Verdict: Genuine}}
	if n.shown() && n.choose() {
		n.standing()
		n.certificate()
		n.proof()
		n.against()
	}
	return n.Finding
}

type inspection struct {
	Inspection
	Finding
}

// say adds a reason; the worst one decides.
func (n *inspection) say(a Authenticity, code Code, format string, args ...any) {
	n.Reasons = append(n.Reasons, Reason{Code: code, Text: fmt.Sprintf(format, args...)})
	if slices.Index(Authenticities, a) > slices.Index(Authenticities, n.Verdict) {
		n.Verdict = a
	}
}

func (n *inspection) bring(kind EvidenceKind, deviceID int64, format string, args ...any) {
	n.Finding.Evidence = append(n.Finding.Evidence, Evidence{At: n.Now, Kind: kind, DeviceID: deviceID, Text: fmt.Sprintf(format, args...),
		Mark: evidenceMark(kind, n.Shown.Digest[:])})
}

// shown looks at the certificate by itself and reports whether a device is
// still to be looked for.
func (n *inspection) shown() (further bool) {
	c := n.Shown
	switch {
	case c == nil:
		return true
	case c.Origin == OriginForged:
		n.bring(EvidenceForged, 0, "A certificate with the serial number %s names the device CA as its issuer, but was not signed by it.", c.Serial)
		n.say(Counterfeit, ReasonForged, "The certificate says that %q issued it, but the signature is not that CA's: it is forged.", c.Issuer)
		return false
	case c.Origin == OriginOther:
		n.say(Unknown, ReasonForeign, "The certificate was issued by %q, which is no CA of ours: it says nothing about our devices.", c.Issuer)
		return false
	case c.Origin == OriginDeviceCA && !n.Kept && !c.OwnSerial:
		n.bring(EvidenceForged, 0, "A certificate with the serial number %s was signed by the device CA's key, but never issued.", c.Serial)
		n.say(Counterfeit, ReasonForged, "The certificate carries our CA's signature, but was never issued: tell the security team at once, for somebody else signs with this key.")
		return false
	case c.Origin == OriginDeviceCA && !n.Kept:
		n.bring(EvidenceUnknownCertificate, 0, "The certificate %s is the device CA's, but not in the database.", c.Serial)
		n.say(Suspect, ReasonNotKept, "The certificate is our CA's, but the database does not know it: ask the administrators whether the database was restored.")
		return false
	}
	return true
}

// choose finds the one device that the inspection is about.
func (n *inspection) choose() bool {
	var fits []*Subject
	for _, s := range n.Subjects {
		if n.fits(s) {
			fits = append(fits, s)
		}
	}
	switch {
	case len(fits) == 1:
		n.Subject = fits[0]
		return true
	case len(fits) > 1:
		n.say(Unknown, ReasonSeveral, "%d devices are called so: name the product, or another identifier.", len(fits))
	case len(n.Subjects) > 0 && n.Shown != nil && n.Shown.Origin == OriginSelf:
		n.say(Counterfeit, ReasonWrongKey, "There is a record of %s, but with another bootstrap key: this is not the device that it describes.", n.Subjects[0].Device.Identity)
	case len(n.Subjects) > 0:
		n.say(Suspect, ReasonMismatch, "What it is called does not belong together: our records know it as %s of product %s.", n.Subjects[0].Device.Identity, n.Subjects[0].Device.Product)
	default:
		n.say(Unknown, ReasonNotRecorded, "No manufacturing record is known of it.")
	}
	return false
}

// fits reports whether everything that was said and shown is about a device.
func (n *inspection) fits(s *Subject) bool {
	d := &s.Device
	for _, f := range [...]struct{ said, have string }{
		{n.Asked.Serial, d.Serial}, {n.Asked.MAC, d.MAC}, {n.Asked.UID, d.UID}, {n.Product, d.Product},
	} {
		if f.said != "" && f.said != f.have {
			return false
		}
	}
	switch c := n.Shown; {
	case c == nil:
		return true
	case c.Origin == OriginSelf:
		return s.Bootstrap
	default:
		return s.Shown != nil
	}
}

// standing looks at the device's state.
func (n *inspection) standing() {
	d := &n.Subject.Device
	switch d.State {
	case DeviceManufactured, DeviceRegistered:
		if d.Readmitted() {
			n.say(Genuine, ReasonStartsAnew, "The device starts anew, for it changed hands or was readmitted: it has not come for its new certificate yet.")
			return
		}
		n.say(Genuine, ReasonNotLetIn, "It was made, but it has never been let in: a unit as it leaves the factory.")
	case DeviceSuspended:
		n.say(Suspect, ReasonSuspended, "The device is out of service for a while: ask why before it is serviced.")
	case DeviceQuarantined:
		n.say(Suspect, ReasonQuarantined, "The device is in quarantine, suspected to be counterfeit.")
	case DeviceRetired:
		n.say(Suspect, ReasonRetired, "The device was taken out of service for good: who shows it should not have it in use.")
	case DeviceScrapped:
		n.say(Counterfeit, ReasonScrapped, "The device was destroyed: what bears its name is a copy, or was stolen from the scrap.")
	default:
		n.say(Genuine, ReasonRecorded, "The device is in our records and was let in.")
	}
}

// certificate holds a certificate that was shown against the kept one.
func (n *inspection) certificate() {
	c, kept := n.Shown, n.Subject.Shown
	switch {
	case c == nil && n.Subject.Current != nil && n.Subject.Current.State == CertificateRevoked && !n.Subject.Device.Readmitted():
		n.say(Suspect, ReasonCertRevoked, "Its certificate was revoked.")
		return
	case c == nil:
		n.say(Genuine, ReasonByName, "This rests on a name, which can be copied: a challenge shows whether the unit holds its key.")
		return
	case kept == nil: // a bootstrap certificate, which anybody may have seen
		if s := n.Subject.Device.State; s == DeviceActive || s == DeviceSuspended || s == DeviceRetired {
			n.say(Suspect, ReasonBootstrapSpent, "The bootstrap key was shown, which counts no longer: the device has its official certificate.")
		}
		return
	case n.Subject.ShownDigest != c.Digest:
		n.bring(EvidenceForged, n.Subject.Device.ID, "Another certificate with the serial number %s was shown, with the device CA's signature.", c.Serial)
		n.say(Counterfeit, ReasonForged, "The certificate carries our CA's signature, but differs from the one that was issued under its serial number: tell the security team at once.")
		return
	}
	switch kept.State {
	case CertificateRevoked:
		n.say(Suspect, ReasonCertRevoked, "The certificate was revoked at %s.", stamp(kept.Revoked))
	case CertificateOnHold:
		n.say(Suspect, ReasonCertOnHold, "The certificate is on hold since %s.", stamp(kept.Revoked))
	case CertificateSuperseded:
		n.say(Suspect, ReasonSuperseded, "The certificate was replaced by a later one: a copy, or an old file.")
	default:
		n.say(Genuine, ReasonCertificateGood, "The certificate is ours and the device's current one. Certificates are public: a challenge shows whether the unit holds the key.")
	}
	if !n.Now.Before(kept.NotAfter) {
		n.say(Genuine, ReasonRanOut, "The certificate ran out at %s.", stamp(kept.NotAfter))
	}
}

// proof looks at the last challenge.
func (n *inspection) proof() {
	switch p := n.Subject.Proof; {
	case p == nil || p.Result == nil:
	case p.Result.Outcome == Proved:
		n.say(Genuine, ReasonProved, "A challenge was answered with the device's key at %s.", stamp(p.Result.At))
	default:
		n.say(Suspect, ReasonProofFailed, "The last challenge, at %s, was not met: %s", stamp(p.Result.At), p.Result.Text)
	}
}

// against counts the evidence that still speaks against the device.
func (n *inspection) against() {
	open := 0
	for _, e := range n.Subject.Evidence {
		if e.Stands(&n.Subject.Device) {
			open++
		}
	}
	if open > 0 {
		n.say(Suspect, ReasonEvidence, "%s against the device; an administrator or planner clears what was a false alarm.", count(open, "sign of misuse speaks", "signs of misuse speak"))
	}
	duplicate := func(e *Evidence) bool { return e.duplicate() && e.Cleared == nil }
	if n.Subject.Device.Contested && slices.ContainsFunc(n.Subject.Evidence, duplicate) {
		n.say(Suspect, ReasonContested, "Another record claims the same identity or key: one of the two is a copy.")
	}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
