// Package attest checks what TPMs (2.0) say of themselves and their keys:
// endorsement keys (EK), attestation keys (AK), keys that an AK certifies, and
// quotes. It knows no protocol; docs/tpm.md has the exchange in which EST and
// MQTT carry its messages.
//
// Part numbers are those of the TCG's TPM 2.0 Library Specification.
package attest

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// Hello is the first message: who the device says that it is.
type Hello struct {
	Serial  string `json:"serial,omitempty"`
	Product string `json:"product,omitempty"`
	EK      EK     `json:"ek"`
	AK      AK     `json:"ak"`
}

// EK is an endorsement key.
type EK struct {
	// Public is a TPMT_PUBLIC.
	Public []byte `json:"public"`
	// Certificates are the EK certificate and what lies between it and its
	// maker's root, as DER.
	Certificates [][]byte `json:"certificates,omitempty"`
}

// AK is an attestation key, with its own word on how it was made.
type AK struct {
	Public            []byte `json:"public"`            // TPMT_PUBLIC
	CreateData        []byte `json:"createData"`        // TPMS_CREATION_DATA
	CreateAttestation []byte `json:"createAttestation"` // TPMS_ATTEST of TPM2_CertifyCreation
	CreateSignature   []byte `json:"createSignature"`   // TPMT_SIGNATURE
}

// Challenge is the answer to the first message.
type Challenge struct {
	Credential []byte `json:"credential"` // TPM2B_ID_OBJECT
	Secret     []byte `json:"secret"`     // TPM2B_ENCRYPTED_SECRET
	// Challenge is for this server alone to read.
	Challenge string    `json:"challenge"`
	Expires   time.Time `json:"expires"`
	// PCRs are the registers that a quote should hold.
	PCRs []int `json:"pcrs"`
}

// Proof is the second message, but for the PKCS#10, which travels beside it.
type Proof struct {
	Hello
	Challenge string `json:"challenge"`
	// Answer is what the TPM decrypted.
	Answer []byte `json:"answer"`
	Key    Key    `json:"key"`
	Quote  *Quote `json:"quote,omitempty"`
}

// Key is the key to be certified, and the AK's word on it.
type Key struct {
	Public      []byte `json:"public"`      // TPMT_PUBLIC
	Attestation []byte `json:"attestation"` // TPMS_ATTEST of TPM2_Certify
	Signature   []byte `json:"signature"`   // TPMT_SIGNATURE
}

// Quote is the AK's word on what the machine was booted with.
type Quote struct {
	Attestation []byte `json:"attestation"` // TPMS_ATTEST of TPM2_Quote
	Signature   []byte `json:"signature"`   // TPMT_SIGNATURE
	// PCRs are the values of the registers that it is about, by number.
	PCRs map[int][]byte `json:"pcrs"`
}

// Makers finds the products that trust the chain of an EK certificate, which
// comes first. A *vendorid.Rejection says why none does.
type Makers interface {
	Matches(ctx context.Context, chain []*x509.Certificate) ([]vetting.VendorMatch, error)
}

// Products knows which registers are to be quoted.
type Products interface {
	// Product finds a product by its name; a vetting.NotFound error if there is
	// none.
	Product(ctx context.Context, name string) (*vetting.Product, error)
	// ProductOfEK is that of the one device whose record lists the key, or that
	// enrolled by it; nil if there is none.
	ProductOfEK(ctx context.Context, ek vetting.Fingerprint) (*vetting.Product, error)
}

// Attestor checks TPMs. Its fields are set once, before use.
type Attestor struct {
	// Secret is what the challenges' answers are derived from: the same at all
	// servers, and known to nobody else.
	Secret   []byte
	Makers   Makers
	Products Products
	Now      func() time.Time
}

// ChallengeLife is how long a challenge counts.
const ChallengeLife = 10 * time.Minute

// Challenge answers a first message. What it proves shows with the second; of
// the first only the form is judged, and that the AK is one. Its errors are
// *enroll.RequestErrors, or the products'.
func (a *Attestor) Challenge(ctx context.Context, h Hello) (*Challenge, error) {
	ek, ak, err := h.parse()
	if err != nil {
		return nil, err
	}
	pcrs, err := a.registers(ctx, h.Product, ek.print)
	if err != nil {
		return nil, err
	}
	expires := a.Now().Add(ChallengeLife).Truncate(time.Second)
	text, answer := a.challenge(ek, ak, expires)
	c := &Challenge{Challenge: text, Expires: expires.UTC(), PCRs: pcrs}
	c.Credential, c.Secret, err = ek.encrypt(ak.name, answer)
	return c, err
}

// registers are those that a quote should hold: as the product wants that the
// device names, or that its record is of. Whether there is such a product is
// judged with the second message.
func (a *Attestor) registers(ctx context.Context, product string, ek vetting.Fingerprint) ([]int, error) {
	var p *vetting.Product
	var err error
	if product == "" {
		p, err = a.Products.ProductOfEK(ctx, ek)
	} else {
		p, err = a.Products.Product(ctx, product)
	}
	switch {
	case vetting.ProblemOf(err) == vetting.NotFound, err == nil && p == nil:
		return vetting.DefaultPCRs(), nil
	case err != nil:
		return nil, err
	}
	return p.TPM.Quoted(), nil
}

// parse checks all that the first message has.
func (h *Hello) parse() (ek *endorsement, ak *attestationKey, err error) {
	if ek, err = parseEK(h.EK); err != nil {
		return nil, nil, err
	}
	ak, err = parseAK(h.AK)
	return ek, ak, err
}
