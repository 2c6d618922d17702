package repository

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/tuf"
)

// Validity is how long files are good. Each is made anew at half of that.
type Validity struct{ Targets, Snapshot, Timestamp time.Duration }

func (v Validity) of(r Role) time.Duration {
	return map[Role]time.Duration{Targets: v.Targets, Snapshot: v.Snapshot, Timestamp: v.Timestamp}[r]
}

// Maker makes metadata and keeps it. Set the fields before the first call.
type Maker struct {
	Store     Store
	Directory *Directory
	Validity  Validity
	// Open opens a key where this server has it.
	Open func(context.Context, *Key) (crypto.Signer, error)
	// Failed, if set, is told whenever metadata could not be made.
	Failed func()
	Log    *slog.Logger
	Now    func() time.Time

	turn sync.Mutex // one makes at a time

	mu       sync.Mutex
	failures int       // rounds in a row
	failure  error     // of the last of them
	since    time.Time // when it began to fail
}

// Run makes what is due at each tick until ctx ends.
func (m *Maker) Run(ctx context.Context, ticks <-chan time.Time) {
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		}
		if m.failing() && m.Now().Sub(last).Abs() < retryAfter {
			continue
		}
		last = m.Now()
		if err := m.Round(ctx); ctx.Err() == nil {
			m.note(ctx, err)
		}
	}
}

// retryAfter is how long a key store that failed is left alone.
const retryAfter = 5 * time.Second

func (m *Maker) failing() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failures > 0
}

// note keeps what became of a round. One that failed alone is no failure: a
// server that lacks the keys leaves the work to another, which is done before
// the next round. The first of several is logged.
func (m *Maker) note(ctx context.Context, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.failures, m.failure = 0, nil
		return
	}
	if m.failures++; m.failures == 1 {
		m.since = m.Now()
		return
	}
	if m.failure = err; m.failures == 2 {
		m.Log.ErrorContext(ctx, "TUF metadata could not be made; what there is is served on, and it is tried again", "error", err)
	}
	if m.Failed != nil {
		m.Failed()
	}
}

// Failure is why rounds fail, and since when; nil if they do not.
func (m *Maker) Failure() (since time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.since, m.failure
}

// Round makes what is due: targets when other releases are published than
// they list, and each file when half of its time is over. Where no root was
// taken yet, nothing is.
func (m *Maker) Round(ctx context.Context) error {
	m.turn.Lock()
	defer m.turn.Unlock()
	st, err := m.Directory.Refresh(ctx)
	if err != nil || len(st.Roots) == 0 {
		return err
	}
	listing, err := m.Store.TUFListing(ctx)
	if err != nil {
		return err
	}
	from, due := m.due(st, listing)
	if !due {
		return nil
	}
	root, err := st.Root()
	if err != nil {
		return err
	}
	made, err := m.make(ctx, root, st, listing, from)
	if err != nil {
		return err
	}
	_, err = m.keep(ctx, "server", made)
	return err
}

// due is the first file that has to be made anew; those that name it follow.
func (m *Maker) due(st *State, listing int64) (from int, due bool) {
	now := m.Now()
	for i, role := range Online {
		f := st.Files[role]
		if f == nil || role == Targets && f.Listing != listing || f.Expires.Sub(now) <= m.Validity.of(role)/2 {
			return i, true
		}
	}
	return 0, false
}

// make signs files from a role on. Whatever is missing is made, too.
func (m *Maker) make(ctx context.Context, root *tuf.Root, st *State, listing int64, from int) (*Made, error) {
	keys, err := m.Store.TUFKeys(ctx)
	if err != nil {
		return nil, err
	}
	made := &Made{Follows: st.Mark(), Listing: listing}
	var before *tuf.File // the one that the next names
	for i, role := range Online {
		have := st.Files[role]
		if have != nil && i < from {
			before = tuf.Known(string(role), have.Version, have.JSON)
			continue
		}
		f, err := m.file(ctx, role, root, keys, have, before)
		if err != nil {
			return nil, err
		}
		f.Listing = map[Role]int64{Targets: listing}[role]
		before = tuf.Known(string(role), f.Version, f.JSON)
		made.Files = append(made.Files, f)
	}
	return made, nil
}

// file makes and signs one file.
func (m *Maker) file(ctx context.Context, role Role, root *tuf.Root, keys []*Key, have *File, before *tuf.File) (*File, error) {
	now := m.Now().UTC().Truncate(time.Second)
	f := &File{Role: role, Version: versionAfter(have, now), Expires: now.Add(m.Validity.of(role))}
	d, err := m.draft(ctx, f, before)
	if err != nil {
		return nil, err
	}
	of := roleOf(root, role)
	signer, err := m.signer(ctx, role, of, keys)
	if err != nil {
		return nil, err
	}
	want, err := d.ToSign(signer.Public())
	if err != nil {
		return nil, err
	}
	sig, err := want.Sign(signer)
	if err != nil {
		return nil, &KeyError{role, err}
	}
	done, err := d.Finish(of, tuf.Signature{Key: signer.Public(), Bytes: sig})
	if err != nil {
		return nil, err
	}
	f.JSON = done.JSON
	return f, nil
}

// versionAfter is the version of a file that follows another: the time, in
// seconds, so that versions also grow when an older state of the database was
// restored, and clients take what is made from then on.
func versionAfter(have *File, now time.Time) int {
	version := int(max(1, now.Unix()))
	if have != nil {
		version = max(version, have.Version+1)
	}
	return version
}

func (m *Maker) draft(ctx context.Context, f *File, before *tuf.File) (*tuf.Draft, error) {
	switch f.Role {
	case Snapshot:
		return tuf.NewSnapshot(f.Version, f.Expires, before)
	case Timestamp:
		return tuf.NewTimestamp(f.Version, f.Expires, before)
	}
	list, err := m.Store.TUFTargets(ctx)
	if err != nil {
		return nil, err
	}
	return tuf.NewTargets(f.Version, f.Expires, list)
}

