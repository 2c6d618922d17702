package publish

import (
	"bytes"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"github.com/touchmark/touchmark/ocsp/offline"
)

// Prefix is the path below which the files are: a base at Prefix + the CA's
// name, its newest delta below that at "/delta".
const Prefix = "/filter/"

// Path is where the newest file of a CA and kind is on the status listener.
func Path(issuer string, kind offline.Kind) string {
	if kind == offline.Delta {
		return Prefix + issuer + deltaSuffix
	}
	return Prefix + issuer
}

const deltaSuffix = "/delta"

// Handler serves the files of a [Directory]. Set the fields before the first
// request.
type Handler struct {
	Directory *Directory
	// Issuer finds a CA by name; ok is false if there is none.
	Issuer func(name string) (id int64, ok bool)
}

// maxAge is how long others may keep a file before they ask whether there is a
// newer one, in seconds.
const maxAge = "300"

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "offline status is read with GET", http.StatusMethodNotAllowed)
		return
	}
	f := h.find(r.URL.EscapedPath())
	if f == nil {
		http.Error(w, "there is no such offline status: no issuing CA of that name, none made yet, or no delta of the newest base", http.StatusNotFound)
		return
	}
	header.Set("Content-Type", offline.MediaType)
	header.Set("ETag", `"`+hex.EncodeToString(f.Digest[:])+`"`)
	header.Set("Cache-Control", "public, max-age="+maxAge+", no-transform")
	http.ServeContent(w, r, "", f.Header.ThisUpdate.Truncate(time.Second), bytes.NewReader(f.Bytes))
}

func (h *Handler) find(path string) *File {
	name, ok := strings.CutPrefix(path, Prefix)
	if !ok {
		return nil
	}
	name, isDelta := strings.CutSuffix(name, deltaSuffix)
	id, ok := h.Issuer(name)
	switch {
	case !ok:
		return nil
	case isDelta:
		return h.Directory.Delta(id)
	}
	return h.Directory.Base(id)
}
