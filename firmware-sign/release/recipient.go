package release

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"time"
)

// Recipient is a key that encrypted files are wrapped for: of one device, or of
// a family, whose devices all have it. Its private half is theirs alone.
type Recipient struct {
	ID      int64  `json:"id" doc:"The key's number"`
	Product string `json:"product" doc:"The product's name"`
	// Name is a family key's; Device and Serial are those of a device.
	Name   string `json:"name,omitempty" doc:"The name of a key that all devices of a family have; absent if it is one device's"`
	Device int64  `json:"device,omitempty" doc:"The number of the device whose key it is; absent if it is a family's"`
	Serial string `json:"serial,omitempty" doc:"The serial number of the device whose key it is"`
	// PublicKey is a SubjectPublicKeyInfo, DER.
	PublicKey []byte    `json:"publicKey" doc:"The public key: a SubjectPublicKeyInfo, DER in base64"`
	Kind      string    `json:"kind" doc:"What kind of key it is: X25519, P-256, P-384, P-521 or RSA-…"`
	By        string    `json:"by" doc:"The operator who registered it"`
	Created   time.Time `json:"created" doc:"When it was registered"`
	Revoked   time.Time `json:"revoked,omitzero" doc:"When it was revoked; absent if it was not"`
	Reason    string    `json:"reason,omitempty" doc:"Why it was revoked"`
}

// Check reports the first thing wrong with what a key is registered with, and
// fills in its kind.
func (r *Recipient) Check() error {
	pub, err := x509.ParsePKIXPublicKey(r.PublicKey)
	if err != nil {
		return fmt.Errorf("the public key is no SubjectPublicKeyInfo: %w", err)
	}
	if r.Kind = recipientKind(pub); r.Kind == "" {
		return fmt.Errorf("nothing is wrapped for a key of type %T, or of that size or curve: use X25519 or P-256, or for RAUC P-384, P-521 or RSA from 2048 bits", pub)
	}
	return nil
}

func recipientKind(pub any) string {
	switch pub := pub.(type) {
	case *ecdh.PublicKey:
		if pub.Curve() == ecdh.X25519() {
			return "X25519"
		}
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P224() {
			return pub.Curve.Params().Name
		}
	case *rsa.PublicKey:
		if n := pub.N.BitLen(); n >= 2048 && n <= 8192 {
			return fmt.Sprintf("RSA-%d", n)
		}
	}
	return ""
}

// Fingerprint is the SHA-256 of the public key, in hexadecimal.
func (r *Recipient) Fingerprint() string {
	sum := sha256.Sum256(r.PublicKey)
	return hex.EncodeToString(sum[:])
}

// TargetKey is a key of a target.
type TargetKey struct {
	Recipient int64 // 0 if it is the key of the device's certificate
	PublicKey []byte
	ID        []byte // subjectKeyIdentifier
}

// Target is whom a file may be wrapped for, after it was decided and logged.
type Target struct {
	Device int64  // 0 is a family
	Serial string // of the device
	Keys   []TargetKey
}

// Key is the recipient as a key of a target. Its identifier is method 1 of
// RFC 5280 §4.2.1.2, which openssl uses, too.
func (r *Recipient) Key() (TargetKey, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(r.PublicKey, &info); err != nil {
		return TargetKey{}, fmt.Errorf("the public key %d: %w", r.ID, err)
	}
	sum := sha1.Sum(info.Key.Bytes)
	return TargetKey{r.ID, r.PublicKey, sum[:]}, nil
}

// Wanted says whom somebody wants a file wrapped for: devices of the release's
// product, or all that have the family's keys.
type Wanted struct {
	Serials []string
	Family  bool
	Names   []string // which of the family's keys; all if there are none
}

// MaxTargets bounds the devices of one request.
const MaxTargets = 1000

// Wrapped is one wrap that was made, for a device or with a family key.
type Wrapped struct {
	ID        int64     `json:"id" doc:"The wrap's number"`
	Artefact  int64     `json:"artefact" doc:"The artefact's number"`
	Device    int64     `json:"device,omitempty" doc:"The number of the device; absent for a family"`
	Recipient int64     `json:"recipient,omitempty" doc:"The number of the key; absent if it was that of the device's certificate"`
	By        string    `json:"by" doc:"The operator who asked"`
	At        time.Time `json:"at" doc:"When it was made"`
}

// Encrypted reports whether the artefact's file is encrypted as it is signed.
func (a *Artefact) Encrypted() bool { return a.Parameters["encrypt"] != "" }

// MayWrap reports why an artefact is not wrapped for anybody: before its file
// is signed and known, or after its release was yanked.
func (r *Release) MayWrap(a *Artefact) error {
	switch {
	case !a.Encrypted():
		return fmt.Errorf("%s of %s is not encrypted: there is nothing to wrap", a.Name, r.Name())
	case a.Signed == nil:
		return fmt.Errorf("%s of %s has no signed file yet: finish it with `touchmark firmware sign` or collect", a.Name, r.Name())
	case a.Stage == Production:
		return r.state("files are wrapped for devices from when all are signed until the release is yanked", Signed, Published)
	case r.State == Yanked:
		return fmt.Errorf("release %s was yanked", r.Name())
	}
	return nil
}

// Called is how people call whose key it is.
func (r *Recipient) Called() string {
	if r.Name != "" {
		return fmt.Sprintf("family %s (%s)", r.Product, r.Name)
	}
	return fmt.Sprintf("device %d (%s)", r.Device, r.Serial)
}

// Called is how people call a target of a product.
func (t Target) Called(product string) string {
	if t.Device == 0 {
		return "family " + product
	}
	return fmt.Sprintf("device %d (%s)", t.Device, t.Serial)
}
