package vetting

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Fingerprint names a public key: the SHA-256 of its DER
// SubjectPublicKeyInfo. Its text form is 64 lower-case hexadecimal digits.
type Fingerprint [sha256.Size]byte

// KeyFingerprint returns the fingerprint of a DER SubjectPublicKeyInfo.
func KeyFingerprint(spki []byte) Fingerprint { return sha256.Sum256(spki) }

// PublicKeyFingerprint returns the fingerprint of a crypto.PublicKey of a
// kind that crypto/x509 can marshal.
func PublicKeyFingerprint(pub any) (Fingerprint, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return Fingerprint{}, fmt.Errorf("fingerprint of a public key: %w", err)
	}
	return KeyFingerprint(spki), nil
}

// ParseFingerprint reads the text form; colons between bytes and upper-case
// digits, as openssl prints them, are accepted.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(s), ":", ""))
	if err != nil || len(b) != len(f) {
		return f, fmt.Errorf("%q is not a key fingerprint: want the SHA-256 of the SubjectPublicKeyInfo as 64 hexadecimal digits", s)
	}
	copy(f[:], b)
	return f, nil
}

// IsZero reports whether no key is named.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

func (f Fingerprint) String() string {
	if f.IsZero() {
		return ""
	}
	return hex.EncodeToString(f[:])
}

// MarshalText gives the text form, empty for the zero value.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (f *Fingerprint) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*f = Fingerprint{}
		return nil
	}
	*f, err = ParseFingerprint(string(b))
	return err
}

// Identity is what a unit is called: at least a serial number, and where the
// hardware has them a MAC address (EUI-48 or EUI-64) and the chip's UID. An
// empty field means "not stated".
type Identity struct {
	Serial string `json:"serial,omitempty"`
	MAC    string `json:"mac,omitempty"`
	UID    string `json:"uid,omitempty"`
}

// IsZero reports whether nothing is stated.
func (id Identity) IsZero() bool { return id == Identity{} }

func (id Identity) String() string {
	var parts []string
	for _, p := range [...]struct{ name, value string }{{"serial", id.Serial}, {"MAC", id.MAC}, {"UID", id.UID}} {
		if p.value != "" {
			parts = append(parts, p.name+" "+p.value)
		}
	}
	if len(parts) == 0 {
		return "no identity"
	}
	return strings.Join(parts, ", ")
}

// Longest identifiers that are accepted, in bytes. 64 is the upper bound of
// the X.520 serialNumber attribute (RFC 5280 appendix A.1).
const (
	MaxSerialLength = 64
	MaxUIDLength    = 64
)

// Normalize returns the identity in canonical form, in which equal
// identifiers are equal strings: MAC as lower-case hexadecimal with colons,
// a hexadecimal UID in lower case, the serial number untouched. Every
// identity is normalized where it enters the program.
func (id Identity) Normalize() (Identity, error) {
	var out Identity
	var err error
	if out.Serial, err = name("serial", strings.TrimSpace(id.Serial), MaxSerialLength); err != nil {
		return Identity{}, err
	}
	if out.MAC, err = normalizeMAC(id.MAC); err != nil {
		return Identity{}, err
	}
	uid := strings.TrimSpace(id.UID)
	if bare := uidSeparators.Replace(uid); isHex(bare) {
		uid = strings.ToLower(bare)
	}
	if out.UID, err = name("uid", uid, MaxUIDLength); err != nil {
		return Identity{}, err
	}
	return out, nil
}

// What people write between digits.
var (
	uidSeparators = strings.NewReplacer(":", "", "-", "", " ", "")
	macSeparators = strings.NewReplacer(":", "", "-", "", ".", "")
)

// name checks an identifier of free form: printable ASCII without spaces,
// slashes, quotes or backslashes, so that it can stand in a URL path, a file
// name, a DNS label's neighbourhood and a certificate template unchanged.
func name(field, s string, longest int) (string, error) {
	if len(s) > longest {
		return "", fmt.Errorf("%s is %d bytes long: at most %d are allowed", field, len(s), longest)
	}
	for _, r := range s {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`/\"'<>&`+"`", r) {
			return "", fmt.Errorf("%s %q holds the character %q: allowed are printable ASCII characters without spaces and / \\ \" ' < > & `", field, s, r)
		}
	}
	return s, nil
}

func normalizeMAC(s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return "", nil
	}
	digits := macSeparators.Replace(s)
	if !isHex(digits) || (len(digits) != 12 && len(digits) != 16) {
		return "", fmt.Errorf("mac %q is not a MAC address: want 12 (EUI-48) or 16 (EUI-64) hexadecimal digits, with or without separators", s)
	}
	digits = strings.ToLower(digits)
	var b strings.Builder
	for i := 0; i < len(digits); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(digits[i : i+2])
	}
	return b.String(), nil
}

func isHex(s string) bool {
	if s == "" {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return false
		}
	}
	return true
}

// MaxNameLength is the longest name of a product, site, order or operator.
const MaxNameLength = 63

// CheckName checks the name of a product, site, order or operator: letters,
// digits, '.', '_' and '-', beginning with a letter or digit. Such a name is
// an EST label (RFC 7030 §3.2.2) and a URL segment without escaping.
func CheckName(what, s string) error {
	if s == "" {
		return fmt.Errorf("the %s needs a name", what)
	}
	if len(s) > MaxNameLength {
		return fmt.Errorf("the %s name is %d characters long: at most %d are allowed", what, len(s), MaxNameLength)
	}
	for i, c := range []byte(s) {
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && (i == 0 || !strings.ContainsRune("._-", rune(c))) {
			return fmt.Errorf("%s name %q: allowed are letters, digits, '.', '_' and '-', beginning with a letter or digit", what, s)
		}
	}
	if reservedNames[s] {
		return fmt.Errorf("%s name %q is the name of an EST operation and cannot be used (RFC 7030 §3.2.2)", what, s)
	}
	return nil
}

// reservedNames are the EST operations; a label must differ from them.
var reservedNames = map[string]bool{
	"cacerts": true, "simpleenroll": true, "simplereenroll": true, "fullcmc": true,
	"serverkeygen": true, "csrattrs": true,
}

// ErrNoIdentity says that a record or request names no unit at all.
var ErrNoIdentity = errors.New("no serial, mac or uid is given: at least a serial number is needed")
