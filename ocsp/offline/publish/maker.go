package publish

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/touchmark/touchmark/ocsp/offline"
)

// Schedule says when files are made, and how long they are good.
type Schedule struct {
	// Every is the time from a file to the next; most are deltas. At 0 files
	// are made only when they are wanted.
	Every time.Duration
	// BaseEvery is the time from a base to the next.
	BaseEvery time.Duration
	// Validity is the time from a file's thisUpdate to its nextUpdate.
	Validity time.Duration
	// Lag is how much later than that this node makes a file: differing ones
	// keep nodes from all making the same.
	Lag time.Duration
	// Margin is how much earlier a certificate's notBefore can be than its
	// commit, at most.
	Margin time.Duration
}

// Maker makes files and keeps them. Set the fields before the first call.
type Maker struct {
	Schedule  Schedule
	Directory *Directory
	// Issuers are the CAs as they are at the moment.
	Issuers func() []Issuer
	// Spool is the directory for a temporary file of 18 bytes for each
	// certificate of a CA; "" is the system's.
	Spool string
	// Failed, if set, is told whenever the file of a CA could not be made.
	Failed func(issuer string)
	Log    *slog.Logger
	Now    func() time.Time

	wanted chan wish
	turn   chan struct{}       // one makes at a time
	failed map[int64]time.Time // when the CA's file could not be made, and that was logged
	unread bool                // the files could not be read, and that was logged
}

// wish is a file that somebody wants now.
type wish struct {
	by     string
	issuer string
	kind   offline.Kind
}

// NewMaker makes a maker ready for its first round.
func NewMaker(m Maker) *Maker {
	m.wanted, m.turn, m.failed = make(chan wish, 16), make(chan struct{}, 1), map[int64]time.Time{}
	return &m
}

// Run makes what is due at each tick, and what is wanted, until ctx ends.
func (m *Maker) Run(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			m.Round(ctx)
		case w := <-m.wanted:
			m.fulfil(ctx, w)
		}
	}
}

// Errors of wishes.
var (
	ErrNoIssuer = errors.New("there is no such issuing CA")
	ErrNoKey    = errors.New("the server does not have the issuing CA's key: ask one that has")
	ErrBusy     = errors.New("too many files are wanted already: wait for those")
)

// Want has a file made soon, in the name of who wants it, and returns the
// greatest number of the CA's files before. A delta becomes a base where there
// is no base yet.
func (m *Maker) Want(by, issuer string, kind offline.Kind) (after int64, err error) {
	i, err := m.issuer(issuer)
	if err != nil {
		return 0, err
	}
	after = m.Directory.number(i.ID)
	select {
	case m.wanted <- wish{by, issuer, kind}:
		return after, nil
	default:
		return 0, ErrBusy
	}
}

func (m *Maker) issuer(name string) (Issuer, error) {
	for _, i := range m.Issuers() {
		switch {
		case i.Name != name:
		case i.Signer == nil:
			return Issuer{}, ErrNoKey
		default:
			return i, nil
		}
	}
	return Issuer{}, ErrNoIssuer
}

func (m *Maker) fulfil(ctx context.Context, w wish) {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	err := m.Directory.Refresh(ctx)
	var i Issuer
	if err == nil {
		i, err = m.issuer(w.issuer)
	}
	if err == nil {
		err = m.make(ctx, w.by, i, w.kind)
	}
	if err != nil && ctx.Err() == nil {
		m.count(w.issuer)
		m.Log.ErrorContext(ctx, "the offline status that was wanted could not be made", "issuer", w.issuer, "by", w.by, "error", err)
	}
}

// Round makes the files that are due. What fails is logged, the first of
// several in a row as an error, and tried again in the next round.
func (m *Maker) Round(ctx context.Context) {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	err := m.Directory.Refresh(ctx)
	if err != nil && !m.unread && ctx.Err() == nil {
		m.Log.WarnContext(ctx, "the offline status files could not be read; those that were stay in use, and it is tried again", "error", err)
	}
	if m.unread = err != nil; m.unread {
		return
	}
	for _, i := range m.Issuers() {
		kind, due := m.due(i.ID)
		if i.Signer == nil || !due || m.Now().Sub(m.failed[i.ID]).Abs() < retryAfter {
			continue
		}
		err := m.make(ctx, "server", i, kind)
		if ctx.Err() != nil {
			return
		}
		m.report(ctx, i, err)
	}
}

