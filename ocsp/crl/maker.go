package crl

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/touchmark/touchmark/ocsp"
)

// Schedule says which lists are made, and when.
type Schedule struct {
	// Interval is how often each list is made anew, Validity how long after
	// that it counts. DeltaInterval and DeltaValidity are those of deltas; 0
	// for no deltas.
	Interval, Validity           time.Duration
	DeltaInterval, DeltaValidity time.Duration
	// Delay is how long after a certificate's status changed the delta and
	// the list of its partition are made anew at the latest; so neither is
	// made more often. 0 leaves it to the intervals.
	Delay time.Duration
	// Full has lists made of all certificates that a CA revoked.
	Full bool
	// Partitions is into how many the certificates of each CA are divided. 0
	// makes no lists of partitions.
	Partitions int
	// URLs are the base URLs that certificates carry, the one in force first.
	// Without any there are neither partitions nor deltas: nobody could name
	// them.
	URLs []string
}

// Wants reports whether a list that is kept is also to be made anew.
func (s Schedule) Wants(scope Scope) bool {
	switch {
	case scope == Full:
		return s.Full
	case scope == Delta:
		return s.Full && s.DeltaInterval > 0 && len(s.URLs) > 0
	}
	return len(s.URLs) > 0
}

// Observer is told of what the maker does.
type Observer interface {
	// Made is told how long a list took that was kept.
	Made(issuer string, s Scope, took time.Duration)
	// Failed is told when lists of a CA could not be made.
	Failed(issuer string)
}

// Maker makes lists and keeps them. Set the fields before the first call.
type Maker struct {
	Schedule  Schedule
	Revoked   *Revoked
	Source    ocsp.Source
	Directory *Directory
	// Issuers are the CAs as they are at the moment.
	Issuers func() []Issuer
	// Known is the time of which Revoked knows all changes; ok is false while
	// it has yet to be filled.
	Known    func() (at time.Time, ok bool)
	Observer Observer
	Log      *slog.Logger

	turn    chan struct{}
	failing map[int64]bool // CAs of which a failure was logged
	tidied  time.Time
	forgot  time.Time
}

// NewMaker makes a maker ready for its first round.
func NewMaker(m Maker) *Maker {
	m.turn, m.failing = make(chan struct{}, 1), map[int64]bool{}
	return &m
}

// ErrNotReady is the error of a maker that does not know yet what is revoked.
var ErrNotReady = errors.New("the server has yet to read which certificates are revoked: try again in a moment")

// Round makes the lists that are due. What fails is logged, the first of
// several in a row as an error, and tried again in the next round.
func (m *Maker) Round(ctx context.Context) {
	release, err := m.begin(ctx)
	if err != nil {
		if !errors.Is(err, ErrNotReady) && ctx.Err() == nil {
			m.Log.WarnContext(ctx, "no revocation lists can be made; it is tried again", "error", err)
		}
		return
	}
	defer release()
	known, _ := m.Known()
	for _, i := range m.Issuers() {
		if i.Signer == nil || known.After(i.Certificate.NotAfter) {
			continue
		}
		err := m.due(ctx, i)
		if ctx.Err() != nil {
			return
		}
		m.report(ctx, i, err)
	}
	if known.Sub(m.tidied) > tidyEvery {
		m.tidied = known
		m.tidy(ctx)
	}
	if known.Sub(m.forgot) > forgetEvery {
		m.forgot = known
		m.forget(known)
	}
}

// forgetEvery is how often certificates are looked for that are on no list
// any more.
const forgetEvery = time.Hour

// tidyEvery is how often replaced lists are looked for.
const tidyEvery = time.Minute

func (m *Maker) tidy(ctx context.Context) {
	for more := true; more && ctx.Err() == nil; {
		var err error
		if more, err = m.Directory.Store.TidyCRLs(ctx); err != nil {
			m.Log.WarnContext(ctx, "replaced revocation lists could not be deleted; it is tried again", "error", err)
			return
		}
	}
}

