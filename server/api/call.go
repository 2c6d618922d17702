package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/server/api/scope"
)

// call is one authenticated request: the store as its operator sees it, and
// the act that a change is recorded as.
type call struct {
	scope.View
	act access.Act
	w   http.ResponseWriter
	r   *http.Request
}

type callKey struct{}

// callOf gives the call that the guard put into the context.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// admit authenticates a request and prepares its call.
func (a *API) admit(w http.ResponseWriter, r *http.Request, needs access.Permission, o operation) (*call, error) {
	op, err := a.authenticate(r)
	if err != nil {
		return nil, err
	}
	if needs != AnyOperator && !op.May(needs) {
		return nil, problem(http.StatusForbidden, "operator %s has the role %s, which does not include the permission to %s", op.Name, op.Role, needs)
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return nil, err
	}
	body, err := a.readBody(w, r, o)
	if err != nil {
		return nil, err
	}
	act := access.Act{Operator: op.Name, Owner: op.Owner, Key: key}
	if key != "" {
		act.Request = digest(r, body)
	}
	return &call{a.gate.View(op), act, w, r}, nil
}

// readBody reads the body, unless the handler does, and leaves a copy for
// whoever parses it.
func (a *API) readBody(w http.ResponseWriter, r *http.Request, o operation) ([]byte, error) {
	if o.streams || !o.hasBody() {
		return nil, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, o.limit()))
	if err != nil {
		return nil, bodyError(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

// bodyError says what kept a body from being read: always the client's doing,
// or the wire's.
func bodyError(err error) error {
	if hasAnswer(err) {
		return err
	}
	return problem(http.StatusBadRequest, "the request's body is damaged, or broke off before its end: send it again")
}

// hasAnswer reports whether problemOf has an answer of its own for an error
// of reading: a body that is too large, or too slow.
func hasAnswer(err error) bool {
	var large *http.MaxBytesError
	var slow net.Error
	return errors.As(err, &large) || errors.As(err, &slow) && slow.Timeout()
}

// digest names a request, so that an idempotency key stands for one only.
func digest(r *http.Request, body []byte) [sha256.Size]byte {
	sum := sha256.Sum256(body)
	return sha256.Sum256(fmt.Appendf(nil, "%s %s\n%x", r.Method, r.URL.RequestURI(), sum))
}

const idempotencyHeader = "Idempotency-Key"

// maxIdempotencyKey is the longest key, in bytes.
const maxIdempotencyKey = 255

// idempotencyKey reads the header of that name; "" if there is none.
func idempotencyKey(r *http.Request) (string, error) {
	values := r.Header.Values(idempotencyHeader)
	if r.Method != http.MethodPost || len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if len(values) > 1 || key == "" || len(key) > maxIdempotencyKey {
		return "", problem(http.StatusBadRequest, "the header %s must be given once, with 1 to %d characters; a random UUID serves well", idempotencyHeader, maxIdempotencyKey)
	}
	for _, c := range []byte(key) {
		if c <= ' ' || c >= 0x7f {
			return "", problem(http.StatusBadRequest, "the header %s may hold printable ASCII characters without spaces only; a random UUID serves well", idempotencyHeader)
		}
	}
	return key, nil
}

func idempotencyParam() *huma.Param {
	shortest, longest := 1, maxIdempotencyKey
	return &huma.Param{
		Name: idempotencyHeader, In: "header",
		Description: "Makes the request safe to repeat: the same operator, key and request again get the first answer, and nothing is done twice. The same key with another request is refused.",
		Schema:      &huma.Schema{Type: huma.TypeString, MinLength: &shortest, MaxLength: &longest, Pattern: "^[!-~]+$"},
	}
}

// checkText refuses control characters, and what is not UTF-8, anywhere in a
// request: databases reject them, terminals obey them, and nothing here needs
// them.
func checkText(in any) *Problem {
	bad := checkValue(reflect.ValueOf(in))
	if bad == nil {
		return nil
	}
	at := strings.TrimPrefix(bad.at, ".")
	return invalid(at, "%s %s", at, bad.why)
}

// badText is a text that is refused. Its place is put together from the inside
// outwards, so that good texts cost no names.
type badText struct{ at, why string }

func checkValue(v reflect.Value) *badText {
	switch v.Kind() {
	case reflect.String:
		return checkString(v.String())
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return checkValue(v.Elem())
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return nil // bytes are judged by whoever parses them
		}
		for i := range v.Len() {
			if bad := checkValue(v.Index(i)); bad != nil {
				bad.at = fmt.Sprintf("[%d]%s", i, bad.at)
				return bad
			}
		}
	case reflect.Struct:
		return checkFields(v)
	}
	return nil
}

func checkFields(v reflect.Value) *badText {
	for i := range v.NumField() {
		if !v.Field(i).CanInterface() {
			continue // not exported
		}
		if bad := checkValue(v.Field(i)); bad != nil {
			if f := v.Type().Field(i); !f.Anonymous {
				bad.at = "." + fieldName(f) + bad.at
			}
			return bad
		}
	}
	return nil
}

// fieldName is what the client calls a field.
func fieldName(f reflect.StructField) string {
	for _, tag := range []string{"json", "query", "path"} {
		name, _, _ := bytes.Cut([]byte(f.Tag.Get(tag)), []byte(","))
		if len(name) > 0 {
			return string(name)
		}
	}
	if f.Name == "Body" {
		return "body"
	}
	return f.Name
}

func checkString(s string) *badText {
	if !utf8.ValidString(s) {
		return &badText{why: "is not UTF-8"}
	}
	for _, r := range s {
		if (r < ' ' && r != '\n' && r != '\r' && r != '\t') || r == 0x7f {
			return &badText{why: fmt.Sprintf("holds the control character %q: leave it out", r)}
		}
	}
	return nil
}
