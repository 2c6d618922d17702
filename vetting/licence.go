package vetting

import (
	"encoding/hex"
	"fmt"
	"time"
)

// LicencePolicy declares that a product's firmware runs only on chips that
// have a licence.
type LicencePolicy struct {
	// UID is the type of the chips' UIDs, by its name in firmware-sign/licence.
	UID string `json:"uid" enum:"opaque,stm32,nrf,esp32,eui64,uid64,uid128"`
	// Number is what licences and firmware call the product; the store chooses
	// the next free one for 0. It stays once a licence was given.
	Number uint32 `json:"number,omitempty" maximum:"2147483647"`
	// Epoch is what firmware may ask for at least. It only grows.
	Epoch uint16 `json:"epoch,omitempty"`
}

// Succeeds reports, as a Conflict, why the policy cannot take another's place
// once licences were given under that.
func (p *LicencePolicy) Succeeds(former *LicencePolicy) error {
	switch {
	case former == nil:
		return nil
	case p == nil:
		return Errorf(Conflict, "licences of this product were given, so it cannot do without: leave the declaration as it is")
	case p.UID != former.UID || p.Number != former.Number:
		return Errorf(Conflict, "licences of this product were given as number %d and for UIDs of type %s, and firmware knows both: neither can change", former.Number, former.UID)
	case p.Epoch < former.Epoch:
		return Errorf(Conflict, "the epoch of this product's licences is %d, and cannot become %d: it only grows", former.Epoch, p.Epoch)
	}
	return nil
}

// MaxLicences is how many UIDs one request may name.
const MaxLicences = 1000

// LicenceState is where a licence stands.
type LicenceState string

const (
	// LicenceReserved: its unit of the quota is taken, and it is not signed
	// yet, because the server was stopped in between or could not sign. Asking
	// for it again goes on from there.
	LicenceReserved LicenceState = "reserved"
	// LicenceSigned: it may have left the server, so it may be on the chip.
	LicenceSigned LicenceState = "signed"
	// LicenceProgrammed: the site says that the chip has it.
	LicenceProgrammed LicenceState = "programmed"
)

// LicenceStates lists every state.
var LicenceStates = []LicenceState{LicenceReserved, LicenceSigned, LicenceProgrammed}

// Licence is what is kept of one chip's licence.
type Licence struct {
	ID      int64        `json:"-"`
	UID     string       `json:"uid"` // in hexadecimal
	Product string       `json:"product"`
	Order   string       `json:"order"`
	Site    string       `json:"site"`
	State   LicenceState `json:"state"`
	// Lot is the order's number in its licences.
	Lot uint32 `json:"lot"`
	// Bytes are the licence as it is programmed; nil while it is reserved.
	Bytes      []byte    `json:"licence,omitempty"`
	By         string    `json:"by"` // the rig or site operator who asked first
	Reserved   time.Time `json:"reserved"`
	Signed     time.Time `json:"signed,omitzero"`
	Programmed time.Time `json:"programmed,omitzero"`
	// DeviceID is the device whose record lists the UID; 0 if none does.
	DeviceID int64 `json:"device,omitempty"`
}

// LicenceFilter narrows a list of licences.
type LicenceFilter struct {
	Site, Order, Product string
	State                LicenceState
}

// LicenceKey is a key that signs a product's licences.
type LicenceKey struct {
	ID        int64  `json:"-"`
	ProductID int64  `json:"-"`
	Product   string `json:"product"`
	// Number is what licences and firmware call the key, counted from 1 within
	// the product.
	Number    uint8       `json:"number"`
	Algorithm string      `json:"algorithm"`
	Public    []byte      `json:"publicKey"` // SubjectPublicKeyInfo
	Key       Fingerprint `json:"key"`
	// Signing is set on the one key of the product that licences are signed
	// with.
	Signing bool      `json:"signing"`
	By      string    `json:"by"`
	Created time.Time `json:"created"`
}

// Name is the key's in a server's key store and configuration.
func (k *LicenceKey) Name() string { return fmt.Sprintf("licence-%s-%d", k.Product, k.Number) }

// MaxLicenceKeys is how many keys a product can have: a licence names its key
// in one byte.
const MaxLicenceKeys = 255

// LicenceTerms are what an order's licences are made by.
type LicenceTerms struct {
	Policy LicencePolicy
	Key    *LicenceKey
}

// LicenceRequest asks for licences from an order's quota. The UIDs are
// plausible and each is named once.
type LicenceRequest struct {
	Order *Order
	UIDs  [][]byte
}

// LicenceClaims are what a request came to, one for each UID in order.
type LicenceClaims struct {
	Lot    uint32
	Left   int64 // of the quota
	Claims []LicenceClaim
}

// LicenceClaim is one UID's. Either it is refused, or its unit of the quota
// is taken: by this request if it is Fresh, or before.
type LicenceClaim struct {
	Refused *LicenceRefusal
	Grant   int64 // what the licence was reserved by
	Fresh   bool
	Signed  bool
}

