// Package token keeps a device's keys in a secure element or another token, by
// PKCS#11 (OASIS PKCS #11 2.40). It needs cgo: only a build with the tag
// pkcs11 can open one.
package token

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// Place is a token and the name of the keys in it.
type Place struct {
	Module, Token, Serial string // Token is a label; Serial the token's, in place of it
	// Object is the label of keys. One agent alone uses it in its token.
	Object string
	PIN    string
}

// defaultObject is the label of keys that are not named.
const defaultObject = "touchmark-agent"

// ParsePlace reads a URI (RFC 7512): pkcs11: with token or serial, object,
// module-path, and pin-source (a file) or pin-value. As others do, it takes any
// of them before the question mark or after it.
func ParsePlace(uri string) (p Place, err error) {
	rest, ok := strings.CutPrefix(uri, "pkcs11:")
	if !ok {
		return p, errors.New("keys: not a pkcs11: URI")
	}
	p.Object = defaultObject
	source := ""
	fields := map[string]*string{"module-path": &p.Module, "token": &p.Token, "serial": &p.Serial, "object": &p.Object, "pin-value": &p.PIN, "pin-source": &source}
	for _, part := range strings.FieldsFunc(rest, func(r rune) bool { return r == ';' || r == '?' || r == '&' }) {
		name, value, _ := strings.Cut(part, "=")
		field := fields[name]
		if field == nil {
			return p, fmt.Errorf("keys: a token has no %q; want module-path, token or serial, object, pin-source", name)
		}
		if *field, err = url.PathUnescape(value); err != nil {
			return p, fmt.Errorf("keys: %s is not percent-encoded as a URI is", name)
		}
	}
	if p.Module == "" || p.Token == "" && p.Serial == "" {
		return p, errors.New("keys: name the PKCS#11 module in module-path and the token in token or serial")
	}
	if source != "" {
		pin, err := os.ReadFile(strings.TrimPrefix(source, "file:"))
		if err != nil {
			return p, fmt.Errorf("keys: pin-source: %w", err)
		}
		p.PIN = string(bytes.TrimRight(pin, "\r\n"))
	}
	return p, nil
}
