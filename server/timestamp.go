package server

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/timestamp"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/cms"
)

func (t Timestamp) check(bad func(string, ...any)) {
	if _, err := parseOID(t.Policy); err != nil {
		bad("timestamp.policy: %w", err)
	}
	if t.Accuracy < Duration(time.Millisecond) || t.Accuracy > Duration(time.Minute) {
		bad("timestamp.accuracy is %s: want 1ms to 1m", t.Accuracy)
	}
	inRange("timestamp.rate", t.Rate, 0, maxRate, bad)
}

// parseOID reads an OID of the kind that every program reads: arcs of at most
// 28 bits.
func parseOID(text string) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(text, ".") {
		n, err := strconv.ParseUint(arc, 10, 28)
		if err != nil {
			return nil, fmt.Errorf("%q is no object identifier: want numbers with dots between, such as 1.3.6.1.4.1.99999.1", text)
		}
		oid = append(oid, int(n))
	}
	if _, err := asn1.Marshal(oid); err != nil {
		return nil, fmt.Errorf("%q is no object identifier: it begins with 0, 1 or 2 and has at least two numbers", text)
	}
	return oid, nil
}

// timestamper has the certificate that time stamps are signed with, and renews
// it.
type timestamper struct {
	authorities *ca.Authorities
	key         crypto.Signer
	log         interface {
		// NoteTimestamper writes into the log that a CA certified the key that
		// signs time stamps.
		NoteTimestamper(ctx context.Context, issuer string, serial []byte) error
	}
	now func() time.Time

	mu    sync.Mutex
	cert  *x509.Certificate
	chain []*x509.Certificate
	made  time.Time
}

// signatory is the key with a certificate of the present code-signing CA. If
// that cannot issue another one, the one that is there serves on.
func (t *timestamper) signatory(ctx context.Context) (cms.Signatory, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.due() {
		if err := t.renew(ctx); err != nil && (t.cert == nil || t.now().After(t.cert.NotAfter)) {
			return cms.Signatory{}, fmt.Errorf("certify the key that signs time stamps: %w", err)
		}
	}
	return cms.Signatory{Certificate: t.cert, Chain: t.chain, Key: t.key}, nil
}

func (t *timestamper) due() bool {
	return t.cert == nil || t.now().After(t.made.Add(ca.TimestampRenewal)) || !t.chain[0].Equal(t.authorities.PresentCodeSigner())
}

func (t *timestamper) renew(ctx context.Context) error {
	now := t.now()
	cert, chain, err := t.authorities.IssueTimestamper(t.key.Public(), now)
	if err != nil {
		return err
	}
	if err := t.log.NoteTimestamper(ctx, chain[0].Subject.CommonName, cert.SerialNumber.Bytes()); err != nil {
		return fmt.Errorf("write into the log that it was certified: %w", err)
	}
	t.cert, t.chain, t.made = cert, chain, now
	return nil
}

// openTimestamp makes what answers at /tsa. Without a key it says so.
func (s *Server) openTimestamp() error {
	key := s.authorities.Own(ca.TimestampKeyName)
	if key == nil {
		s.timestamp = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "this server has no key for time stamps: its configuration names none (keys: timestamp)", http.StatusNotFound)
		})
		return nil
	}
	c := s.config.Timestamp
	policy, err := parseOID(c.Policy)
	if err != nil {
		return err
	}
	by := &timestamper{authorities: s.authorities, key: key, log: s.store, now: s.env.Now}
	rates := newRates[struct{}](c.Rate)
	s.stamps = &timestamp.Authority{Signatory: by.signatory, Log: s.store, Policy: policy, Accuracy: time.Duration(c.Accuracy), Now: s.env.Now}
	s.timestamp = &timestamp.Handler{
		Authority: s.stamps,
		Take:      func() bool { _, ok := rates.take(struct{}{}); return ok },
		Answered:  s.metrics.timestamped,
		Log:       s.env.Log,
	}
	return nil
}

// timestamped counts what became of a query.
func (m *metrics) timestamped(err error) {
	result, refusal := "granted", (*timestamp.Refusal)(nil)
	switch {
	case errors.As(err, &refusal):
		result = "refused"
	case err != nil:
		result = "error"
	}
	m.timestamps.WithLabelValues(result).Inc()
}
