// Package audit is the log that shows everything Touchmark did: a Merkle
// tree in the manner of the Go checksum database, whose leaves are written in
// the same transaction as what they record.
//
// The package knows the form of leaves, trees, checkpoints and tiles, and how
// to verify them. Where they are kept is the business of internal/store,
// which implements [Source].
package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// Kind is a kind of object whose changes the log records.
type Kind string

const (
	KindProduct        Kind = "product"
	KindSite           Kind = "site"
	KindOrder          Kind = "order" // its digest covers the units issued
	KindManifest       Kind = "manifest"
	KindRecords        Kind = "records" // a run of records; ID is the first one's
	KindDevice         Kind = "device"
	KindCertificate    Kind = "certificate"
	KindRegistration   Kind = "registration"
	KindEvidence       Kind = "evidence"
	KindDispute        Kind = "dispute"
	KindOperator       Kind = "operator"
	KindCode           Kind = "code"      // an enrolment code, of which only the hash is kept
	KindChallenge      Kind = "challenge" // that was answered
	KindAuthority      Kind = "authority" // a CA or the log itself
	KindTestResult     Kind = "test-result"
	KindJob            Kind = "job"   // an act on many devices
	KindRaise          Kind = "raise" // of an order's quantity, before these became proposals
	KindProposal       Kind = "proposal"
	KindRules          Kind = "rules" // one version of a product's
	KindWebhook        Kind = "webhook"
	KindOwner          Kind = "owner"
	KindTransfer       Kind = "transfer"
	KindIssuingCA      Kind = "issuing-ca"
	KindCRL            Kind = "crl"          // the newest revocation list of a scope
	KindOfflineFile    Kind = "offline-file" // the newest offline status file of a CA and kind
	KindAccountKey     Kind = "account-key"  // what lets an ACME account be opened
	KindAccount        Kind = "account"      // of ACME
	KindLicenceKey     Kind = "licence-key"
	KindLicences       Kind = "licences"      // the chips of one grant; ID is the grant's
	KindLicenceGrant   Kind = "licence-grant" // its digest covers the signatures
	KindProgrammed     Kind = "programmed"    // a licence, said to be on its chip
	KindFirmwareKey    Kind = "firmware-key"
	KindFirmwarePolicy Kind = "firmware-policy" // of a product
	KindRelease        Kind = "release"
	KindArtefact       Kind = "artefact"       // of a release
	KindLogin          Kind = "operator-login" // of a workload
	// KindStatementSignature is the signature of a release's statement.
	KindStatementSignature Kind = "statement-signature"
	KindTUFKey             Kind = "tuf-key" // of an online role
	KindTUFRoot            Kind = "tuf-root"
	KindTUFFile            Kind = "tuf-file"  // the newest of a role
	KindContent            Kind = "content"   // the sealed secret of an encrypted artefact, whose ID it has
	KindRecipient          Kind = "recipient" // a key that encrypted files are wrapped for
	KindWrap               Kind = "wrap"      // of an artefact for a recipient
	KindApprovalPolicy     Kind = "approval-policy"
)

// Digest is the SHA-256 of an object's canonical content; its text form is
// unpadded base64url.
type Digest [sha256.Size]byte

// MarshalText gives the text form.
func (d Digest) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, d[:]), nil
}

// UnmarshalText reads the text form.
func (d *Digest) UnmarshalText(b []byte) error {
	var got Digest
	n, err := base64.RawURLEncoding.Strict().Decode(got[:], b[:min(len(b), 43)])
	if err != nil || n != len(got) || len(b) != 43 {
		return fmt.Errorf("%q is not a digest: want 43 characters of base64url", clip(string(b)))
	}
	*d = got
	return nil
}

// DigestOf is the digest of a value's JSON. Values digested must marshal to
// the same bytes always: structs of scalars, strings and slices, no maps of
// changing content, times in UTC.
func DigestOf(v any) Digest {
	b, err := json.Marshal(v)
	if err != nil { // a programming error: the value cannot be marshalled
		panic(fmt.Sprintf("audit: digest of %T: %v", v, err))
	}
	return sha256.Sum256(b)
}

// Object is what an act left behind: which object, and its content after
// the act as a digest.
type Object struct {
	Kind   Kind   `json:"k"`
	ID     int64  `json:"id"`
	Digest Digest `json:"d"`
}

// Leaf is one entry of the log. Its JSON is what the tree hashes.
type Leaf struct {
	Time time.Time `json:"t"`
	Act  string    `json:"act"` // e.g. "order.create", "device.enrol"
	By   string    `json:"by"`  // e.g. "operator:anna", "device:4711", "server"
	// Note is a few words for a reader; facts stand in the objects.
	Note    string   `json:"note,omitempty"`
	Objects []Object `json:"obj"`
}

// Encode gives the bytes that become the leaf.
func (l Leaf) Encode() []byte {
	l.Time = l.Time.UTC()
	b, err := json.Marshal(l)
	if err != nil { // cannot happen: the types above always marshal
		panic(fmt.Sprintf("audit: encode leaf: %v", err))
	}
	return b
}

// ParseLeaf reads what Encode wrote.
func ParseLeaf(b []byte) (l Leaf, err error) {
	if err := json.Unmarshal(b, &l); err != nil {
		return Leaf{}, fmt.Errorf("leaf is not in the form this version writes: %w", err)
	}
	l.Time = l.Time.UTC()
	if y := l.Time.Year(); y < 0 || y > 9999 { // a zone can take it there
		return Leaf{}, fmt.Errorf("leaf is not in the form this version writes: its time is in the year %d", y)
	}
	return l, nil
}