func roleOf(root *tuf.Root, r Role) tuf.Role {
	return map[Role]tuf.Role{Root: root.Roles.Root, Targets: root.Roles.Targets, Snapshot: root.Roles.Snapshot, Timestamp: root.Roles.Timestamp}[r]
}

// known are the installation's keys that a root names for a role, newest
// first.
func known(r Role, of tuf.Role, keys []*Key) (list []*Key) {
	for _, k := range keys {
		if pub, err := k.Public(); err == nil && k.Role == r && of.Has(pub) {
			list = append(list, k)
		}
	}
	slices.Reverse(list)
	return list
}

// signer opens the newest key of a role that the root names and this server
// has.
func (m *Maker) signer(ctx context.Context, r Role, of tuf.Role, keys []*Key) (crypto.Signer, error) {
	var errs []error
	for _, k := range known(r, of, keys) {
		s, err := m.Open(ctx, k)
		if err == nil && !of.Has(s.Public()) {
			err = fmt.Errorf("%s is another key than when it was made: another file, or another token", k.Name)
		}
		if err == nil {
			return s, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		errs = append(errs, errors.New("the root names none of the installation's keys"))
	}
	return nil, &KeyError{r, errors.Join(errs...)}
}

func (m *Maker) keep(ctx context.Context, by string, made *Made) (kept bool, err error) {
	if kept, err = m.Store.KeepTUF(ctx, by, noteOf(made), made); !kept || err != nil {
		return false, err
	}
	m.Log.InfoContext(ctx, "TUF metadata made", "files", noteOf(made))
	_, err = m.Directory.Refresh(ctx)
	return true, err
}

// noteOf says what was made.
func noteOf(made *Made) string {
	var parts []string
	if made.Root != nil {
		parts = append(parts, fmt.Sprintf("root %d", made.Root.Version))
	}
	for _, f := range made.Files {
		parts = append(parts, fmt.Sprintf("%s %d", f.Role, f.Version))
	}
	return strings.Join(parts, ", ")
}

// Import takes a root, and makes all metadata anew below it, so that clients
// find a whole repository at any time. A root that nobody may follow is a
// *RefusedError, a key that cannot sign a *KeyError; then nothing changes.
// The newest root again is no error.
func (m *Maker) Import(ctx context.Context, by string, text []byte) error {
	root, err := tuf.ParseRoot(text)
	if err != nil {
		return refused("%v", err)
	}
	m.turn.Lock()
	defer m.turn.Unlock()
	for range importAttempts {
		kept, err := m.take(ctx, by, root)
		if kept || err != nil {
			return err
		}
	}
	return errors.New("other servers change the repository all the time: hand the root in again")
}

// importAttempts is how often an import is tried while others are faster.
const importAttempts = 5

func (m *Maker) take(ctx context.Context, by string, root *tuf.Root) (done bool, err error) {
	st, err := m.Directory.Refresh(ctx)
	if err != nil {
		return false, err
	}
	listing, err := m.Store.TUFListing(ctx)
	if err != nil {
		return false, err
	}
	file, err := m.judge(ctx, st, root)
	if err != nil || file == nil {
		return err == nil, err
	}
	made, err := m.make(ctx, root, st, listing, 0)
	if err != nil {
		return false, err
	}
	made.Root = file
	return m.keep(ctx, by, made)
}

// judge says whether a root may be taken, and gives it as it is served; nil
// if it was taken before.
func (m *Maker) judge(ctx context.Context, st *State, root *tuf.Root) (*RootFile, error) {
	before, err := st.Root()
	if err != nil || before != nil && root.Same(before) {
		return nil, err
	}
	f, err := root.Publish(before)
	if err != nil {
		return nil, refused("%v", err)
	}
	if !root.Expires.After(m.Now()) {
		return nil, refused("root %d ran out at %s: clients would take nothing below it", root.Version, root.Expires.Format(time.RFC3339))
	}
	keys, err := m.Store.TUFKeys(ctx)
	if err != nil {
		return nil, err
	}
	return &RootFile{root.Version, root.Expires, f.JSON}, suits(root, keys)
}

// suits refuses a root below which the installation could not sign, and one
// that the installation could exchange by itself.
func suits(root *tuf.Root, keys []*Key) error {
	for _, role := range Online {
		of := roleOf(root, role)
		if of.Threshold != 1 {
			return refused("%d keys are to sign %s: the installation signs with one", of.Threshold, role)
		}
		if len(known(role, of, keys)) == 0 {
			return refused("the root names no key of this installation for %s: export one with `touchmark tuf root create`", role)
		}
	}
	for _, k := range keys {
		if pub, err := k.Public(); err == nil && root.Roles.Root.Has(pub) {
			return refused("%s is to sign roots: its key is online, and whoever has the server could exchange the root", k.Name)
		}
	}
	return nil
}

// Check reports what clients meet, or will soon: metadata that could not be
// made, or runs out.
func (m *Maker) Check(context.Context) error {
	if since, err := m.Failure(); err != nil {
		return fmt.Errorf("TUF metadata cannot be made since %s, and what there is is served on: %w", since.Format(time.RFC3339), err)
	}
	st := m.Directory.Newest()
	if st == nil {
		return nil
	}
	for _, role := range Online {
		if f := st.Files[role]; f != nil && f.Expires.Sub(m.Now()) < m.Validity.of(role)/4 {
			return fmt.Errorf("the TUF %s %d was not made anew in time, and runs out at %s", role, f.Version, f.Expires.Format(time.RFC3339))
		}
	}
	return nil
}
