package device

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// RenewalInfo is when the server wants a certificate renewed (RFC 9773 §4.2).
type RenewalInfo struct {
	Start, End time.Time
	// RetryAfter is when to ask again.
	RetryAfter time.Duration
}

// Bounds of what a server may ask for with Retry-After (RFC 9773 §4.3.3).
const (
	soonestCheck = time.Minute
	latestCheck  = 24 * time.Hour
)

// RenewalInfo asks when a certificate should be renewed. Anybody may ask, so
// no credential is shown.
func (c *Client) RenewalInfo(ctx context.Context, cert *x509.Certificate) (*RenewalInfo, error) {
	const op = "renewal-info"
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	path := strings.TrimSuffix(c.URL, "/") + "/device/v1/renewal-info/" + renewalName(cert)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	response, body, err := c.roundTrip(op, request, nil)
	if err != nil {
		return nil, err
	}
	wait, _ := ParseRetryAfter(response.Header.Get("Retry-After"), c.now())
	if response.StatusCode != http.StatusOK {
		return nil, &StatusError{Op: op, Status: response.StatusCode, Text: readable(body), RetryAfter: wait}
	}
	return parseRenewalInfo(body, wait)
}

func parseRenewalInfo(body []byte, wait time.Duration) (*RenewalInfo, error) {
	var answer struct {
		SuggestedWindow struct{ Start, End time.Time }
	}
	err := json.Unmarshal(body, &answer)
	w := answer.SuggestedWindow
	switch {
	case err != nil:
	case w.Start.IsZero() || w.End.IsZero():
		err = errors.New("it names no suggestedWindow")
	case w.End.Before(w.Start):
		err = fmt.Errorf("its window ends at %s, before it begins at %s", w.End, w.Start)
	}
	if err != nil {
		return nil, &ReplyError{"renewal-info", err}
	}
	return &RenewalInfo{w.Start, w.End, min(max(wait, soonestCheck), latestCheck)}, nil
}

// renewalName names a certificate as RFC 9773 §4.1 does: its authority key
// identifier and the DER of its serial number.
func renewalName(cert *x509.Certificate) string {
	number := cert.SerialNumber.Bytes()
	if len(number) == 0 || number[0] >= 0x80 {
		number = append([]byte{0}, number...)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode(cert.AuthorityKeyId) + "." + encode(number)
}

// moment is a time in the window, at a share of it that the device keeps, so
// that asking again does not move it.
func (r *RenewalInfo) moment(share float64) time.Time {
	return r.Start.Add(time.Duration(share * float64(r.End.Sub(r.Start))))
}