func (m *Maker) report(ctx context.Context, i Issuer, err error) {
	switch {
	case err != nil:
		m.Observer.Failed(i.Name)
		if !m.failing[i.ID] {
			m.Log.ErrorContext(ctx, "a revocation list could not be made; it is tried again", "issuer", i.Name, "error", err)
		}
	case m.failing[i.ID]:
		m.Log.InfoContext(ctx, "revocation lists are made again", "issuer", i.Name)
	}
	m.failing[i.ID] = err != nil
}

// begin waits for its turn and reads what other servers made.
func (m *Maker) begin(ctx context.Context) (release func(), err error) {
	if _, ok := m.Known(); !ok {
		return nil, ErrNotReady
	}
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	release = func() { <-m.turn }
	if err := m.Directory.Refresh(ctx); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// Make makes all lists of a CA now, in the name of who wants it.
func (m *Maker) Make(ctx context.Context, by string, i Issuer) error {
	release, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer release()
	r, err := m.run(i, by)
	if err != nil {
		return err
	}
	if m.Schedule.Full {
		if err := r.full(ctx); err != nil {
			return err
		}
	}
	return r.partitions(ctx, func(*Kept, int64) bool { return true })
}

// due makes what is due of a CA.
func (m *Maker) due(ctx context.Context, i Issuer) error {
	r, err := m.run(i, "server")
	if err != nil {
		return err
	}
	if m.Schedule.Full {
		err = r.dueFull(ctx)
	}
	return errors.Join(err, r.partitions(ctx, func(k *Kept, changed int64) bool {
		return r.old(k, m.Schedule.Interval) || r.overtaken(k, changed)
	}))
}

// run is the making of one CA's lists.
type run struct {
	*Maker
	issuer Issuer
	by     string
	at     time.Time // thisUpdate
}

func (m *Maker) run(i Issuer, by string) (*run, error) {
	known, _ := m.Known()
	unable := func(format string, args ...any) (*run, error) {
		return nil, &UnableError{Issuer: i.Name, Reason: fmt.Sprintf(format, args...)}
	}
	switch cert := i.Certificate; {
	case i.Signer == nil:
		return unable("its key is not at hand here")
	case cert.KeyUsage&x509.KeyUsageCRLSign == 0:
		return unable("its certificate does not allow it to: keyUsage lacks cRLSign")
	case known.After(cert.NotAfter):
		return unable("its certificate ran out at %s", cert.NotAfter.Format(time.RFC3339))
	}
	return &run{Maker: m, issuer: i, by: by, at: known.UTC().Truncate(time.Second)}, nil
}

// UnableError says why a CA can sign no list here.
type UnableError struct{ Issuer, Reason string }

func (e *UnableError) Error() string {
	return fmt.Sprintf("the CA %s cannot sign revocation lists: %s", e.Issuer, e.Reason)
}

// old reports whether a list, nil for none, is to be made anew by its age.
func (r *run) old(k *Kept, interval time.Duration) bool {
	return k == nil || !r.at.Before(k.ThisUpdate.Add(interval))
}

// overtaken reports whether a list is to be made anew because a certificate on
// it changed.
func (r *run) overtaken(k *Kept, changed int64) bool {
	return r.Schedule.Delay > 0 && changed > k.Seq && r.old(k, r.Schedule.Delay)
}

// deltas reports whether full lists have deltas.
func (r *run) deltas() bool { return r.Schedule.Wants(Delta) }

func (r *run) dueFull(ctx context.Context) error {
	full, delta := r.Directory.Find(r.issuer.ID, Full), r.Directory.Find(r.issuer.ID, Delta)
	switch {
	case r.old(full, r.Schedule.Interval), r.deltas() && delta == nil:
		return r.full(ctx)
	case !r.deltas():
		return nil
	case r.old(delta, r.Schedule.DeltaInterval), r.overtaken(delta, r.Revoked.changed(r.issuer.ID, 1)[0]):
		return r.delta(ctx, full, delta)
	}
	return nil
}

// full makes the full list, and with it the delta that adds nothing to it
// (RFC 5280 §5.2.3: of the same number).
func (r *run) full(ctx context.Context) error {
	began := time.Now()
	full, delta := r.Directory.Find(r.issuer.ID, Full), r.Directory.Find(r.issuer.ID, Delta)
	made := r.next(Full, r.Schedule.Validity, full, delta)
	k := &made.Kept
	shot := r.Revoked.snapshot(k.Issuer, k.Scope, k.Since)
	if k.Seq > shot.seq {
		return nil // another server knows more
	}
	k.Seq = shot.seq
	l := r.list(k)
	l.entries = shot.entries()
	if r.deltas() {
		l.freshest = r.urls(Delta)
	}
	if err := r.sign(made, l); err != nil {
		return err
	}
	lists := []*Made{made}
	if r.deltas() {
		d := *made
		d.Scope, d.Base, d.NextUpdate = Delta, d.Number, d.ThisUpdate.Add(r.Schedule.DeltaValidity)
		empty := r.list(&d.Kept)
		empty.entries = slices.Values([]*entry{})
		if err := r.sign(&d, empty); err != nil {
			return err
		}
		lists = append(lists, &d)
	}
	return r.keep(ctx, lists, began)
}

// delta makes the list of what changed since the full one. It is read from
// the source: changes since then are few, and nobody has to remember them.
func (r *run) delta(ctx context.Context, full, delta *Kept) error {
	began := time.Now()
	entries, last, err := r.since(ctx, full)
	if err != nil {
		return err
	}
	made := r.next(Delta, r.Schedule.DeltaValidity, delta, full)
	k := &made.Kept
	if k.Seq > last {
		return nil // a database that lags behind was asked
	}
	k.Base, k.Seq, k.Since = full.Number, last, full.Since
	l := r.list(k)
	l.entries = slices.Values(entries)
	if err := r.sign(made, l); err != nil {
		return err
	}
	return r.keep(ctx, []*Made{made}, began)
}

// since reads what became of the certificates whose status changed after a
// full list, and the newest change.
func (r *run) since(ctx context.Context, full *Kept) (list []*entry, last int64, err error) {
	changed, since := map[ocsp.Serial]*entry{}, seconds(full.Since)
	last, err = r.Source.Changes(ctx, full.Seq, func(changes []ocsp.Change) error {
		for i := range changes {
			if c := &changes[i]; c.Issuer == r.issuer.ID {
				if e := newEntry(c); !e.ended(since) {
					changed[c.Serial] = &e
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read what changed since the full list: %w", err)
	}
	list = slices.AppendSeq(make([]*entry, 0, len(changed)), maps.Values(changed))
	slices.SortFunc(list, func(a, b *entry) int { return bytes.Compare(a.serial[:], b.serial[:]) })
	return list, last, nil
}

// next begins the list that follows prev, which is nil if there is none. Other
// may be the newest list of the same series besides.
func (r *run) next(s Scope, validity time.Duration, prev *Kept, other ...*Kept) *Made {
	m := &Made{Kept: Kept{Issuer: r.issuer.ID, Scope: s, ThisUpdate: r.at, Since: r.at.Add(-r.Schedule.Interval)}}
	for _, k := range append(other, prev) {
		if k != nil {
			m.Follows, m.Seq = max(m.Follows, k.Number), max(m.Seq, k.Seq)
			if m.ThisUpdate.Before(k.ThisUpdate) {
				m.ThisUpdate = k.ThisUpdate // servers' clocks differ
			}
		}
	}
	if prev != nil && prev.ThisUpdate.Before(m.Since) {
		m.Since = prev.ThisUpdate
	}
	m.Number, m.NextUpdate = max(m.Follows+1, m.ThisUpdate.Unix()), m.ThisUpdate.Add(validity)
	return m
}

func (r *run) list(k *Kept) *tbs {
	return &tbs{issuer: r.issuer.Certificate, number: k.Number, base: k.Base, thisUpdate: k.ThisUpdate, nextUpdate: k.NextUpdate}
}

func (r *run) urls(s Scope) (list []string) {
	for _, base := range r.Schedule.URLs {
		list = append(list, s.URL(base, r.issuer.Name))
	}
	return list
}

// sign completes a list.
func (r *run) sign(m *Made, l *tbs) error {
	s, err := l.sign(r.issuer.Signer)
	if err != nil {
		return err
	}
	digest := sha256.New()
	m.Size, _ = s.WriteTo(digest) // a hash takes everything
	m.Entries, m.Digest, m.Content = s.count, [32]byte(digest.Sum(nil)), s
	return nil
}

func (r *run) keep(ctx context.Context, made []*Made, began time.Time) error {
	kept, err := r.Directory.Store.KeepCRLs(ctx, r.by, fmt.Sprintf("%s: %s", r.issuer.Name, named(made)), made)
	if err != nil {
		return err
	}
	took := time.Since(began) / time.Duration(len(made))
	for _, k := range kept {
		r.Observer.Made(r.issuer.Name, k.Scope, took)
	}
	return r.Directory.Refresh(ctx)
}

func named(made []*Made) string {
	text := made[0].Scope.String()
	if len(made) > 1 {
		text += " to " + made[len(made)-1].Scope.String()
	}
	return text
}

// Bounds of what is kept in one transaction.
const (
	maxLists = 128
	maxBytes = 4 << 20
)

// partitions makes those lists of partitions that there are not, and those
// that due says of, which is told the newest change of each.
func (r *run) partitions(ctx context.Context, due func(k *Kept, changed int64) bool) error {
	if len(r.Schedule.URLs) == 0 {
		return nil
	}
	divisions := r.Directory.Divisions(r.issuer.ID)
	if n := r.Schedule.Partitions; n > 0 && !slices.Contains(divisions, n) {
		divisions = append(divisions, n)
	}
	for _, n := range divisions {
		var scopes []Scope
		for i, changed := range r.Revoked.changed(r.issuer.ID, n) {
			s := Scope{Partitions: n, Partition: i}
			if k := r.Directory.Find(r.issuer.ID, s); k == nil || due(k, changed) {
				scopes = append(scopes, s)
			}
		}
		if err := r.batches(ctx, scopes); err != nil {
			return err
		}
	}
	return nil
}

// batches makes the lists of partitions, some at a time.
func (r *run) batches(ctx context.Context, scopes []Scope) error {
	var made []*Made
	size, began := int64(0), time.Now()
	for i, s := range scopes {
		m, err := r.partition(s)
		if err != nil {
			return err
		}
		if m != nil {
			made, size = append(made, m), size+m.Size
		}
		if len(made) < maxLists && size < maxBytes && i < len(scopes)-1 || len(made) == 0 {
			continue
		}
		if err := r.keep(ctx, made, began); err != nil {
			return err
		}
		made, size, began = nil, 0, time.Now()
	}
	return nil
}

// partition makes one list; nil if another server knows more.
func (r *run) partition(s Scope) (*Made, error) {
	made := r.next(s, r.Schedule.Validity, r.Directory.last(r.issuer.ID, s))
	k := &made.Kept
	shot := r.Revoked.snapshot(k.Issuer, s, k.Since)
	if k.Seq > shot.seq {
		return nil, nil
	}
	k.Seq = shot.seq
	l := r.list(k)
	l.names, l.entries = r.urls(s), shot.entries()
	return made, r.sign(made, l)
}

// forget drops from memory what no list will hold again.
func (m *Maker) forget(now time.Time) {
	for _, i := range m.Issuers() {
		before := now.Add(-ocsp.Retention)
		if list := m.renewed(i, now); len(list) > 0 {
			before = slices.MinFunc(list, func(a, b *Kept) int { return a.Since.Compare(b.Since) }).Since
		}
		m.Revoked.Forget(i.ID, before)
	}
}

// renewed are the lists of a CA that are to be made anew here.
func (m *Maker) renewed(i Issuer, now time.Time) []*Kept {
	if i.Signer == nil || now.After(i.Certificate.NotAfter) {
		return nil
	}
	return slices.DeleteFunc(m.Directory.Of(i.ID), func(k *Kept) bool { return !m.Schedule.Wants(k.Scope) })
}
