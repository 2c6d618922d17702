package device

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
)

// Proof is an answer to a server's challenge, for somebody to pass on.
type Proof struct {
	// Certificate is the serial number of the official certificate, in
	// hexadecimal, Signature the signature by its key.
	Certificate string
	Signature   []byte
}

// ParseNonce reads a challenge's nonce: 32 bytes in base64url without padding.
func ParseNonce(s string) ([]byte, error) {
	nonce, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimSpace(s))
	if err != nil || len(nonce) != 32 {
		return nil, fmt.Errorf("the nonce is not 32 bytes in base64url: %.64q", s)
	}
	return nonce, nil
}

// Prove signs a challenge with the official key: the words "Touchmark proof
// of possession, version 1", a zero byte, the nonce, and the SHA-256 of the
// key's SubjectPublicKeyInfo. The device signs nothing else that begins so,
// and nothing here that it does not make up itself but for 32 bytes.
func (d *Device) Prove(nonce []byte) (*Proof, error) {
	official, err := d.Store.Load(Official)
	if err != nil {
		return nil, fmt.Errorf("official key: %w", err)
	}
	if official.Leaf() == nil {
		return nil, fmt.Errorf("the device has no official certificate yet")
	}
	message, err := proofMessage(official.Key.Public(), nonce)
	if err != nil {
		return nil, err
	}
	signature, err := signMessage(official.Key, message)
	if err != nil {
		return nil, fmt.Errorf("sign the challenge: %w", err)
	}
	return &Proof{Certificate: fmt.Sprintf("%x", official.Leaf().SerialNumber.Bytes()), Signature: signature}, nil
}

func proofMessage(key crypto.PublicKey, nonce []byte) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(spki)
	return bytes.Join([][]byte{[]byte("Touchmark proof of possession, version 1\x00"), nonce, sum[:]}, nil), nil
}

// signMessage signs with the hash that suits the key: none for Ed25519,
// SHA-384 on P-384, SHA-256 otherwise.
func signMessage(key crypto.Signer, message []byte) ([]byte, error) {
	hash := crypto.SHA256
	switch k := key.Public().(type) {
	case ed25519.PublicKey:
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize > 256 {
			hash = crypto.SHA384
		}
	}
	h := hash.New()
	h.Write(message)
	return key.Sign(rand.Reader, h.Sum(nil), hash)
}

// AnswerChallenge answers a challenge by connecting to the server with the
// official certificate, which proves its key in the handshake.
func (d *Device) AnswerChallenge(ctx context.Context, nonce []byte) error {
	official, err := d.Store.Load(Official)
	if err != nil {
		return fmt.Errorf("official key: %w", err)
	}
	return d.Client.AnswerChallenge(ctx, official, nonce)
}

// AnswerChallenge posts a challenge's nonce with a credential. An answer that
// does not count is a *StatusError.
func (c *Client) AnswerChallenge(ctx context.Context, by *Credential, nonce []byte) error {
	const op = "challenge"
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	path := strings.TrimSuffix(c.URL, "/") + "/device/v1/challenges/" + base64.RawURLEncoding.EncodeToString(nonce)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, path, nil)
	if err != nil {
		return err
	}
	response, body, err := c.roundTrip(op, request, by)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		wait, _ := ParseRetryAfter(response.Header.Get("Retry-After"), c.now())
		return &StatusError{Op: op, Status: response.StatusCode, Text: readable(body), RetryAfter: wait}
	}
	return nil
}
