package vetting

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"time"
)

// Challenge asks a device to prove that it holds its official key. It is
// answered once, before it expires.
type Challenge struct {
	ID       int64     `json:"id"`
	DeviceID int64     `json:"device"`
	Nonce    Nonce     `json:"nonce"`
	By       string    `json:"by,omitempty"` // the operator who asked
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
	// Result is what the answer came to; nil until there is one.
	Result *ProofResult `json:"result,omitempty"`
	// Leaf is the audit log's, once there is an answer.
	Leaf int64 `json:"leaf,omitempty"`
}

// Lifetimes of challenges.
const (
	ChallengeLifetime    = 5 * time.Minute // if nothing else is asked for
	MinChallengeLifetime = 10 * time.Second
	MaxChallengeLifetime = time.Hour
)

// Nonce is what a challenge has signed: 32 random bytes. Its text form is
// unpadded base64url.
type Nonce [32]byte

// ParseNonce reads the text form.
func ParseNonce(s string) (n Nonce, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(n) || n.fill(b).String() != s {
		return Nonce{}, fmt.Errorf("%.64q is no challenge's nonce: want 32 bytes in base64url without padding", s)
	}
	return n.fill(b), nil
}

func (n Nonce) fill(b []byte) Nonce {
	copy(n[:], b)
	return n
}

func (n Nonce) String() string { return base64.RawURLEncoding.EncodeToString(n[:]) }

// MarshalText gives the text form.
func (n Nonce) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads it.
func (n *Nonce) UnmarshalText(b []byte) (err error) {
	*n, err = ParseNonce(string(b))
	return err
}

// proofContext begins everything that is signed as a proof of possession, so
// that no such signature can be taken for one of anything else: DER begins
// with 0x30, a TLS handshake with its message types or with blanks.
const proofContext = "Touchmark proof of possession, version 1\x00"

// ProofMessage is what a device signs to answer a challenge: the context, the
// nonce, and the SHA-256 of its key's SubjectPublicKeyInfo, 105 bytes.
func ProofMessage(n Nonce, key Fingerprint) []byte {
	m := append([]byte(proofContext), n[:]...)
	return append(m, key[:]...)
}

// MaxSignature bounds an answer's signature, in bytes: RSA with 8192 bits.
const MaxSignature = 1024

// checkProof checks a signature over the ProofMessage: ECDSA in ASN.1 with
// SHA-256, SHA-384 on P-384, SHA-512 on P-521; Ed25519; RSA by PKCS #1 v1.5
// with SHA-256.
func checkProof(key crypto.PublicKey, message, signature []byte) bool {
	if len(signature) > MaxSignature {
		return false
	}
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, proofDigest(k, message), signature)
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, signature)
	case *rsa.PublicKey:
		sum := sha256.Sum256(message)
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], signature) == nil
	}
	return false
}

func proofDigest(k *ecdsa.PublicKey, message []byte) []byte {
	switch size := k.Curve.Params().BitSize; {
	case size > 384:
		sum := sha512.Sum512(message)
		return sum[:]
	case size > 256:
		sum := sha512.Sum384(message)
		return sum[:]
	}
	sum := sha256.Sum256(message)
	return sum[:]
}

// ProofOutcome says whether a device proved that it holds its key.
type ProofOutcome string

const (
	Proved      ProofOutcome = "proved"
	ProofFailed ProofOutcome = "failed"
)

// How a challenge was answered.
const (
	BySignature = "signature"
	ByTLS       = "tls" // the handshake proved the key
)

// Reasons why an answer failed.
const (
	ReasonWrongSignature Code = "wrong-signature"
	ReasonOtherDevice    Code = "another-device"
	ReasonOldKey         Code = "superseded-key"
	ReasonRevokedKey     Code = "revoked-key"
)

