package acme

import (
	"errors"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/enroll/certorder"
)

// Whatever comes, a JWS is refused by a problem of the client's, or has one
// key's name, and an algorithm that is known.
func FuzzJWS(f *testing.F) {
	f.Add([]byte(`{"protected":"eyJhbGciOiJFUzI1NiIsImtpZCI6IngifQ","payload":"","signature":"AAAA"}`))
	f.Add([]byte(`{"protected":"eyJhbGciOiJub25lIn0","payload":"","signature":""}`))
	f.Add([]byte(`{"signatures":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parseJWS(body, algorithms)
		if p := new(certorder.Problem); err != nil && (!errors.As(err, &p) || p.Status != 400) {
			t.Fatalf("%v is no problem of the client's", err)
		}
		if err == nil && ((m.header.KeyID == "") == (m.header.JSONWebKey == nil) || len(m.jws.Signatures) != 1 || strings.EqualFold(m.header.Algorithm, "none")) {
			t.Fatalf("taken: %+v", m.header)
		}
	})
}
