// Package enroll takes a device's request from the claim that a wire adapter
// made of it, through vetting and issuance, to one durable commit:
//
//	Claim → vetting.Judge(facts) → Verdict → Issuer → certificate → Ledger.Commit → Outcome
//
// It knows no wire format; enroll/est and its siblings turn bytes into a
// [Request] and an [Outcome] into bytes. It knows no database; internal/store
// implements [Ledger].
package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// Request asks for a certificate on a key: the CSR's, or one that the server
// makes, if the claim's ServerKey says so.
type Request struct {
	Claim vetting.Claim
	// CSR is the PKCS#10 whose signature was checked by [ParseCSR]; where the
	// server makes the key, what [ParseServerKeyCSR] read.
	CSR *x509.CertificateRequest
	// Presented is the official certificate of a renewal, whose subject and
	// subjectAltName the CSR must repeat (RFC 7030 §4.2.2); nil otherwise.
	Presented *x509.Certificate
}

// Outcome is the answer to a request.
type Outcome struct {
	Verdict vetting.Outcome
	Reasons []vetting.Reason
	// Registration is the ID under which the verdict is kept; 0 for a
	// repetition that changed nothing.
	Registration int64
	// Certificate is the DER of the answer; nil unless admitted.
	Certificate []byte
	// Key is the private key that the server made; nil unless it was admitted
	// and asked for. It exists nowhere else, and cannot be had again.
	Key *ServerKey
	// RetryAfter is when a held request should come again, or one that was
	// refused because it came too early; 0 if coming again is of no use.
	RetryAfter time.Duration
}

// Text is the verdict in words for a person.
func (o Outcome) Text() string {
	r := vetting.Registration{Reasons: o.Reasons}
	return r.Text()
}

// Issued is a certificate that was signed but not committed yet. It must not
// leave the process before its commit.
type Issued struct {
	Serial   []byte // 17 bytes, big-endian, as in the certificate
	DER      []byte
	NotAfter time.Time
	Issuer   int64 // the ID of the issuing CA, 0 for the device CA
}

// Issuer makes certificates. Issue refuses an admission that Judge did not
// grant, a public key that is not the admission's, and a CSR that asks for
// names or extensions that the product's profile does not give; the last two
// as a *RequestError.
type Issuer interface {
	Issue(ctx context.Context, a vetting.Admission, csr *x509.CertificateRequest) (Issued, error)
}

// Commit is what one request leaves behind.
type Commit struct {
	Facts   vetting.Facts
	Verdict vetting.Verdict
	Issued  *Issued // nil unless a new certificate was signed
}

// Committed says what a commit wrote.
type Committed struct {
	Registration int64
}

// Ledger keeps what enrolment needs and decides.
type Ledger interface {
	// Facts gathers what is known about a claim, from committed data only.
	Facts(ctx context.Context, c vetting.Claim) (vetting.Facts, error)
	// Commit writes the registration, and for an admission the certificate,
	// the device's change and the quota's, the evidence and the audit leaf,
	// in one durable transaction. When it returns nil all of it is on disk.
	// It returns ErrStale, and writes nothing, if what the verdict rested on
	// (the device's revision, the order's revision, state and free quota,
	// the key's being free, the record's being uncontested, the pending
	// registration) no longer holds, and ErrRepeated, writing nothing, if the
	// claim's Message led to a commit before. Any
	// other error means that the outcome is unknown: the caller must not
	// answer with the certificate.
	Commit(ctx context.Context, c Commit) (Committed, error)
	// Activate notes the first authenticated use of an official certificate,
	// by serial number in hex. Using it again changes nothing.
	Activate(ctx context.Context, serial string) error
	// OnSite tells whether a claim came from the networks of its record's site.
	OnSite(ctx context.Context, f *vetting.Facts) (bool, error)
	// Count tells what happened before, as far as it is looked at.
	Count(ctx context.Context, f *vetting.Facts, looks vetting.Looks) (vetting.Counters, error)
}

// Rules compiles the rules of products.
type Rules interface {
	// Of returns the product's rules, nil if it has none, and which counters
	// and other costly facts they look at.
	Of(p *vetting.Product) (set vetting.RuleSet, looks vetting.Looks, err error)
}

// ErrRepeated says that a signed message came again that had an effect before.
var ErrRepeated = errors.New("the message was worked on before")

// ErrStale says that a verdict's basis changed before the commit.
var ErrStale = errors.New("the facts changed before the commit")

// RequestError says that a request is malformed or asks for what it cannot
// get; the client is at fault, and nothing was recorded.
type RequestError struct{ Reason string }

func (e *RequestError) Error() string { return e.Reason }

// BadRequest makes a RequestError.
func BadRequest(format string, args ...any) error {
	return &RequestError{Reason: fmt.Sprintf(format, args...)}
}

