package ocsp

import (
	"bytes"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

// Config is what a Responder works with. All fields are needed but Forged and
// Shared.
type Config struct {
	// Revoked are the certificates that do not count; Known is the time up to
	// which it knows all changes, as Follower.Known has it.
	Revoked *Set
	Known   func() (at time.Time, ok bool)
	// MaxStale is how long answers are given after changes could last be
	// read. Then clients are told to try later.
	MaxStale time.Duration
	// Validity is the time between an answer's thisUpdate and nextUpdate.
	Validity time.Duration
	// CacheBytes bounds the memory of signed answers.
	CacheBytes int
	// Forged learns of forged certificates; nil is nobody.
	Forged Forged
	// Shared are the answers of all nodes; nil is none. With them an answer is
	// given within a window of half of Validity that all nodes have in common,
	// and otherwise for half of Validity.
	Shared Shared
	Log    *slog.Logger
	Now    func() time.Time
}

// Forged learns of questions about certificates that name a CA of ours, which
// never issued them.
type Forged interface {
	// Forged must return at once, and may forget: anybody can ask about any
	// number of serial numbers. It is called by many goroutines.
	Forged(f Forgery)
}

// Forgery is a serial number that a CA of ours never issued.
type Forgery struct {
	Issuer int64  // as Change.Issuer
	Serial string // the content of its INTEGER, big-endian, two's complement; at most MaxForgedSerial bytes
	At     time.Time
}

// MaxForgedSerial is the longest serial number that a Forged is told of: what
// is longer cannot stand in a certificate (RFC 5280 §4.1.2.2).
const MaxForgedSerial = 20

// Responder answers OCSP requests (RFC 6960) from memory. It signs when it is
// asked, and keeps what it signed: an answer is given again only as long as
// the certificate's status is the one it tells.
type Responder struct {
	Config
	Counts  Counts
	issuers atomic.Pointer[issuers]
	cache   cache
	failing atomic.Bool // the last signature failed, and that was logged
}

// Counts is what a responder did since it was made.
type Counts struct {
	// By what was said of a certificate.
	Good, Revoked, Forged, Unknown atomic.Int64
	// Requests that were answered with an error.
	Malformed, TryLater atomic.Int64
	// Answers by where they came from; Shared were signed by another node.
	Cached, Shared, Signed atomic.Int64
}

// New makes a responder that tells clients to try later until it has issuers.
func New(c Config) *Responder { return &Responder{Config: c, cache: newCache(c.CacheBytes)} }

// SetIssuers replaces the CAs that the responder tells about, of which the
// first signs answers that concern none of them.
func (r *Responder) SetIssuers(list []Issuer) error {
	t, err := newIssuers(list)
	if err != nil {
		return err
	}
	r.issuers.Store(t)
	return nil
}

// CacheSize is how many signed answers are kept, and about how many bytes they
// take.
func (r *Responder) CacheSize() (answers, bytes int) { return r.cache.size() }

// respond answers a request in DER, and keeps nothing of it.
func (r *Responder) respond(der []byte) (*answer, errorStatus) {
	t, now := r.issuers.Load(), r.Now()
	known, fresh := r.Known()
	fresh = fresh && t != nil && now.Sub(known) <= r.MaxStale
	if id, ok := usual(der); ok && fresh {
		if a := r.kept(t, &id, now); a != nil {
			return a, 0
		}
	}
	q, err := ParseRequest(bytes.Clone(der))
	switch {
	case err != nil:
		return nil, malformedRequest
	case !fresh:
		return nil, tryLater
	case now.Before(known): // the clock was set back
		known = now
	}
	j := r.jointly(t, q, now)
	if a := j.get(); a != nil {
		r.cache.put(j.cached, a)
		return a, 0
	}
	a, status := r.make(t, q, known, now)
	if status == 0 && a.cacheable && len(q.CertIDs) == 1 {
		if key, ok := cacheKeyOf(t, &q.CertIDs[0]); ok {
			j.bound(a)
			r.cache.put(key, a)
			j.put(a)
		}
	}
	return a, status
}

// kept gives the answer about a certificate that was signed before, if it is
// still true.
func (r *Responder) kept(t *issuers, id *CertID, now time.Time) *answer {
	key, ok := cacheKeyOf(t, id)
	if !ok {
		return nil
	}
	a := r.cache.get(key)
	if a == nil || a.state != r.Revoked.state(key.serial) || !a.serves(now) {
		return nil
	}
	r.Counts.Cached.Add(1)
	return a
}

// cacheKeyOf gives what the answer about a certificate is kept under; ok is false
// for those that no issuer of ours can have issued.
func cacheKeyOf(t *issuers, id *CertID) (k cacheKey, ok bool) {
	issuer, form := t.named(id)
	if issuer == nil {
		return k, false
	}
	k.issuer, k.form = issuer.ID, form
	k.serial, ok = id.serial()
	return k, ok
}

// make signs an answer. It is about the certificates of one CA, the first of
// ours that the request names, because that CA's delegate cannot speak for
// another (RFC 6960 §4.2.2.2): all others are unknown.
func (r *Responder) make(t *issuers, q *Request, known, now time.Time) (*answer, errorStatus) {
	b := &basic{nonce: q.Nonce, singles: make([]singleResponse, len(q.CertIDs))}
	a := &answer{cacheable: q.Nonce == nil}
	var issuer *Issuer
	for i := range q.CertIDs {
		id := &q.CertIDs[i]
		named, _ := t.named(id)
		if issuer == nil {
			issuer = named
		}
		if named == nil || named != issuer {
			b.singles[i] = singleResponse{certID: id.Raw, status: statusUnknown}
			a.tally.unknown++
			a.cacheable = false
			continue
		}
		b.singles[i] = r.tell(issuer, id, a, b, now)
	}
	if issuer == nil {
		issuer = t.first
	}
	return a, r.sign(issuer, b, a, known, now)
}

// tell finds out about a certificate of an issuer of ours.
func (r *Responder) tell(issuer *Issuer, id *CertID, a *answer, b *basic, now time.Time) singleResponse {
	s := singleResponse{certID: id.Raw}
	serial, ok := id.serial()
	if !ok || !issuer.Genuine(serial) {
		// RFC 6960 §2.2: never issued.
		s.status, s.Revocation = statusRevoked, Revocation{Reason: CertificateHold, At: time.Unix(0, 0)}
		b.extended, a.cacheable = true, false
		a.tally.forged++
		if r.Forged != nil && len(id.Serial) <= MaxForgedSerial {
			r.Forged.Forged(Forgery{Issuer: issuer.ID, Serial: string(id.Serial), At: now})
		}
		return s
	}
	if a.state = r.Revoked.state(serial); a.state == good {
		a.tally.good++
		return s
	}
	a.tally.revoked++
	s.status, s.Revocation = statusRevoked, a.state.revocation()
	return s
}

// sign signs an answer, but never one that clients could not accept.
func (r *Responder) sign(issuer *Issuer, b *basic, a *answer, known, now time.Time) errorStatus {
	c, err := issuer.Credential()
	if err == nil && (now.Before(c.NotBefore) || now.After(c.NotAfter)) {
		err = errors.New("the responder's certificate is not valid now: is the clock right?")
	}
	if err != nil {
		r.noteFailure(issuer, "answers cannot be signed", err)
		return tryLater
	}
	b.produced, b.this = now.Truncate(time.Second), known.Truncate(time.Second)
	b.next = b.this.Add(r.Validity)
	if c.NotAfter.Before(b.next) {
		b.next = c.NotAfter.Truncate(time.Second)
	}
	if !b.next.After(now) {
		return tryLater
	}
	der, err := b.sign(c)
	if err != nil {
		// The key may be in an HSM that is away: RFC 6960 §2.3, unable to answer
		// for now.
		r.noteFailure(issuer, "an answer was not signed", err)
		return tryLater
	}
	r.Counts.Signed.Add(1)
	if r.failing.Load() {
		r.failing.Store(false)
	}
	a.complete(der, b.this, b.next)
	return 0
}

// noteFailure logs the first of several failures in a row.
func (r *Responder) noteFailure(issuer *Issuer, what string, err error) {
	if !r.failing.Swap(true) {
		r.Log.Error(what, "issuer", issuer.Certificate.Subject.String(), "error", err)
	}
}

// note counts what was told.
func (c *Counts) note(a *answer) {
	for _, n := range []struct {
		counter *atomic.Int64
		n       int64
	}{{&c.Good, a.tally.good}, {&c.Revoked, a.tally.revoked}, {&c.Forged, a.tally.forged}, {&c.Unknown, a.tally.unknown}} {
		if n.n != 0 {
			n.counter.Add(n.n)
		}
	}
}

func (c *Counts) noteError(e errorStatus) {
	if e == malformedRequest {
		c.Malformed.Add(1)
	} else {
		c.TryLater.Add(1)
	}
}
