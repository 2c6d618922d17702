package challenge

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"

	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/vetting/vendorid"
)

// Whatever comes, a statement is refused by a problem of the client's, or its
// chain has a length that can be verified.
func FuzzStatement(f *testing.F) {
	f.Add([]byte{0xa2, 0x63, 'f', 'm', 't', 0x64, 's', 't', 'e', 'p', 0x67, 'a', 't', 't', 'S', 't', 'm', 't', 0xa1, 0x63, 'x', '5', 'c', 0x81, 0x41, 0})
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, object []byte) {
		payload, err := json.Marshal(map[string]string{"attObj": base64.RawURLEncoding.EncodeToString(object)})
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseStatement(payload)
		if err == nil {
			chain, cerr := s.chain()
			if err = cerr; err == nil && (len(chain) == 0 || len(chain) > vendorid.MaxChain) {
				t.Fatalf("a chain of %d", len(chain))
			}
		}
		if p := new(certorder.Problem); err != nil && !errors.As(err, &p) {
			t.Fatalf("%v is no problem of the client's", err)
		}
	})
}
