package vetting

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Record is one device's manufacturing data, as a manifest lists it.
// Everything but Contested is immutable once stored.
type Record struct {
	ID         int64 `json:"id"`
	ManifestID int64 `json:"manifest"`
	OrderID    int64 `json:"-"`
	ProductID  int64 `json:"-"`
	SiteID     int64 `json:"-"`
	// Row is the record's place in its manifest, counted from 1.
	Row int64 `json:"row"`
	Identity
	// BootstrapKey is the fingerprint of the device's bootstrap public key;
	// zero where the product's devices are vouched for by a rig alone.
	BootstrapKey Fingerprint   `json:"bootstrapKey,omitzero"`
	Made         Manufacturing `json:"made"`
	// Contested is set when a later record claimed one of this record's
	// identifiers or its key.
	Contested bool `json:"contested,omitempty"`
}

// Manufacturing is what a record says beyond the identity: kept for people
// and certificate templates, never decisive by itself.
type Manufacturing struct {
	EKHash           string          `json:"ekHash,omitempty"` // SHA-256 of the TPM endorsement key, hex
	HardwareRevision string          `json:"hardwareRevision,omitempty"`
	Firmware         string          `json:"firmware,omitempty"` // the version that was flashed
	Line             string          `json:"line,omitempty"`
	Rig              string          `json:"rig,omitempty"`
	Time             time.Time       `json:"time,omitzero"`
	Tests            json.RawMessage `json:"tests,omitempty"` // any JSON value
}

// Bounds of a record's free-text fields and test results, in bytes.
const (
	MaxRecordText  = 128
	MaxRecordTests = 8 << 10
)

// Check normalizes the record's identity in place and reports the first
// thing wrong with its own fields.
func (r *Record) Check() error {
	id, err := r.Identity.Normalize()
	if err != nil {
		return err
	}
	r.Identity = id
	if r.Serial == "" {
		return errors.New("the record has no serial")
	}
	for _, f := range [...]struct{ field, value string }{
		{"hardwareRevision", r.Made.HardwareRevision}, {"firmware", r.Made.Firmware}, {"line", r.Made.Line},
		{"rig", r.Made.Rig}, {"ekHash", r.Made.EKHash},
	} {
		if err := CheckText(f.field, f.value); err != nil {
			return err
		}
	}
	if r.Made.EKHash != "" && (len(r.Made.EKHash) != 64 || !isHex(r.Made.EKHash)) {
		return fmt.Errorf("ekHash %q is not a SHA-256 as 64 hexadecimal digits", r.Made.EKHash)
	}
	if len(r.Made.Tests) > MaxRecordTests {
		return fmt.Errorf("tests hold %d bytes: at most %d are allowed", len(r.Made.Tests), MaxRecordTests)
	}
	return nil
}

// CheckText bounds free text and refuses control characters, which have no
// place in logs, terminals and certificates.
func CheckText(field, s string) error {
	if len(s) > MaxRecordText {
		return fmt.Errorf("%s is %d bytes long: at most %d are allowed", field, len(s), MaxRecordText)
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return fmt.Errorf("%s %q holds a control character or is not UTF-8", field, s)
		}
	}
	return nil
}

// ManifestState is where a manifest stands.
type ManifestState string

const (
	ManifestReceiving  ManifestState = "receiving"  // bytes are still arriving; invisible to vetting
	ManifestUnsigned   ManifestState = "unsigned"   // complete, but lacks signatures
	ManifestUnapproved ManifestState = "unapproved" // signed, but others have to approve it
	ManifestAccepted   ManifestState = "accepted"   // checked; its records are being loaded
	ManifestLoaded     ManifestState = "loaded"     // every record is in place
)

// ManifestFormat is the form of a manifest file.
type ManifestFormat string

const (
	FormatJSONLines ManifestFormat = "jsonl" // one JSON object per line
	FormatCSV       ManifestFormat = "csv"   // RFC 4180 with a header line
)

// Manifest is the signed list of records that a site hands in for an order.
type Manifest struct {
	ID     int64          `json:"id"`
	Order  string         `json:"order"`
	Site   string         `json:"site"`
	Format ManifestFormat `json:"format"`
	State  ManifestState  `json:"state"`
	// SHA256 is the digest of the file as it was signed, in hex.
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"` // bytes
	// Records is how many the file lists; Loaded of them were worked off so
	// far: Fresh became records, Repeated were known already word for word,
	// Disputed claim an identifier or key that another record holds.
	Records  int64 `json:"records"`
	Loaded   int64 `json:"loaded"`
	Fresh    int64 `json:"fresh"`
	Repeated int64 `json:"repeated"`
	Disputed int64 `json:"disputed"`
	// Signers are the operators whose signatures were verified.
	Signers []string `json:"signers"`
	Wanted  int      `json:"wantedSignatures"`
	// Approvals is how many others must approve it while it is unapproved, and
	// Proposal what they approve; 0 if nobody asks them at present.
	Approvals int   `json:"wantedApprovals,omitempty"`
	Proposal  int64 `json:"proposal,omitempty"`

	Received time.Time `json:"received"`
	Updated  time.Time `json:"updated"`

	OrderID   int64 `json:"-"`
	ProductID int64 `json:"-"`
	SiteID    int64 `json:"-"`
}

// ManifestStatement is what those sign who approve a manifest.
type ManifestStatement struct {
	Manifest int64          `json:"manifest"`
	Order    string         `json:"order"`
	Product  string         `json:"product"`
	Site     string         `json:"site"`
	Format   ManifestFormat `json:"format"`
	SHA256   string         `json:"sha256"` // of the file, in hex
	Size     int64          `json:"size"`   // bytes
	Records  int64          `json:"records"`
	Signers  []string       `json:"signers"` // operators of the site
}
