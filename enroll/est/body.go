package est

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/httperr"
)

// maxBody is the longest request in base64, with room for line breaks.
const maxBody = 2 * enroll.MaxCSR

// shortBody is the longest answer that is sent in one line. Longer ones are
// wrapped: libest refuses long lines, strongSwan 5 any line breaks, so each
// gets what it can read where that is possible. Lines end in LF alone: every
// base64 decoder takes that, GNU's takes nothing else.
const shortBody = 600

// lineLength is that of MIME (RFC 2045 §6.8).
const lineLength = 76

// drained is how much of a body that is too long is still read, so that its
// sender comes to read the answer instead of losing the connection.
const drained = 1 << 20

// readBody reads a base64 body, whatever Content-Transfer-Encoding says
// (RFC 8951 §3.1), with CR, LF, space and tab anywhere.
func readBody(r *http.Request) ([]byte, error) {
	tooLong := httperr.New(http.StatusRequestEntityTooLarge, "the request is larger than %d bytes: a certificate request in base64 is much smaller", maxBody)
	if r.ContentLength > maxBody && r.Header.Get("Expect") != "" {
		return nil, tooLong // it waits to be told whether to send (RFC 9110 §10.1.1)
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case len(text) > maxBody:
		_, _ = io.CopyN(io.Discard, r.Body, drained)
		return nil, tooLong
	case err == nil:
		return decode(text)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, httperr.New(http.StatusRequestTimeout, "the request's body did not arrive in time: send it at once")
	default: // cut off, or chunks that are none
		return nil, enroll.BadRequest("the request's body did not arrive whole: %v", err)
	}
}

// decode reads base64 with white space inside.
func decode(text []byte) ([]byte, error) {
	n := 0
	for _, c := range text {
		switch c {
		case '\r', '\n', ' ', '\t':
		default:
			text[n] = c
			n++
		}
	}
	if n == 0 {
		return nil, enroll.BadRequest("the request has no body: send the PKCS#10 request as base64 of its DER")
	}
	der := make([]byte, base64.StdEncoding.DecodedLen(n))
	m, err := base64.StdEncoding.Strict().Decode(der, text[:n])
	if err != nil {
		return nil, enroll.BadRequest("the body is not base64 (RFC 8951 §3.1): %v; send the DER in base64, without PEM's BEGIN and END lines", err)
	}
	return der[:m], nil
}

// encode makes a base64 body.
func encode(der []byte) []byte {
	text := base64.StdEncoding.AppendEncode(nil, der)
	if len(text) <= shortBody {
		return text
	}
	wrapped := make([]byte, 0, len(text)+len(text)/lineLength+1)
	for len(text) > 0 {
		n := min(lineLength, len(text))
		wrapped = append(append(wrapped, text[:n]...), '\n')
		text = text[n:]
	}
	return wrapped
}

var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
)

// certsOnly is a certs-only CMC Simple PKI Response (RFC 7030 §4.1.3,
// RFC 5272 §4.1): a SignedData (RFC 5652 §5.1) without content, signers and
// CRLs. It is spelt out because go.mozilla.org/pkcs7 adds an empty set of
// CRLs, which a parser on a small device may not expect.
func certsOnly(certs ...[]byte) ([]byte, error) {
	type content struct {
		Type  asn1.ObjectIdentifier
		Value any `asn1:"optional,explicit,tag:0"`
	}
	type empty struct {
		Type asn1.ObjectIdentifier
	}
	return asn1.Marshal(content{oidSignedData, struct {
		Version int
		Digests []asn1.RawValue `asn1:"set"`
		Content empty
		Certs   asn1.RawValue
		Signers []asn1.RawValue `asn1:"set"`
	}{
		Version: 1,
		Content: empty{oidData},
		Certs:   asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: bytes.Join(certs, nil)},
	}})
}

// answer sends DER as base64. Content-Length is always set: some clients
// cannot read chunks.
func (x *exchange) answer(contentType string, der []byte) {
	h := x.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Transfer-Encoding", "base64")
	x.write(http.StatusOK, encode(der))
}

func (x *exchange) write(status int, body []byte) {
	x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	x.w.Header().Set("X-Content-Type-Options", "nosniff")
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body) // a client that is gone asks again
}
