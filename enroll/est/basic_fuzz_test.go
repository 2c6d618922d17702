package est

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/vetting"
)

// FuzzCredentials: what passes is a code of the right form after the last
// colon, and before it what can be a serial number; an error repeats no
// password.
func FuzzCredentials(f *testing.F) {
	f.Add([]byte("SN-1:ZZZZ-ZZZZ-ZZZZ-ZZZF"))
	f.Add([]byte(":zzzzzzzzzzzzzzzf"))
	f.Add([]byte("00:11:22:ZZZZ-ZZZZ-ZZZZ-ZZZF"))
	f.Add([]byte("SN-1:"))
	f.Add([]byte(":"))
	f.Add([]byte("SN-1\x00:ZZZZ-ZZZZ-ZZZZ-ZZZF"))
	f.Fuzz(func(t *testing.T, plain []byte) {
		c, err := parseCredentials(base64.StdEncoding.EncodeToString(plain))
		user, password := "", string(plain)
		if i := strings.LastIndexByte(password, ':'); i >= 0 {
			user, password = password[:i], password[i+1:]
		}
		if err != nil {
			if c != nil || len(password) >= 10 && strings.Contains(err.Error(), password) {
				t.Errorf("%q: %+v, %v", plain, c, err)
			}
			return
		}
		code, err := vetting.ParseOneTimeCode(password)
		if err != nil || c.code != code.Hash() || c.serial != strings.TrimSpace(user) || len(c.serial) > vetting.MaxSerialLength {
			t.Errorf("%q passes as %+v", plain, c)
		}
	})
}