// ProofResult is what the answer to a challenge came to.
type ProofResult struct {
	Outcome ProofOutcome `json:"outcome"`
	At      time.Time    `json:"at"`
	How     string       `json:"how"`
	// Certificate and Key are those that answered, the device's own or not;
	// empty if no key of the device made the signature.
	Certificate string      `json:"certificate,omitempty"`
	Key         Fingerprint `json:"key,omitzero"`
	Reason      Code        `json:"reason,omitempty"` // why it failed
	Text        string      `json:"text"`
}

// AnswerFacts are what [JudgeAnswer] looks at.
type AnswerFacts struct {
	Now       time.Time
	Challenge *Challenge
	How       string
	Signature []byte // with BySignature
	// Named is the certificate that the answer names, or that was used for
	// TLS; nil if none was named. It may be another device's.
	Named *Certificate
	// Own are the device's certificates, the current one first; of the others
	// some of the newest are enough.
	Own []*Certificate
}

// JudgeAnswer tells whether an answer proves that the device holds its
// current official key. That the challenge was open is seen to by whoever
// keeps it. It is pure.
func JudgeAnswer(f AnswerFacts) (ProofResult, []Evidence) {
	j := &answer{AnswerFacts: f, result: ProofResult{Outcome: ProofFailed, At: f.Now, How: f.How}}
	if by := j.signer(); by == nil {
		j.fail(ReasonWrongSignature, "The signature was made by none of the device's keys, or over something else.")
	} else {
		j.judge(by)
	}
	return j.result, j.evidence
}

type answer struct {
	AnswerFacts
	result   ProofResult
	evidence []Evidence
}

func (j *answer) fail(code Code, format string, args ...any) {
	j.result.Reason, j.result.Text = code, fmt.Sprintf(format, args...)
}

func (j *answer) against(kind EvidenceKind, deviceID int64, by *Certificate, format string, args ...any) {
	j.evidence = append(j.evidence, Evidence{At: j.Now, Kind: kind, DeviceID: deviceID, Text: fmt.Sprintf(format, args...),
		Mark: evidenceMark(kind, fmt.Append(nil, deviceID), []byte(by.Serial))})
}

// signer finds the certificate whose key answered.
func (j *answer) signer() *Certificate {
	candidates := j.Own
	if j.Named != nil {
		candidates = []*Certificate{j.Named}
	}
	for _, c := range candidates {
		if j.How == ByTLS || signedBy(c, j.Challenge.Nonce, j.Signature) {
			return c
		}
	}
	return nil
}

func signedBy(c *Certificate, n Nonce, signature []byte) bool {
	cert, err := x509.ParseCertificate(c.DER)
	return err == nil && checkProof(cert.PublicKey, ProofMessage(n, c.Key), signature)
}

func (j *answer) judge(by *Certificate) {
	j.result.Certificate, j.result.Key = by.Serial, by.Key
	current := (*Certificate)(nil)
	if len(j.Own) > 0 {
		current = j.Own[0]
	}
	switch {
	case by.DeviceID != j.Challenge.DeviceID:
		j.against(EvidenceForeignProof, j.Challenge.DeviceID, by, "Device %d, with the certificate %s, answered a challenge to this device.", by.DeviceID, by.Serial)
		j.against(EvidenceForeignProof, by.DeviceID, by, "It answered a challenge to device %d, with its certificate %s.", j.Challenge.DeviceID, by.Serial)
		j.fail(ReasonOtherDevice, "Another device answered: the unit is not the one that it is said to be.")
	case by.State == CertificateRevoked:
		j.fail(ReasonRevokedKey, "The device answered with the key of a certificate that was revoked.")
	case current != nil && by.Key == current.Key && current.State != CertificateRevoked:
		j.result.Outcome, j.result.Text = Proved, "The device holds its official key."
	default:
		if current != nil && !current.Used.IsZero() {
			j.against(EvidenceSuperseded, j.Challenge.DeviceID, by, "A challenge was answered with the key of the superseded certificate %s, though its successor is in use.", by.Serial)
		}
		j.fail(ReasonOldKey, "The device answered with the key of an earlier certificate: let it renew, then challenge it again. If it has renewed, somebody holds a copy of its earlier key.")
	}
}
