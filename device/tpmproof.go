package device

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Prover says by a TPM where keys are, in the exchange of docs/tpm.md.
type Prover interface {
	// Identify makes an attestation key for one exchange.
	Identify() (TPMProver, error)
}

// TPMProver is one exchange's side of the TPM.
type TPMProver interface {
	// Message is what says who the TPM is; it goes into both messages.
	Message() TPMIdentity
	// Prove answers the challenge, and says that the key is in the TPM. A key
	// that is not is an error.
	Prove(ch *TPMChallenge, key crypto.Signer) (*TPMProof, error)
}

// TPMIdentity is an endorsement key and an attestation key, in the structures of
// the TPM (docs/tpm.md).
type TPMIdentity struct {
	EK struct {
		Public       []byte   `json:"public"`
		Certificates [][]byte `json:"certificates,omitempty"`
	} `json:"ek"`
	AK struct {
		Public            []byte `json:"public"`
		CreateData        []byte `json:"createData"`
		CreateAttestation []byte `json:"createAttestation"`
		CreateSignature   []byte `json:"createSignature"`
	} `json:"ak"`
}

// TPMChallenge is what the server encrypted to the endorsement key.
type TPMChallenge struct {
	Credential, Secret []byte
	Challenge          string // goes back as it is
	Expires            time.Time
	PCRs               []uint // the registers to quote
}

// TPMProof is the TPM's answer.
type TPMProof struct {
	Answer []byte `json:"answer"`
	Key    struct {
		Public      []byte `json:"public"`
		Attestation []byte `json:"attestation"`
		Signature   []byte `json:"signature"`
	} `json:"key"`
	Quote *TPMQuote `json:"quote,omitempty"`
}

// TPMQuote is what is in the platform's registers.
type TPMQuote struct {
	Attestation []byte          `json:"attestation"`
	Signature   []byte          `json:"signature"`
	PCRs        map[uint][]byte `json:"pcrs"`
}

// tpmFirst and tpmSecond are the two messages; over MQTT CSR and Product stand
// beside them.
type (
	tpmFirst struct {
		Serial  string `json:"serial,omitempty"`
		Product string `json:"product,omitempty"`
		TPMIdentity
	}
	tpmSecond struct {
		tpmFirst
		*TPMProof
		Challenge string `json:"challenge"`
		CSR       []byte `json:"csr,omitempty"`
	}
)

// Bounds of a challenge: no TPM makes more of it, and there are 24 registers.
const (
	maxCredential = 1024
	maxOpaque     = 8192
	registers     = 24
)

func parseTPMChallenge(body []byte) (*TPMChallenge, error) {
	var ch TPMChallenge
	if err := json.Unmarshal(body, &ch); err != nil {
		return nil, err
	}
	switch {
	case len(ch.Credential) == 0 || len(ch.Credential) > maxCredential || len(ch.Secret) == 0 || len(ch.Secret) > maxCredential:
		return nil, fmt.Errorf("a credential of %d and a secret of %d bytes: want 1 to %d", len(ch.Credential), len(ch.Secret), maxCredential)
	case ch.Challenge == "" || len(ch.Challenge) > maxOpaque:
		return nil, fmt.Errorf("a challenge of %d characters: want 1 to %d", len(ch.Challenge), maxOpaque)
	case len(ch.PCRs) > registers:
		return nil, fmt.Errorf("%d registers: there are %d", len(ch.PCRs), registers)
	}
	for _, n := range ch.PCRs {
		if n >= registers {
			return nil, fmt.Errorf("register %d: the last is %d", n, registers-1)
		}
	}
	return &ch, nil
}

// prove asks for a certificate by what the TPM says: a first one, or with the
// official certificate one on another key.
func (d *Device) prove(ctx context.Context, by *Credential, key crypto.Signer, csr []byte) (*x509.Certificate, error) {
	prover, err := d.Prover.Identify()
	if err != nil {
		return nil, err
	}
	first := tpmFirst{Serial: d.Serial, TPMIdentity: prover.Message()}
	ask, err := d.messenger(by, key, &first)
	if err != nil {
		return nil, err
	}
	ch, err := ask.challenge(ctx, first)
	if err != nil {
		return nil, err
	}
	proof, err := prover.Prove(ch, key)
	if err != nil {
		return nil, err
	}
	cert, cas, err := ask.certificate(ctx, tpmSecond{tpmFirst: first, TPMProof: proof, Challenge: ch.Challenge}, csr)
	var stale *StatusError
	if errors.As(err, &stale) && stale.Status == http.StatusUnauthorized {
		stale.RetryAfter = max(stale.RetryAfter, time.Second) // a new challenge helps
	}
	return d.keepCAs(cert, cas, err)
}

