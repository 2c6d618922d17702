package rest

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/enroll/httperr"
)

// FuzzCertificate: a name that is accepted is the only name of its
// certificate, and any other error is the client's.
func FuzzCertificate(f *testing.F) {
	key := []byte{0x69, 0x88, 0x5b, 0x6b}
	h := &Handler{Issuers: func() [][]byte { return [][]byte{key} }}
	f.Add("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
	f.Add("aYhbaw.AIdlQyE")
	f.Add("aYhbaw.AQ")
	f.Add("aYhbaw.AAE")
	f.Add("aYhbaw.")
	f.Fuzz(func(t *testing.T, id string) {
		_, serial, err := h.certificate(id)
		var p *httperr.Error
		if err != nil {
			if !errors.As(err, &p) || p.Status != 400 && p.Status != 404 {
				t.Fatalf("%q: %v", id, err)
			}
			return
		}
		n, err := hex.DecodeString(serial)
		if err != nil || len(n) == 0 || len(n) > 1 && n[0] == 0 {
			t.Fatalf("%q: serial number %q", id, serial)
		}
		if n[0] >= 0x80 {
			n = append([]byte{0}, n...)
		}
		if want := base64.RawURLEncoding.EncodeToString(key) + "." + base64.RawURLEncoding.EncodeToString(n); id != want {
			t.Errorf("%q names what %q does", id, want)
		}
	})
}

// The example of RFC 9773 §4.1.
func TestCertificateOfTheStandard(t *testing.T) {
	key, err := hex.DecodeString(strings.ReplaceAll("69:88:5B:6B:87:46:40:41:E1:B3:7B:84:7B:A0:AE:2C:DE:01:C8:D4", ":", ""))
	if err != nil {
		t.Fatal(err)
	}
	h := &Handler{Issuers: func() [][]byte { return [][]byte{key} }}
	if _, serial, err := h.certificate("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"); serial != "87654321" || err != nil {
		t.Errorf("%s, %v", serial, err)
	}
}
