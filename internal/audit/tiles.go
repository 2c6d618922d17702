package audit

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// MaxLeaf is the longest leaf, in bytes, that an entry bundle can carry
// (C2SP tlog-tiles, "Log entries").
const MaxLeaf = 1<<16 - 1

// CheckpointReader reads the newest published checkpoint.
type CheckpointReader interface {
	// LastCheckpoint returns the signed note, nil if there is none yet.
	LastCheckpoint(ctx context.Context) ([]byte, error)
}

// Handler serves the log as C2SP tlog-tiles describes it, below whatever
// prefix its user strips:
//
//	/checkpoint
//	/verifier                    the key to check checkpoints with
//	/tile/<L>/<N>[.p/<W>]        hashes
//	/tile/entries/<N>[.p/<W>]    leaves
//
// It shows what the newest checkpoint covers and nothing beyond. Its fields
// are set once, before use.
type Handler struct {
	Checkpoints CheckpointReader
	Tiles       *Tiles
	VerifierKey string        // the text form
	Verifier    note.Verifier // the same, parsed
	Log         *slog.Logger
}

const (
	cacheForever = "public, max-age=31536000, immutable"
	cacheNever   = "no-cache"
	plainText    = "text/plain; charset=utf-8"
	maxTilePath  = 64 // the longest path of a tile has 38 bytes
)

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		h.refuse(w, http.StatusMethodNotAllowed, "the log is only read: use GET")
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/")
	switch {
	case path == "checkpoint":
		h.serveCheckpoint(w, r)
	case path == "verifier":
		h.reply(w, r, plainText, cacheNever, []byte(h.VerifierKey+"\n"))
	case strings.HasPrefix(path, "tile/"):
		h.serveTile(w, r, path)
	default:
		h.refuse(w, http.StatusNotFound, "nothing is here: the log is served as checkpoint, verifier, tile/<L>/<N>[.p/<W>] and tile/entries/<N>[.p/<W>]")
	}
}

func (h *Handler) serveCheckpoint(w http.ResponseWriter, r *http.Request) {
	signed, err := h.Checkpoints.LastCheckpoint(r.Context())
	switch {
	case err != nil:
		h.fail(w, r, err)
	case signed == nil:
		h.refuse(w, http.StatusNotFound, "no checkpoint was published yet: try again in a moment")
	default:
		h.reply(w, r, plainText, cacheNever, signed)
	}
}

func (h *Handler) serveTile(w http.ResponseWriter, r *http.Request, path string) {
	tile, err := parseTilePath(path)
	if err != nil {
		h.refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	size, err := h.published(r.Context())
	if err != nil {
		h.fail(w, r, err)
		return
	}
	if !tileWithin(max(tile.L, 0), tile.N, tile.W, size) {
		h.refuse(w, http.StatusNotFound, fmt.Sprintf("the checkpoint of %d leaves has no %s", size, clip(path)))
		return
	}
	var body []byte
	if tile.L < 0 {
		body, err = h.Tiles.entries(r.Context(), tile.N, tile.W)
	} else {
		body, err = h.Tiles.Tile(r.Context(), tile.L, tile.N, tile.W)
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	if tile.L < 0 {
		body = compress(w, r, body)
	}
	h.reply(w, r, "application/octet-stream", cacheForever, body)
}

// published is the size of the newest checkpoint; 0 if there is none.
func (h *Handler) published(ctx context.Context) (int64, error) {
	signed, err := h.Checkpoints.LastCheckpoint(ctx)
	if err != nil || signed == nil {
		return 0, err
	}
	c, err := OpenCheckpoint(signed, h.Verifier)
	return c.Size, err
}

// entries is the n-th bundle of leaves.
func (t *Tiles) entries(ctx context.Context, n int64, width int) ([]byte, error) {
	select {
	case t.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-t.busy }()
	var out []byte
	first := n * tileWidth
	err := eachLeaf(ctx, t.src, first, first+int64(width), func(body []byte) error {
		if len(body) > MaxLeaf {
			return fmt.Errorf("a leaf of bundle %d is %d bytes long: at most %d can be served", n, len(body), MaxLeaf)
		}
		out = binary.BigEndian.AppendUint16(out, uint16(len(body)))
		out = append(out, body...)
		return nil
	})
	return out, err
}

// parseTilePath reads tile/<L>/<N>[.p/<W>] or tile/entries/<N>[.p/<W>]; the
// latter is a tile of level -1. Only the canonical spelling passes.
func parseTilePath(path string) (tlog.Tile, error) {
	bad := fmt.Errorf("%q is not the path of a tile: want tile/<L>/<N>[.p/<W>] or tile/entries/<N>[.p/<W>] (C2SP tlog-tiles)", clip(path))
	rest, ok := strings.CutPrefix(path, "tile/")
	level, n, cut := strings.Cut(rest, "/")
	if !ok || !cut || len(path) > maxTilePath {
		return tlog.Tile{}, bad
	}
	if level == "entries" {
		level = "data" // as the Go checksum database has it
	} else if l, err := strconv.Atoi(level); err != nil || l < 0 || l > 63 {
		return tlog.Tile{}, bad
	}
	// The checksum database names the height too; otherwise the paths agree.
	t, err := tlog.ParseTilePath(fmt.Sprintf("tile/%d/%s/%s", tileHeight, level, n))
	if err != nil {
		return tlog.Tile{}, bad
	}
	return t, nil
}

// compress compresses a body if the client takes it.
func compress(w http.ResponseWriter, r *http.Request, body []byte) []byte {
	w.Header().Set("Vary", "Accept-Encoding")
	if !acceptsGzip(r.Header.Get("Accept-Encoding")) {
		return body
	}
	w.Header().Set("Content-Encoding", "gzip")
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	z.Write(body) // a bytes.Buffer takes everything
	z.Close()
	return buf.Bytes()
}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3). A weight other than
// 1 is too rare to be worth weighing: such a client gets the plain body.
func acceptsGzip(header string) bool {
	for _, coding := range strings.Split(header, ",") {
		if strings.TrimSpace(coding) == "gzip" {
			return true
		}
	}
	return false
}

func (h *Handler) reply(w http.ResponseWriter, r *http.Request, kind, cache string, body []byte) {
	head := w.Header()
	head.Set("Content-Type", kind)
	head.Set("Cache-Control", cache)
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	if _, err := w.Write(body); err != nil {
		h.Log.LogAttrs(r.Context(), slog.LevelDebug, "audit reader went away", slog.Any("error", err))
	}
}

// refuse answers what is not there. A tile may come into being later, so
// nobody is to remember that it was missing.
func (h *Handler) refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, text, status)
}

func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return // nobody is listening
	}
	h.Log.LogAttrs(r.Context(), slog.LevelError, "audit log cannot be served", slog.String("path", clip(r.URL.Path)), slog.Any("error", err))
	h.refuse(w, http.StatusInternalServerError, "the log cannot be read at the moment; the server's own log says why")
}