func (m *Maker) report(ctx context.Context, i Issuer, err error) {
	if err == nil {
		delete(m.failed, i.ID)
		return
	}
	m.count(i.Name)
	if m.failed[i.ID].IsZero() {
		m.Log.ErrorContext(ctx, "the offline status could not be made; it is tried again", "issuer", i.Name, "error", err)
	}
	m.failed[i.ID] = m.Now()
}

func (m *Maker) count(issuer string) {
	if m.Failed != nil {
		m.Failed(issuer)
	}
}

// retryAfter is how long a failed attempt, which may have read all
// certificates, is left alone.
const retryAfter = time.Minute

// due says what is to be made of a CA's files.
func (m *Maker) due(issuer int64) (offline.Kind, bool) {
	base, newest := m.Directory.Base(issuer), m.Directory.newest(issuer)
	switch now := m.Now(); {
	case m.Schedule.Every == 0:
		return 0, false
	case base == nil || m.old(base, now, m.Schedule.BaseEvery+m.Schedule.Lag):
		return offline.Base, true
	case !m.old(newest, now, m.Schedule.Every+m.Schedule.Lag):
		return 0, false
	// By now a base is not much larger than what it would save.
	case newest.Kind == offline.Delta && len(newest.Bytes) > len(base.Bytes)/2:
		return offline.Base, true
	}
	return offline.Delta, true
}

// old reports whether a file was made as long ago, or later than now.
func (m *Maker) old(f *File, now time.Time, every time.Duration) bool {
	age := now.Sub(f.Header.ThisUpdate)
	return age >= every || age < -time.Minute
}

// Check reports files that are late: their next update comes near.
func (m *Maker) Check(context.Context) error {
	for _, i := range m.Issuers() {
		f := m.Directory.newest(i.ID)
		if f != nil && m.Now().After(f.Header.NextUpdate.Add(-(m.Schedule.Validity-m.Schedule.Every)/2)) {
			return fmt.Errorf("the offline status of %s is from %s, and nobody may use it after %s", i.Name, f.Header.ThisUpdate.Format(time.RFC3339), f.Header.NextUpdate.Format(time.RFC3339))
		}
	}
	return nil
}

// make makes a file of a CA now and keeps it, unless another node kept one in
// the meantime.
func (m *Maker) make(ctx context.Context, by string, i Issuer, kind offline.Kind) error {
	now := m.Now().Truncate(time.Second) // as the file says it
	follows := m.Directory.number(i.ID)
	p := offline.Plan{Number: numberAfter(follows, now), ThisUpdate: now, NextUpdate: now.Add(m.Schedule.Validity), CoversUntil: now.Add(-m.Schedule.Margin)}
	base := m.Directory.Base(i.ID)
	if kind == offline.Delta && base != nil {
		var err error
		if p.Base, err = offline.Open(base.Bytes, i.Certificate); err != nil {
			return err
		}
	}
	u, done := replayed(m.Spool, func(ctx context.Context, each func([]byte, bool) error) error {
		return m.Directory.Store.IssuedCertificates(ctx, i.ID, now, each)
	})
	defer done()
	bytes, err := offline.Build(ctx, i.Certificate, i.Signer, p, u)
	if err != nil {
		return err
	}
	return m.keep(ctx, by, i, follows, bytes)
}

// numberAfter is the number of a file that follows another: the time, in
// seconds, so that numbers also grow when an older state of the database was
// restored, and gateways take what is made from then on.
func numberAfter(follows int64, now time.Time) uint64 { return uint64(max(follows+1, now.Unix())) }

func (m *Maker) keep(ctx context.Context, by string, i Issuer, follows int64, bytes []byte) error {
	h, err := offline.ReadHeader(bytes)
	if err != nil {
		return err
	}
	f := Kept{i.ID, h.Kind, int64(h.Number), sha256.Sum256(bytes)}
	kept, err := m.Directory.Store.KeepOfflineFile(ctx, by, fmt.Sprintf("%s: %s %d", i.Name, h.Kind, h.Number), follows, f, bytes)
	if err != nil {
		return err
	}
	if kept {
		m.Log.InfoContext(ctx, "offline status made", "issuer", i.Name, "kind", h.Kind.String(), "number", h.Number, "issued", h.Issued, "not_good", h.NotGood, "bytes", len(bytes))
	}
	return m.Directory.Refresh(ctx)
}