// messenger carries the exchange's messages.
type messenger interface {
	challenge(context.Context, tpmFirst) (*TPMChallenge, error)
	certificate(ctx context.Context, m tpmSecond, csr []byte) (*x509.Certificate, []*x509.Certificate, error)
}

// messenger chooses how messages go. Over MQTT the key to be certified signs
// them, with a certificate of its own.
func (d *Device) messenger(by *Credential, key crypto.Signer, first *tpmFirst) (messenger, error) {
	if d.MQTT == nil {
		first.Product = d.Client.Label
		return httpProof{d.Client, by}, nil
	}
	cert, err := selfSigned(key, d.Serial, d.now())
	if err != nil {
		return nil, err
	}
	return mqttProof{d.MQTT, &Credential{Key: key, Chain: []*x509.Certificate{cert}}}, nil
}

const opChallenge, opProve = "tpm-challenge", "tpm-enrol"

// httpProof carries the messages over HTTP, the second with an official
// certificate if there is one.
type httpProof struct {
	client *Client
	by     *Credential
}

func (p httpProof) challenge(ctx context.Context, m tpmFirst) (*TPMChallenge, error) {
	body, err := p.client.post(ctx, opChallenge, "/device/v1/tpm/challenge", m, nil)
	if err != nil {
		return nil, err
	}
	ch, err := parseTPMChallenge(body)
	if err != nil {
		return nil, &ReplyError{opChallenge, err}
	}
	return ch, nil
}

func (p httpProof) certificate(ctx context.Context, m tpmSecond, csr []byte) (*x509.Certificate, []*x509.Certificate, error) {
	m.CSR = csr
	body, err := p.client.post(ctx, opProve, "/device/v1/tpm/enrol", m, p.by)
	if err != nil {
		return nil, nil, err
	}
	var answer struct {
		Certificate []byte
		CAs         [][]byte
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, nil, &ReplyError{opProve, err}
	}
	return granted(opProve, csr, answer.Certificate, answer.CAs)
}

// post sends a message in JSON and returns the answer's body.
func (c *Client) post(ctx context.Context, op, path string, message any, by *Credential) ([]byte, error) {
	out, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+path, bytes.NewReader(out))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, body, err := c.roundTrip(op, request, by)
	if err != nil {
		return nil, err
	}
	wait, ok := ParseRetryAfter(response.Header.Get("Retry-After"), c.now())
	switch response.StatusCode {
	case http.StatusOK:
		return body, nil
	case http.StatusAccepted:
		if !ok {
			wait = defaultRetry
		}
		return nil, &PendingError{Op: op, RetryAfter: wait, Text: said(body)}
	}
	return nil, &StatusError{Op: op, Status: response.StatusCode, Text: said(body), RetryAfter: wait}
}

// said is what an answer tells a person: the detail of a problem (RFC 9457), or
// the text of one that is held.
func said(body []byte) string {
	var problem struct{ Detail, Text string }
	if json.Unmarshal(body, &problem) != nil || problem.Detail+problem.Text == "" {
		return readable(body)
	}
	return readable([]byte(problem.Detail + problem.Text))
}

// mqttProof carries the messages over MQTT.
type mqttProof struct {
	client *MQTTClient
	by     *Credential
}

func (p mqttProof) challenge(ctx context.Context, m tpmFirst) (*TPMChallenge, error) {
	answer, err := p.ask(ctx, opChallenge, m, nil)
	if err != nil {
		return nil, err
	}
	ch, err := parseTPMChallenge(answer.TPM)
	if err != nil {
		return nil, &ReplyError{opChallenge, err}
	}
	return ch, nil
}

func (p mqttProof) certificate(ctx context.Context, m tpmSecond, csr []byte) (*x509.Certificate, []*x509.Certificate, error) {
	answer, err := p.ask(ctx, opProve, m, csr)
	if err != nil {
		return nil, nil, err
	}
	return granted(opProve, csr, answer.Certificate, answer.CAs)
}

func (p mqttProof) ask(ctx context.Context, op string, message any, csr []byte) (*mqttReply, error) {
	tpm, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	return p.client.ask(ctx, mqttRequest{Operation: op, CSR: csr, TPM: tpm}, p.by)
}