// LicenceGrant is what one request newly took from an order's quota, in its
// order.
type LicenceGrant struct {
	ID   int64
	Lot  uint32
	UIDs [][]byte
}

// LicenceSignatures complete a grant.
type LicenceSignatures struct {
	Grant int64
	KeyID int64
	// Header is that of all its licences but for the length of the UID, which
	// is 0 in it.
	Header [16]byte
	// Signatures are 64 bytes for each UID.
	Signatures []byte
}

// LicenceRefusal says why a chip gets no licence.
type LicenceRefusal struct {
	Code LicenceRefusalCode `json:"code"`
	Text string             `json:"text"`
}

// LicenceRefusalCode is the kind of a refusal.
type LicenceRefusalCode string

const (
	RefusedUID          LicenceRefusalCode = "implausible-uid" // no chip has it
	RefusedLot          LicenceRefusalCode = "outside-lot"     // not among the order's identifiers
	RefusedOtherProduct LicenceRefusalCode = "other-product"   // another product has the chip
	RefusedOtherSite    LicenceRefusalCode = "other-site"      // another site has the chip
	RefusedQuota        LicenceRefusalCode = "over-quota"
	RefusedOrder        LicenceRefusalCode = "order-not-open"
	RefusedUnknown      LicenceRefusalCode = "unknown" // nothing was signed that could be confirmed
)

// LicenceRefusalCodes lists every code.
var LicenceRefusalCodes = []LicenceRefusalCode{RefusedUID, RefusedLot, RefusedOtherProduct, RefusedOtherSite, RefusedQuota, RefusedOrder, RefusedUnknown}

// RefuseLicence makes a refusal.
func RefuseLicence(code LicenceRefusalCode, format string, args ...any) *LicenceRefusal {
	return &LicenceRefusal{code, fmt.Sprintf(format, args...)}
}

// ChipHolder is who has a chip already: by a licence, or by a record that
// lists its UID.
type ChipHolder struct{ DeviceID, ProductID, SiteID int64 }

// JudgeLicence decides on a chip that asks for a licence from an order's
// quota, as the order is now, and says what that brings up. Holders are those
// who have the chip; licensed tells that one of them has a licence for it.
func JudgeLicence(o *Order, uid []byte, by string, now time.Time, licensed bool, holders ...ChipHolder) (*LicenceRefusal, *Evidence) {
	for _, h := range holders {
		if h.ProductID != o.ProductID {
			return RefuseLicence(RefusedOtherProduct, "the chip %x belongs to another product: was it read from the right unit?", uid),
				foreignChip(o, h, uid, by, "another product")
		}
		if h.SiteID != o.SiteID {
			return RefuseLicence(RefusedOtherSite, "the chip %x is not this site's: was it read from the right unit?", uid),
				foreignChip(o, h, uid, by, "another site")
		}
	}
	switch {
	case o.State == OrderCancelled:
		return RefuseLicence(RefusedOrder, "order %s was cancelled", o.Name), nil
	case licensed:
		return nil, nil
	case o.State != OrderOpen:
		return RefuseLicence(RefusedOrder, "order %s is %s: ask the planner", o.Name, o.State), nil
	case now.Before(o.NotBefore), !o.NotAfter.IsZero() && now.After(o.NotAfter):
		return RefuseLicence(RefusedOrder, "order %s has no window open now: ask the planner", o.Name), nil
	case o.Licensed >= o.Quantity:
		return RefuseLicence(RefusedQuota, "all %d licences of order %s are given: no further chip gets one", o.Quantity, o.Name), overLicensed(o, uid, by)
	}
	return nil, nil
}

func foreignChip(o *Order, h ChipHolder, uid []byte, by, whose string) *Evidence {
	return &Evidence{Kind: EvidenceForeignChip, DeviceID: h.DeviceID, SiteID: o.SiteID,
		Text: fmt.Sprintf("%s asked for a licence of order %s for the chip %s, which belongs to %s.", by, o.Name, hex.EncodeToString(uid), whose),
		Mark: evidenceMark(EvidenceForeignChip, uid, []byte(o.Name))}
}

func overLicensed(o *Order, uid []byte, by string) *Evidence {
	return &Evidence{Kind: EvidenceOverLicensed, SiteID: o.SiteID,
		Text: fmt.Sprintf("%s asked for a licence for the chip %s when all %d licences of order %s were given.", by, hex.EncodeToString(uid), o.Quantity, o.Name),
		Mark: evidenceMark(EvidenceOverLicensed, []byte(o.Name), fmt.Append(nil, o.Quantity))}
}

// LicenceBytes puts a licence together from its grant's header, the chip's UID
// and its signature.
func LicenceBytes(header, uid, signature []byte) []byte {
	b := append(append(make([]byte, 0, len(header)+len(signature)), header...), signature...)
	b[uidLengthAt] = byte(len(uid))
	return b
}

// uidLengthAt is where a licence says how long the UID is.
const uidLengthAt = 4
