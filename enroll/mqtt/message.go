package mqtt

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/attest"
)

// What a device may ask for.
const (
	opEnrol    = "enrol"
	opRenew    = "renew"
	opActivate = "activate"

	opTPMChallenge = "tpm-challenge"
	opTPMEnrol     = "tpm-enrol"
)

// request is what a device signs, as JSON.
type request struct {
	Operation string `json:"operation"`
	// CSR is a PKCS#10 in DER; an activation has none.
	CSR []byte `json:"csr,omitempty"`
	// Nonce is the device's name for this request, which the reply repeats.
	Nonce string `json:"nonce"`
	// Reply is the topic that the reply goes to.
	Reply string `json:"reply"`
	// Product is the product's name; it may be left out.
	Product string `json:"product,omitempty"`
	// TPM is what a TPM says (docs/tpm.md).
	TPM *attest.Proof `json:"tpm,omitempty"`
}

// Bounds of a nonce, in characters.
const (
	minNonce = 16
	maxNonce = 128
)

// parseRequest reads what was signed. It judges the form alone; whether the
// reply topic is the signer's is not its business.
func parseRequest(content []byte) (*request, error) {
	var r request
	if err := enroll.DecodeJSON("the signed content is no request (JSON with operation, csr, nonce, reply and, if wanted, product)", content, &r); err != nil {
		return nil, err
	}
	if n := len(r.Nonce); n < minNonce || n > maxNonce {
		return nil, enroll.BadRequest("the nonce is %d characters long: want %d to %d, never used before", n, minNonce, maxNonce)
	}
	for _, c := range []byte(r.Nonce) {
		if c <= ' ' || c > '~' {
			return nil, enroll.BadRequest("the nonce holds a character that is not printable ASCII")
		}
	}
	return &r, nil
}

// reply is what the server signs, as JSON.
type reply struct {
	// Nonce is the request's, and Request the SHA-256, in hex, of the whole
	// message that it came in.
	Nonce   string `json:"nonce"`
	Request string `json:"request"`
	// Status is one of HTTP: 200 done, 202 held, others as EST answers them.
	Status int `json:"status"`
	// Text is for a person.
	Text string `json:"text,omitempty"`
	// RetryAfter is when to ask again, in seconds; 0 if that would not help.
	RetryAfter int64 `json:"retryAfter,omitempty"`
	// Certificate is the official certificate in DER, and CAs the CA
	// certificates, as EST's /cacerts has them.
	Certificate []byte   `json:"certificate,omitempty"`
	CAs         [][]byte `json:"cas,omitempty"`

	Activation *enroll.Activation `json:"activation,omitempty"`

	TPM *attest.Challenge `json:"tpm,omitempty"`
}

// digest names a message.
type digest [sha256.Size]byte

func (d digest) String() string { return hex.EncodeToString(d[:]) }