// Enroller runs the pipeline. Its fields are set once, before use.
type Enroller struct {
	Ledger Ledger
	Issuer Issuer
	Rules  Rules
	Log    *slog.Logger
	// Now is the clock.
	Now func() time.Time
	// RetryAfter is what a held device is told to wait.
	RetryAfter time.Duration
}

// attempts bounds how often a stale verdict is made anew. Every attempt but
// one lost against a commit that went through, so the system makes progress.
const attempts = 8

// Enroll judges one request and carries the verdict out. An error means that
// no verdict was reached; a *RequestError that the request cannot get one.
func (e *Enroller) Enroll(ctx context.Context, r Request) (Outcome, error) {
	for range attempts {
		out, err := e.try(ctx, r)
		if !errors.Is(err, ErrStale) {
			return out, err
		}
	}
	return Outcome{}, fmt.Errorf("enrol key %s: %w %d times in a row", r.Claim.Key, ErrStale, attempts)
}

func (e *Enroller) try(ctx context.Context, r Request) (Outcome, error) {
	facts, err := e.Ledger.Facts(ctx, r.Claim)
	if err != nil {
		return Outcome{}, fmt.Errorf("gather facts: %w", err)
	}
	facts.Now = e.Now()
	if r.CSR, err = renewalNames(&facts, r); err != nil {
		return Outcome{}, err
	}
	if err := e.addRules(ctx, &facts); err != nil {
		return Outcome{}, err
	}
	verdict := vetting.Judge(facts)
	var key *ServerKey
	if _, admitted := verdict.Admission(); admitted && r.Claim.ServerKey != "" {
		// Only now is a key worth making. The verdict is then about that key;
		// that it is nobody else's is seen to by the commit.
		if key, r.CSR, err = makeKey(facts.Profile(), r.CSR); err != nil {
			return Outcome{}, err
		}
		facts.Claim.Key = vetting.KeyFingerprint(r.CSR.RawSubjectPublicKeyInfo)
		verdict = vetting.Judge(facts)
	}
	out := Outcome{Verdict: verdict.Outcome, Reasons: verdict.Reasons}
	commit := Commit{Facts: facts, Verdict: verdict}

	admission, admitted := verdict.Admission()
	switch {
	case admitted && admission.Repeat() != nil:
		out.Certificate = admission.Repeat().DER
		return out, nil // asking twice is asking once: nothing changes
	case admitted:
		issued, err := e.Issuer.Issue(ctx, admission, r.CSR)
		if err != nil {
			return Outcome{}, err
		}
		commit.Issued = &issued
		out.Certificate, out.Key = issued.DER, key
	case verdict.Outcome == vetting.Held:
		out.RetryAfter = e.RetryAfter
	case !verdict.RetryAt.IsZero():
		out.RetryAfter = verdict.RetryAt.Sub(facts.Now)
	}
	done, err := e.Ledger.Commit(ctx, commit)
	if err != nil {
		return Outcome{}, err
	}
	out.Registration = done.Registration
	e.log(ctx, facts.Claim, out)
	return out, nil
}

// addRules adds the product's rules and what they count to the facts of a
// first enrolment.
func (e *Enroller) addRules(ctx context.Context, f *vetting.Facts) error {
	if f.Record == nil || f.Claim.Auth.Proof == vetting.ProofOfficial {
		return nil
	}
	var looks vetting.Looks
	var err error
	if len(f.Product.Rules) > 0 {
		if f.Rules, looks, err = e.Rules.Of(f.Product); err != nil {
			return fmt.Errorf("product %s: %w", f.Product.Name, err)
		}
	}
	if f.Order.Limits.Any() { // the commit is as strict
		looks.Pace, looks.Now = true, true
	}
	if looks.Site && !f.OnSite {
		if f.OnSite, err = e.Ledger.OnSite(ctx, f); err != nil {
			return fmt.Errorf("look at the site's networks: %w", err)
		}
	}
	if looks.Site = false; looks == (vetting.Looks{}) {
		return nil
	}
	if f.Counters, err = e.Ledger.Count(ctx, f, looks); err != nil {
		return fmt.Errorf("count what happened before: %w", err)
	}
	return nil
}

func (e *Enroller) log(ctx context.Context, c vetting.Claim, out Outcome) {
	attrs := []slog.Attr{
		slog.String("verdict", string(out.Verdict)),
		slog.Int64("registration", out.Registration),
		slog.String("key", c.Key.String()),
		slog.String("remote", c.Remote),
	}
	level := slog.LevelDebug
	if out.Verdict != vetting.Admitted {
		level = slog.LevelInfo
		attrs = append(attrs, slog.String("reason", out.Text()))
	}
	e.Log.LogAttrs(ctx, level, "registration", attrs...)
}
