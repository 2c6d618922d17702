package est

import (
	"encoding/base64"
	"io"
	"net/http"
	"strconv"

	"github.com/touchmark/touchmark/enroll"
	"go.mozilla.org/pkcs7"
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

// readBody reads a base64 body, whatever Content-Transfer-Encoding says
// (RFC 8951 §3.1), with CR, LF, space and tab anywhere.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, err
	}
	return decode(text)
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

// certsOnly is a certs-only CMC Simple PKI Response (RFC 7030 §4.1.3,
// RFC 5272 §4.1): a degenerate SignedData.
func certsOnly(certs ...[]byte) ([]byte, error) {
	var all []byte
	for _, c := range certs {
		all = append(all, c...)
	}
	return pkcs7.DegenerateCertificate(all)
}

// answer sends DER as base64. Content-Length is always set: some clients
// cannot read chunks.
func (x *exchange) answer(contentType string, der []byte) {
	body := encode(der)
	h := x.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Transfer-Encoding", "base64")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	x.w.WriteHeader(http.StatusOK)
	_, _ = x.w.Write(body) // a client that is gone asks again
}
