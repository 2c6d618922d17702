package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Directory has what is served in memory: all roots, and the newest file of
// each role. When the database does not answer, that is served on. Set the
// fields before the first call.
type Directory struct {
	Store Store
	Now   func() time.Time

	newest atomic.Pointer[State]
	mu     sync.Mutex // one asks at a time
	asked  time.Time
	failed error // the last time
}

// fresh is how long nobody asks whether there is something newer. It is short:
// a client that meets two servers one after the other must not see the
// timestamp go back.
const fresh = time.Second

// State is what is served now. The error is why it may not be the newest;
// the state is nil if there was never an answer.
func (d *Directory) State(ctx context.Context) (*State, error) {
	if known := d.newest.Load(); known == nil {
		d.mu.Lock()
	} else if !d.mu.TryLock() {
		return known, nil // somebody is asking
	}
	defer d.mu.Unlock()
	if now := d.Now(); d.newest.Load() == nil || now.Sub(d.asked).Abs() >= fresh {
		d.failed, d.asked = d.refresh(ctx), now
	}
	return d.newest.Load(), d.failed
}

// Refresh asks in any case.
func (d *Directory) Refresh(ctx context.Context) (*State, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed, d.asked = d.refresh(ctx), d.Now()
	return d.newest.Load(), d.failed
}

func (d *Directory) refresh(ctx context.Context) error {
	mark, err := d.Store.TUFMark(ctx)
	if known := d.newest.Load(); err != nil || known != nil && known.Mark() == mark {
		return err
	}
	st, err := d.Store.TUFState(ctx)
	if err == nil {
		d.newest.Store(st)
	}
	return err
}

// Newest is what is known without asking; nil before the first answer.
func (d *Directory) Newest() *State { return d.newest.Load() }

// Prefix is the path below which the metadata is.
const Prefix = "/tuf/"

// Handler serves the metadata of a [Directory]. Set the fields before the
// first request.
type Handler struct {
	Directory *Directory
	Log       *slog.Logger
}

// fileForm is how files are called with consistent snapshots (§7.2).
var fileForm = regexp.MustCompile(`^([1-9][0-9]{0,14})\.(root|targets|snapshot)\.json$`)

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "TUF metadata is read with GET", http.StatusMethodNotAllowed)
		return
	}
	st, err := h.Directory.State(r.Context())
	if err != nil && r.Context().Err() == nil {
		h.Log.WarnContext(r.Context(), "the TUF metadata could not be read; what is known is served", "error", err)
	}
	switch {
	case st == nil:
		h.later(w)
	case len(st.Roots) == 0:
		http.Error(w, "there is no TUF repository: no root was imported yet (touchmark tuf root import)", http.StatusNotFound)
	default:
		h.serve(w, r, st)
	}
}

func (h *Handler) later(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "5")
	http.Error(w, "the database does not answer at the moment: try again", http.StatusServiceUnavailable)
}

// serve gives a file. One with a version in its name never changes; whether
// there is another root is asked anew each time.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, st *State) {
	name, caching := r.URL.Path[min(len(Prefix), len(r.URL.Path)):], "public, max-age=86400, immutable"
	var content []byte
	if name == "timestamp.json" {
		content, caching = st.Files[Timestamp].JSON, "no-cache"
	} else if m := fileForm.FindStringSubmatch(name); m != nil {
		version, _ := strconv.Atoi(m[1]) // the form bounds it
		var err error
		if content, err = h.find(r.Context(), st, Role(m[2]), version); err != nil {
			h.Log.WarnContext(r.Context(), "TUF metadata could not be read", "file", name, "error", err)
			h.later(w)
			return
		}
	}
	if content == nil {
		http.Error(w, "there is no such file in the TUF repository", http.StatusNotFound)
		return
	}
	sum := sha256.Sum256(content)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
	w.Header().Set("Cache-Control", caching+", no-transform")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func (h *Handler) find(ctx context.Context, st *State, role Role, version int) ([]byte, error) {
	if role == Root {
		if version > len(st.Roots) {
			return nil, nil
		}
		return st.Roots[version-1].JSON, nil
	}
	if f := st.Files[role]; f.Version == version {
		return f.JSON, nil
	}
	return h.Directory.Store.TUFFile(ctx, role, version)
}
