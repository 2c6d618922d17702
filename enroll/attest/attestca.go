package attest

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

// CA is an attestation CA (TCG: privacy CA) as step's clients
// (go.step.sm/crypto/tpm/attestation) speak to one: what proves to be an AK of
// a TPM that is known gets a short-lived certificate. Its fields are set once,
// before use.
type CA struct {
	Attestor *Attestor
	EKs      EKs
	Issuer   AKIssuer

	mu             sync.Mutex
	turned         time.Time
	younger, older map[[sha256.Size]byte]*pendingAK // by the secret's hash
}

// EKs knows the endorsement keys of records and devices.
type EKs interface {
	// DeviceOfEK gives the serial number of the one device whose record lists
	// the key, or that enrolled by it; "" if there is none.
	DeviceOfEK(ctx context.Context, ek vetting.Fingerprint) (serial string, err error)
}

// AKIssuer makes certificates of AKs and writes into the log that it did.
type AKIssuer interface {
	// IssueAK gives a certificate and what is above it, as DER.
	IssueAK(ctx context.Context, ak AKCertificate) ([][]byte, error)
	// Certificate is the CA's own, the anchor of its certificates.
	Certificate() *x509.Certificate
}

// AKCertificate is what the certificate of an AK says.
type AKCertificate struct {
	Key crypto.PublicKey
	// EK is the TPM's endorsement key, Serial the device that it is known for;
	// "" if the TPM is known by its maker alone.
	EK     vetting.Fingerprint
	Serial string
	// TPM has the names of the EK certificate.
	TPM vetting.TPM
}

// Vendor is the CA as products trust it.
func (c *CA) Vendor() vetting.Vendor {
	anchor := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Issuer.Certificate().Raw})
	return vetting.Vendor{Name: "attestation-ca", Anchors: string(anchor)}
}

// EKURN names an endorsement key as step's clients want it in an AK's
// certificate.
func EKURN(ek vetting.Fingerprint) string {
	return "urn:ek:sha256:" + base64.StdEncoding.EncodeToString(ek[:])
}

// AttestRequest is the first message to an attestation CA. What it has besides
// is not looked at.
type AttestRequest struct {
	EK           []byte   `json:"ek"` // SubjectPublicKeyInfo
	Certificates [][]byte `json:"ekCerts"`
	Params       AK       `json:"params"`
}

// AttestAnswer is the answer to that.
type AttestAnswer struct {
	Credential []byte `json:"credential"` // TPM2B_ID_OBJECT
	Secret     []byte `json:"secret"`     // TPM2B_ENCRYPTED_SECRET
}

// SecretRequest is the second message: nothing but what the TPM decrypted.
type SecretRequest struct {
	Secret []byte `json:"secret"`
}

// SecretAnswer is the certificate and what is above it, as DER.
type SecretAnswer struct {
	Chain [][]byte `json:"chain"`
}

// pendingAK is an AK whose challenge is under way.
type pendingAK struct {
	AKCertificate
	expires time.Time
}

// Attest answers a first message. Its errors are *enroll.RequestErrors, an
// *enroll.AuthError for a TPM that nobody knows, or of the books.
func (c *CA) Attest(ctx context.Context, r AttestRequest) (*AttestAnswer, error) {
	area, err := defaultEK(r.EK)
	if err != nil {
		return nil, err
	}
	h := Hello{EK: EK{Public: tpm2.Marshal(*area), Certificates: r.Certificates}, AK: r.Params}
	ek, ak, err := h.parse()
	if err != nil {
		return nil, err
	}
	pending, err := c.known(ctx, ek, ak)
	if err != nil {
		return nil, err
	}
	secret := make([]byte, sha256.Size)
	rand.Read(secret)
	out := new(AttestAnswer)
	if out.Credential, out.Secret, err = ek.encrypt(ak.name, secret); err != nil {
		return nil, err
	}
	c.remember(secret, pending)
	return out, nil
}

// known lets through TPMs that a record lists, or whose maker a product trusts.
func (c *CA) known(ctx context.Context, ek *endorsement, ak *attestationKey) (*pendingAK, error) {
	serial, err := c.EKs.DeviceOfEK(ctx, ek.print)
	if err != nil {
		return nil, err
	}
	makers, err := c.Attestor.makers(ctx, ek)
	switch {
	case err != nil:
		return nil, err
	case serial == "" && len(makers) == 0:
		return nil, &enroll.AuthError{Reason: "the TPM is in no record, and no product trusts its maker: hand in the record with its ekHash " + ek.print.String() + ", or have a product trust the maker"}
	}
	return &pendingAK{AKCertificate{Key: ak.key, EK: ek.print, Serial: serial, TPM: ek.names}, c.Attestor.Now().Add(ChallengeLife)}, nil
}

// Secret answers a second message. A secret that is none of this server's, or
// too old, is a *enroll.ProofError.
func (c *CA) Secret(ctx context.Context, r SecretRequest) (*SecretAnswer, error) {
	p := c.recall(r.Secret)
	if p == nil || c.Attestor.Now().After(p.expires) {
		return nil, &enroll.ProofError{Reason: "the secret is not one that this server encrypted in the last minutes: begin anew with attest"}
	}
	chain, err := c.Issuer.IssueAK(ctx, p.AKCertificate)
	if err != nil {
		return nil, err
	}
	return &SecretAnswer{chain}, nil
}

// mostPending bounds the memory of challenges to a few megabytes. It forgets
// in two generations, as a client that is fast enough hardly notices.
const mostPending = 1 << 13

func (c *CA) remember(secret []byte, p *pendingAK) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.Attestor.Now(); c.younger == nil || len(c.younger) >= mostPending/2 || now.Sub(c.turned) >= ChallengeLife {
		c.older, c.younger, c.turned = c.younger, map[[sha256.Size]byte]*pendingAK{}, now
	}
	c.younger[c.index(secret)] = p
}

// recall keeps what it finds: a client whose answer was lost asks again.
func (c *CA) recall(secret []byte) *pendingAK {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.younger[c.index(secret)]; p != nil {
		return p
	}
	return c.older[c.index(secret)]
}

// index hides a secret from how long it takes to look it up.
func (c *CA) index(secret []byte) [sha256.Size]byte {
	m := hmac.New(sha256.New, c.Attestor.Secret)
	m.Write([]byte("touchmark tpm secret 1"))
	m.Write(secret)
	return [sha256.Size]byte(m.Sum(nil))
}

// defaultEK is the public area that a key has as an EK by the TCG's default
// templates (EK Credential Profile 2.5, annex B: L-1, L-2, H-3), which is all
// that step's clients use.
func defaultEK(spki []byte) (*tpm2.TPMTPublic, error) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, enroll.BadRequest("ek is not a public key (SubjectPublicKeyInfo in DER): %v", err)
	}
	kind, err := enroll.KeyKind(key)
	if err != nil {
		return nil, enroll.BadRequest("ek: %v", err)
	}
	return templateOf(key, kind)
}
