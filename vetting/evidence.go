package vetting

import (
	"crypto/sha256"
	"fmt"
	"time"
)

// What [Inspect], [JudgeAnswer] and [Observe] bring up; other kinds come from [Judge] and manifests.
const (
	EvidenceForged             EvidenceKind = "forged-certificate"
	EvidenceUnknownCertificate EvidenceKind = "unknown-certificate"
	EvidenceForeignProof       EvidenceKind = "proof-by-another-device"
	EvidenceConcurrentUse      EvidenceKind = "concurrent-use"
	EvidenceImpossibleTravel   EvidenceKind = "impossible-travel"
	EvidenceRevokedInUse       EvidenceKind = "revoked-certificate"
)

// What doors bring up whose messages anybody may have sent on: a message that
// a device's key signed came at another time or to another address.
const (
	EvidenceReplayed    EvidenceKind = "replayed-message"
	EvidenceReaddressed EvidenceKind = "re-addressed-message"
	// EvidenceBadAttestation: an attestation came, over ACME and from anybody,
	// that is not what it should be: swapped, replayed, forged, or of hardware
	// that nobody vouches for.
	EvidenceBadAttestation EvidenceKind = "bad-attestation"
)

// What requests for licences bring up.
const (
	// EvidenceForeignChip: a site asked for a licence for a chip that another
	// product or another site has.
	EvidenceForeignChip EvidenceKind = "foreign-chip"
	// EvidenceOverLicensed: a site has more chips than licences were ordered.
	EvidenceOverLicensed EvidenceKind = "over-licensed"
)

// EvidenceKinds lists every kind.
var EvidenceKinds = []EvidenceKind{
	EvidenceUnknownDevice, EvidenceWrongKey, EvidenceMismatch,
	EvidenceDuplicateSerial, EvidenceDuplicateUID, EvidenceDuplicateMAC, EvidenceDuplicateKey, EvidenceDuplicateEK, EvidenceAttestation,
	EvidenceOverQuota, EvidenceOutOfWindow, EvidenceWrongSite, EvidenceSpentKey, EvidenceSuperseded,
	EvidenceWrongCode, EvidenceMisusedCode,
	EvidenceForged, EvidenceUnknownCertificate, EvidenceForeignProof,
	EvidenceConcurrentUse, EvidenceImpossibleTravel, EvidenceRevokedInUse,
	EvidenceReplayed, EvidenceReaddressed, EvidenceBadAttestation,
	EvidenceForeignChip, EvidenceOverLicensed,
}

// Evidence is one observed sign, kept with the device it speaks against.
type Evidence struct {
	ID   int64        `json:"id"`
	At   time.Time    `json:"at"`
	Kind EvidenceKind `json:"kind"`
	// DeviceID is the device or record it speaks against; 0 if none is known.
	DeviceID       int64  `json:"device,omitempty"`
	RegistrationID int64  `json:"registration,omitempty"`
	ManifestID     int64  `json:"manifest,omitempty"`
	Text           string `json:"text"`
	// Repeats counts how often the same was seen again, Last when it was
	// seen last; both only where it is known to be the same.
	Repeats int64     `json:"repeats,omitempty"`
	Last    time.Time `json:"last,omitzero"`
	// Cleared is a person's word that it was a false alarm; nil while it
	// speaks against the device.
	Cleared *Clearing `json:"cleared,omitempty"`
	Leaf    int64     `json:"leaf"`

	// SiteID is the site that it came up at, where no device is known that tells
	// the site; 0 is the OEM's affair only.
	SiteID int64 `json:"-"`
	// Mark names what was seen: while evidence with the same mark is open,
	// seeing it again counts as a repetition. Empty for what always counts anew.
	Mark []byte `json:"-"`
}

// SuspiciousMessage is evidence of a message that a device's key had signed.
// What comes up about the same key again is counted.
func SuspiciousMessage(device int64, key Fingerprint, kind EvidenceKind, text string) Evidence {
	return Evidence{Kind: kind, DeviceID: device, Text: text, Mark: evidenceMark(kind, key[:])}
}

// BadAttestation is evidence of a bad attestation that came for a device, by
// whomever. What comes up about the same device again is counted.
func BadAttestation(device int64, text string) Evidence {
	return Evidence{Kind: EvidenceBadAttestation, DeviceID: device, Text: text, Mark: evidenceMark(EvidenceBadAttestation, fmt.Append(nil, device))}
}

// Clearing is a person's word that evidence was a false alarm.
type Clearing struct {
	By   string    `json:"by"`
	At   time.Time `json:"at"`
	Note string    `json:"note"`
}

// Stands reports whether evidence still speaks against a device. What kept it
// from being let in does not once it was let in. A wrong code never does: it
// takes no more than a serial number to try one; nor does a message that came
// late or astray: whoever saw it can have sent it.
func (e *Evidence) Stands(d *Device) bool {
	switch e.Kind {
	case EvidenceOverQuota, EvidenceOutOfWindow, EvidenceWrongSite:
		if !d.Issued.IsZero() && !e.At.After(d.Issued) {
			return false
		}
	case EvidenceWrongCode, EvidenceReplayed, EvidenceReaddressed, EvidenceBadAttestation:
		return false
	}
	return e.Cleared == nil
}

// duplicate reports whether two records or devices claim the same.
func (e *Evidence) duplicate() bool {
	switch e.Kind {
	case EvidenceDuplicateSerial, EvidenceDuplicateUID, EvidenceDuplicateMAC, EvidenceDuplicateKey, EvidenceDuplicateEK:
		return true
	}
	return false
}

// ForgedSerial is evidence that somebody met a certificate with a serial
// number, in hexadecimal, that the CA which it names never issued.
func ForgedSerial(issuer, serial string, at time.Time) Evidence {
	return Evidence{At: at, Kind: EvidenceForged, Text: fmt.Sprintf("Somebody asked whether a certificate with the serial number %s counts, which names %s and was never issued.", serial, issuer),
		Mark: evidenceMark(EvidenceForged, []byte("asked"), []byte(issuer), []byte(serial))}
}

// ForgedSerials is evidence of more of that than is kept one by one, a day's
// under one mark.
func ForgedSerials(issuer string, at time.Time) Evidence {
	day := at.UTC().Format(time.DateOnly)
	return Evidence{At: at, Kind: EvidenceForged, Text: fmt.Sprintf("On %s more serial numbers that %s never issued were asked about than are kept one by one: somebody tries many.", day, issuer),
		Mark: evidenceMark(EvidenceForged, []byte("many asked"), []byte(issuer), []byte(day))}
}

// evidenceMark names what was seen: a kind of evidence, and what tells one
// such sign from another.
func evidenceMark(kind EvidenceKind, parts ...[]byte) []byte {
	h := sha256.New()
	h.Write([]byte(kind))
	for _, p := range parts {
		h.Write([]byte{0, byte(len(p))})
		h.Write(p)
	}
	return h.Sum(nil)[:16]
}
