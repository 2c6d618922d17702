package timestamp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"

	"golang.org/x/crypto/cryptobyte"
)

// ErrNoAuthority is the error of a server that answers, but stamps nothing.
var ErrNoAuthority = errors.New("there is no time-stamp authority")

// Client asks an authority over HTTP.
type Client struct {
	URL   string
	HTTP  *http.Client
	Roots *x509.CertPool // what the authority's certificate must lead to
}

// Stamp gets a token over the SHA-256 of the content, with the certificates
// inside. It is verified: nobody has to trust the connection.
func (c *Client) Stamp(ctx context.Context, content []byte) ([]byte, error) {
	sum := sha256.Sum256(content)
	return c.StampDigest(ctx, sum[:])
}

// StampDigest is Stamp for a file that is too long for memory, of which the
// SHA-256 is known.
func (c *Client) StampDigest(ctx context.Context, digest []byte) ([]byte, error) {
	token, err := c.stamp(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("time stamp by %s: %w", c.URL, err)
	}
	return token, nil
}

func (c *Client) stamp(ctx context.Context, digest []byte) ([]byte, error) {
	nonce := newSerial()
	var b cryptobyte.Builder
	b.AddASN1BigInt(nonce)
	query, err := (&Request{Hash: crypto.SHA256, Digest: digest, Nonce: b.BytesOrPanic(), Certificates: true}).Encode()
	if err != nil {
		return nil, err
	}
	response, err := c.send(ctx, query)
	if err != nil {
		return nil, err
	}
	token, err := ReadResponse(response)
	if err != nil {
		return nil, err
	}
	return token, c.check(token, digest, nonce)
}

func (c *Client) check(token, digest []byte, nonce *big.Int) error {
	t, err := Verify(token, c.Roots)
	if err != nil {
		return err
	}
	if t.Nonce == nil || t.Nonce.Cmp(nonce) != 0 {
		return errors.New("the answer is to another query: its nonce differs")
	}
	if t.Hash != crypto.SHA256 || !bytes.Equal(t.Digest, digest) {
		return errors.New("the time stamp is over other bytes")
	}
	return nil
}

func (c *Client) send(ctx context.Context, query []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(query))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", QueryType)
	response, err := c.HTTP.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 2*MaxToken))
	switch {
	case err != nil:
		return nil, err
	case response.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%w: %.200s", ErrNoAuthority, bytes.TrimSpace(body))
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: %.200s", response.Status, bytes.TrimSpace(body))
	}
	return body, nil
}
