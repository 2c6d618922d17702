package ocsp

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
)

// Path is where a Responder answers: POST to it, GET below it.
const Path = "/ocsp"

// maxText bounds the base64 of a request in a path. RFC 6960 appendix A.1
// wants GET for 255 bytes at most; this is enough for a nonce, or for dozens
// of certificates.
const maxText = 8 << 10

// ServeHTTP answers a GET or POST (RFC 6960 appendix A, RFC 9919 §5). It must
// be called with the path as it came: one that was cleaned of "//" is another
// question.
func (r *Responder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	text, ok := strings.CutPrefix(req.URL.Path, Path)
	// No request begins with a slash: it is one between the address and the
	// request too many.
	text = strings.TrimLeft(text, "/")
	switch {
	case !ok || req.Method == http.MethodPost && text != "":
		http.NotFound(w, req)
	case req.Method == http.MethodGet:
		r.get(w, req, text)
	case req.Method == http.MethodPost:
		r.post(w, req)
	default:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "ask by GET or POST (RFC 6960, appendix A)", http.StatusMethodNotAllowed)
	}
}

func (r *Responder) get(w http.ResponseWriter, req *http.Request, text string) {
	if len(text) > maxText {
		refuse(w, http.StatusRequestURITooLong, "the request is too long for GET: use POST")
		return
	}
	var room [usualSize + 2]byte // so what is asked most takes no memory
	der, err := base64.StdEncoding.AppendDecode(room[:0], []byte(text))
	if err != nil {
		r.fail(w, malformedRequest)
		return
	}
	a, status := r.respond(der)
	if status != 0 {
		r.fail(w, status)
		return
	}
	r.Counts.note(a)
	if !a.cacheable {
		a.send(w, noStore)
		return
	}
	h := w.Header()
	h["Etag"], h["Last-Modified"], h["Expires"] = a.etag, a.modified, a.expires
	// If-Modified-Since is not looked at: a certificate may be revoked within
	// the second of an answer that was good.
	if matches(req.Header["If-None-Match"], a.etag[0]) {
		h["Cache-Control"] = a.control
		w.WriteHeader(http.StatusNotModified)
		return
	}
	a.send(w, a.control)
}

func (r *Responder) post(w http.ResponseWriter, req *http.Request) {
	if req.ContentLength > MaxRequest {
		refuse(w, http.StatusRequestEntityTooLarge, "the request is too large: ask about fewer certificates at a time")
		return
	}
	der, err := io.ReadAll(http.MaxBytesReader(w, req.Body, MaxRequest))
	if err != nil {
		refuseBody(w, err)
		return
	}
	a, status := r.respond(der)
	if status != 0 {
		r.fail(w, status)
		return
	}
	r.Counts.note(a)
	a.send(w, noStore)
}

// refuseBody tells why a body could not be read.
func refuseBody(w http.ResponseWriter, err error) {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		refuse(w, http.StatusRequestEntityTooLarge, "the request is too large: ask about fewer certificates at a time")
	case errors.Is(err, os.ErrDeadlineExceeded):
		refuse(w, http.StatusRequestTimeout, "the request took too long to arrive")
	default:
		refuse(w, http.StatusBadRequest, "the request did not arrive whole")
	}
}

// The values of header fields, which are not to be changed.
var (
	contentType = []string{"application/ocsp-response"}
	noStore     = []string{"no-store"}
	errorLength = []string{"5"}
)

func (a *answer) send(w http.ResponseWriter, control []string) {
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = contentType, control
	if a.length != nil {
		h["Content-Length"] = a.length
	}
	w.Write(a.body)
}

// fail answers with one of OCSP's own errors. Its HTTP status is 200, because
// clients do not read the body of another.
func (r *Responder) fail(w http.ResponseWriter, e errorStatus) {
	r.Counts.noteError(e)
	h := w.Header()
	h["Content-Type"], h["Content-Length"], h["Cache-Control"] = contentType, errorLength, noStore
	if e == tryLater {
		h["Retry-After"] = []string{"10"}
	}
	w.Write(e.der())
}

// refuse answers what is not about OCSP, but about HTTP.
func refuse(w http.ResponseWriter, status int, text string) {
	w.Header()["Cache-Control"] = noStore
	http.Error(w, text, status)
}

// matches reports whether If-None-Match lists an entity tag, by the weak
// comparison of RFC 9110 §13.1.2.
func matches(fields []string, etag string) bool {
	for _, field := range fields {
		for tag := range strings.SplitSeq(field, ",") {
			tag = strings.TrimSpace(tag)
			if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				return true
			}
		}
	}
	return false
}
