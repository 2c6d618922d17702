package approval

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// MaxPayload bounds what is signed, in bytes.
const MaxPayload = 64 << 10

// Canonical gives the JSON of a value in the one form that RFC 8785 allows:
// members sorted, no spaces, no needless escapes. Only what has such a form in
// every language is taken: integers up to 2^53, and members named in ASCII.
func Canonical(v any) ([]byte, error) {
	b, err := plain(v)
	if err != nil {
		return nil, err
	}
	var tree any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		return nil, err
	}
	if err := portable(tree); err != nil {
		return nil, err
	}
	return plain(tree) // maps are written sorted
}

// plain marshals without the escapes that are for HTML.
func plain(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	// U+2028 and U+2029 are escaped for JavaScript's sake all the same.
	out := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if bytes.Contains(out, []byte(`\u2028`)) || bytes.Contains(out, []byte(`\u2029`)) {
		return nil, errors.New("a line separator (U+2028, U+2029) cannot be part of it")
	}
	return out, nil
}

// portable refuses what other languages would read or sort otherwise.
func portable(v any) error {
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err != nil || n > 1<<53 || n < -1<<53 || strconv.FormatInt(n, 10) != v.String() {
			return fmt.Errorf("the number %s is not an integer up to 2^53", v)
		}
	case []any:
		for _, e := range v {
			if err := portable(e); err != nil {
				return err
			}
		}
	case map[string]any:
		for name, e := range v {
			for _, c := range []byte(name) {
				if c < ' ' || c > '~' {
					return fmt.Errorf("the member %q is not named in ASCII", name)
				}
			}
			if err := portable(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// ReadTerms reads a payload. It takes nothing but the canonical form of terms
// whose digest is the statement's, so that one payload can be read one way.
func ReadTerms(payload []byte) (*Terms, error) {
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("the proposal is %d bytes long: at most %d are accepted", len(payload), MaxPayload)
	}
	t := new(Terms)
	if err := strict(payload, t); err != nil {
		return nil, fmt.Errorf("this is not a proposal: %w", err)
	}
	t.At, t.Expires = t.At.UTC(), t.Expires.UTC()
	again, err := Canonical(t)
	if err != nil {
		return nil, fmt.Errorf("this is not a proposal: %w", err)
	}
	switch {
	case !bytes.Equal(again, payload):
		return nil, errors.New("the proposal is not in its canonical form")
	case t.Digest != digestOf(t.Statement):
		return nil, fmt.Errorf("the digest in the proposal is %q, and that of its statement %s", t.Digest, digestOf(t.Statement))
	case t.Wanted < 1 || t.Wanted > MaxWanted:
		return nil, fmt.Errorf("the proposal wants %d approvals: 1 to %d can be wanted", t.Wanted, MaxWanted)
	}
	return t, nil
}

// strict reads one JSON value that has no unknown members.
func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON")
	}
	return nil
}
