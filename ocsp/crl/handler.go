package crl

import (
	"container/list"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Handler serves the lists of a [Directory] below [Prefix]. Set the fields
// before the first request.
type Handler struct {
	Directory *Directory
	// Issuer finds a CA by name; ok is false if there is none.
	Issuer func(name string) (id int64, ok bool)
	// MaxAge bounds how long others may keep a list before they ask whether
	// there is a newer one.
	MaxAge func(Scope) time.Duration
	Log    *slog.Logger
	Now    func() time.Time

	cache chunks
}

// stall is how long a client may take for one chunk.
const stall = time.Minute

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "a revocation list is read with GET", http.StatusMethodNotAllowed)
		return
	}
	k := h.find(r)
	if k == nil {
		http.Error(w, "there is no such revocation list", http.StatusNotFound)
		return
	}
	// A large list may take longer than a request: each chunk has its own time.
	content := &reader{ctx: context.WithoutCancel(r.Context()), handler: h, kept: k, extend: extender(w)}
	if _, err := content.chunk(0); err != nil {
		h.fail(w, r, err)
		return
	}
	header.Set("Content-Type", "application/pkix-crl") // RFC 2585 §4.2
	header.Set("ETag", `"`+hex.EncodeToString(k.Digest[:])+`"`)
	age := max(0, min(h.MaxAge(k.Scope), k.NextUpdate.Sub(h.Now())))
	header.Set("Cache-Control", "max-age="+strconv.Itoa(int(age.Seconds()))+", public, no-transform, must-revalidate")
	header.Set("Expires", h.Now().Add(age).UTC().Format(http.TimeFormat))
	http.ServeContent(w, r, "", k.ThisUpdate, content)
}

func (h *Handler) find(r *http.Request) *Kept {
	name, scope, ok := ParsePath(r.URL.EscapedPath())
	if !ok {
		return nil
	}
	id, ok := h.Issuer(name)
	if !ok {
		return nil
	}
	return h.Directory.Find(id, scope)
}

func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("Retry-After", "1")
	if !errors.Is(err, ErrGone) && r.Context().Err() == nil {
		h.Log.ErrorContext(r.Context(), "a revocation list could not be read", "path", r.URL.Path, "error", err)
	}
	http.Error(w, "the revocation list cannot be read at the moment: try again", http.StatusServiceUnavailable)
}

// extender gives each chunk its own time to be written.
func extender(w http.ResponseWriter) func() {
	c := http.NewResponseController(w)
	return func() { _ = c.SetWriteDeadline(time.Now().Add(stall)) } // one that cannot keeps the door's time
}

// reader reads a list chunk by chunk.
type reader struct {
	ctx     context.Context
	handler *Handler
	kept    *Kept
	extend  func()
	at      int64
}

func (r *reader) chunk(n int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(r.ctx, stall)
	defer cancel()
	return r.handler.cache.get(ctx, r.handler.Directory.Store, chunkKey{r.kept.Body, n})
}

func (r *reader) Read(b []byte) (int, error) {
	if r.at >= r.kept.Size {
		return 0, io.EOF
	}
	c, err := r.chunk(int(r.at / ChunkSize))
	if err != nil {
		return 0, err
	}
	from := int(r.at % ChunkSize)
	if from >= len(c) {
		return 0, fmt.Errorf("list %d ends before its %d bytes", r.kept.Body, r.kept.Size)
	}
	if from == 0 {
		r.extend()
	}
	n := copy(b, c[from:])
	r.at += int64(n)
	return n, nil
}

func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.kept.Size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to %d", offset)
	}
	r.at = offset
	return offset, nil
}

// maxCached is how many chunks are kept in memory: 32 MiB.
const maxCached = 64

type chunkKey struct {
	body int64
	n    int
}

// chunks keeps what was asked for last. Of several who ask for the same at a
// time one reads, the others wait for it.
type chunks struct {
	mu    sync.Mutex
	of    map[chunkKey]*list.Element
	order list.List // of *cached, the last used in front
}

type cached struct {
	key   chunkKey
	ready chan struct{}
	bytes []byte
	err   error
}

func (c *chunks) get(ctx context.Context, s Store, key chunkKey) ([]byte, error) {
	entry, mine := c.enter(key)
	if mine {
		entry.bytes, entry.err = s.CRLChunk(ctx, key.body, key.n)
		if entry.err != nil {
			c.drop(key)
		}
		close(entry.ready)
	}
	select {
	case <-entry.ready:
		return entry.bytes, entry.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *chunks) enter(key chunkKey) (entry *cached, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := c.of[key]; at != nil {
		c.order.MoveToFront(at)
		return at.Value.(*cached), false
	}
	if c.of == nil {
		c.of = map[chunkKey]*list.Element{}
	}
	entry = &cached{key: key, ready: make(chan struct{})}
	c.of[key] = c.order.PushFront(entry)
	if c.order.Len() > maxCached {
		delete(c.of, c.order.Remove(c.order.Back()).(*cached).key)
	}
	return entry, true
}

func (c *chunks) drop(key chunkKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := c.of[key]; at != nil {
		c.order.Remove(at)
		delete(c.of, key)
	}
}
