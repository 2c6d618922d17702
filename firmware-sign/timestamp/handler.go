package timestamp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Path is where a Handler answers.
const Path = "/tsa"

// Media types (RFC 3161 §3.4).
const (
	QueryType = "application/timestamp-query"
	ReplyType = "application/timestamp-reply"
)

// Handler answers over HTTP (RFC 3161 §3.4): who asked in the right form gets
// status 200, and the TimeStampResp says whether it was granted.
type Handler struct {
	Authority *Authority
	// Take takes one time stamp from what may be issued; false asks to come
	// later.
	Take func() bool
	// Answered is told what became of each request; nil is granted.
	Answered func(error)
	Log      *slog.Logger
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "send a time-stamp query by POST (RFC 3161, section 3.4)", http.StatusMethodNotAllowed)
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != QueryType {
		http.Error(w, "the body must be a time-stamp query: send it with Content-Type: "+QueryType, http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequest))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		http.Error(w, "the query is longer than "+strconv.Itoa(MaxRequest)+" bytes: send the digest, not the file", http.StatusRequestEntityTooLarge)
	case err != nil:
		http.Error(w, "the query could not be read", http.StatusBadRequest)
	case !h.Take():
		w.Header().Set("Retry-After", "1")
		http.Error(w, "more time stamps are wanted than may be issued: ask again", http.StatusServiceUnavailable)
	default:
		h.answer(r.Context(), w, body)
	}
}

func (h *Handler) answer(ctx context.Context, w http.ResponseWriter, body []byte) {
	token, err := h.stamp(ctx, body)
	var refusal *Refusal
	if err != nil && !errors.As(err, &refusal) {
		h.Log.ErrorContext(ctx, "no time stamp could be made", "error", err)
		refusal = &Refusal{SystemFailure, "the authority has a fault: ask again later"}
	}
	if h.Answered != nil {
		h.Answered(err)
	}
	response, err := Response(token, refusal)
	if err != nil {
		http.Error(w, "the answer could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", ReplyType)
	w.Header().Set("Content-Length", strconv.Itoa(len(response)))
	w.Header().Set("Cache-Control", "no-store")
	w.Write(response)
}

func (h *Handler) stamp(ctx context.Context, body []byte) ([]byte, error) {
	request, err := ParseRequest(body)
	if err != nil {
		return nil, err
	}
	return h.Authority.Stamp(ctx, request)
}

// Values of PKIStatus (RFC 3161 §2.4.2).
const (
	granted   = 0
	rejection = 2
)

// Response makes a TimeStampResp of a token, or of the reason why there is
// none.
func Response(token []byte, refusal *Refusal) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			if refusal == nil {
				b.AddASN1Int64(granted)
				return
			}
			b.AddASN1Int64(rejection)
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(tag.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(refusal.Reason)) })
			})
			b.AddASN1(tag.BIT_STRING, func(b *cryptobyte.Builder) { b.AddBytes(refusal.Failure.bits()) })
		})
		if refusal == nil {
			b.AddBytes(token)
		}
	})
	return b.Bytes()
}

// bits is the one bit of the failure as the content of a BIT STRING, without
// zeros at its end (X.690 §11.2.2).
func (f Failure) bits() []byte {
	b := make([]byte, 2+f/8)
	b[0] = byte(7 - f%8) // unused
	b[1+f/8] = 0x80 >> (f % 8)
	return b
}
