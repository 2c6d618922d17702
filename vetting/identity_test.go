package vetting_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/vetting"
)

func TestNormalize(t *testing.T) {
	long := strings.Repeat("x", vetting.MaxSerialLength)
	for _, tt := range []struct {
		in   vetting.Identity
		want vetting.Identity
		err  string // "" if good
	}{
		{in: vetting.Identity{}},
		{in: vetting.Identity{Serial: " SN-1\t"}, want: vetting.Identity{Serial: "SN-1"}},
		{in: vetting.Identity{Serial: "sn-1"}, want: vetting.Identity{Serial: "sn-1"}}, // case means something
		{in: vetting.Identity{Serial: long}, want: vetting.Identity{Serial: long}},
		{in: vetting.Identity{Serial: long + "x"}, err: "65 bytes"},
		{in: vetting.Identity{Serial: "a/b"}, err: `'/'`},
		{in: vetting.Identity{Serial: "a b"}, err: `' '`},
		{in: vetting.Identity{Serial: `a"b`}, err: `'"'`},
		{in: vetting.Identity{Serial: "a\x00b"}, err: `'\x00'`},
		{in: vetting.Identity{Serial: "é"}, err: "'é'"},
		{in: vetting.Identity{MAC: "00:1A:2b:3c:4d:5e"}, want: vetting.Identity{MAC: "00:1a:2b:3c:4d:5e"}},
		{in: vetting.Identity{MAC: "00-1A-2B-3C-4D-5E"}, want: vetting.Identity{MAC: "00:1a:2b:3c:4d:5e"}},
		{in: vetting.Identity{MAC: "001a.2b3c.4d5e"}, want: vetting.Identity{MAC: "00:1a:2b:3c:4d:5e"}},
		{in: vetting.Identity{MAC: "001A2B3C4D5E"}, want: vetting.Identity{MAC: "00:1a:2b:3c:4d:5e"}},
		{in: vetting.Identity{MAC: "001A2BFFFE3C4D5E"}, want: vetting.Identity{MAC: "00:1a:2b:ff:fe:3c:4d:5e"}},
		{in: vetting.Identity{MAC: "00:1A:2B:3C:4D"}, err: "not a MAC address"},
		{in: vetting.Identity{MAC: "00:1A:2B:3C:4D:5G"}, err: "not a MAC address"},
		{in: vetting.Identity{MAC: "::"}, err: "not a MAC address"},
		{in: vetting.Identity{UID: "DE:AD-BE EF"}, want: vetting.Identity{UID: "deadbeef"}},
		{in: vetting.Identity{UID: "Chip_7"}, want: vetting.Identity{UID: "Chip_7"}}, // not hexadecimal: as it is
		{in: vetting.Identity{UID: ":"}, want: vetting.Identity{UID: ":"}},
		{in: vetting.Identity{UID: "chip 7"}, err: `' '`},
		{in: vetting.Identity{UID: strings.Repeat("ab", 33)}, err: "66 bytes"},
	} {
		got, err := tt.in.Normalize()
		switch {
		case tt.err == "" && (err != nil || got != tt.want):
			t.Errorf("%+v became %+v, %v; want %+v", tt.in, got, err, tt.want)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !got.IsZero()):
			t.Errorf("%+v became %+v, %v; want an error that mentions %q", tt.in, got, err, tt.err)
		}
	}
}

// FuzzNormalize: what is normal stays as it is, is fit for a URL and an X.520
// attribute, and does not depend on how it was written.
func FuzzNormalize(f *testing.F) {
	f.Add("SN-1", "00-1A-2B-3C-4D-5E", "DE:AD")
	f.Add(" a ", "001a.2b3c.4d5e", ":")
	f.Add("é", "", "- - AB")
	f.Fuzz(func(t *testing.T, serial, mac, uid string) {
		id, err := vetting.Identity{Serial: serial, MAC: mac, UID: uid}.Normalize()
		if err != nil {
			if !id.IsZero() {
				t.Fatalf("%+v beside an error", id)
			}
			return
		}
		if again, err := id.Normalize(); err != nil || again != id {
			t.Fatalf("%+v became %+v the second time: %v", id, again, err)
		}
		if len(id.Serial) > vetting.MaxSerialLength || len(id.UID) > vetting.MaxUIDLength {
			t.Fatalf("%+v is too long", id)
		}
		for _, s := range []string{id.Serial, id.MAC, id.UID} {
			for _, c := range []byte(s) {
				if c <= ' ' || c >= 0x7f || strings.IndexByte(`/\"'<>&`, c) >= 0 {
					t.Fatalf("%q holds %q", s, c)
				}
			}
		}
		if n := len(id.MAC); id.MAC != "" && n != 17 && n != 23 {
			t.Fatalf("MAC %q", id.MAC)
		}
		if shout, err := (vetting.Identity{Serial: serial, MAC: strings.ToUpper(id.MAC), UID: uid}).Normalize(); err != nil || shout != id {
			t.Fatalf("MAC in capitals: %+v, %v", shout, err)
		}
	})
}

func TestIdentityReads(t *testing.T) {
	if s := (vetting.Identity{}).String(); s != "no identity" {
		t.Error(s)
	}
	if s := (vetting.Identity{Serial: "a", MAC: "b", UID: "c"}).String(); s != "serial a, MAC b, UID c" {
		t.Error(s)
	}
}

func TestFingerprint(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	fp, err := vetting.PublicKeyFingerprint(key.Public())
	if err != nil || fp != vetting.Fingerprint(sha256.Sum256(spki)) || fp != vetting.KeyFingerprint(spki) {
		t.Fatalf("%s, %v", fp, err)
	}
	if _, err := vetting.PublicKeyFingerprint("no key"); err == nil {
		t.Error("fingerprint of a string")
	}
	var colons []string
	for i := 0; i < 64; i += 2 {
		colons = append(colons, strings.ToUpper(fp.String()[i:i+2]))
	}
	for _, s := range []string{fp.String(), strings.ToUpper(fp.String()), " " + strings.Join(colons, ":") + "\n"} {
		if got, err := vetting.ParseFingerprint(s); err != nil || got != fp {
			t.Errorf("%q: %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "ab", fp.String() + "00", strings.Repeat("g", 64)} {
		if got, err := vetting.ParseFingerprint(s); err == nil || !got.IsZero() {
			t.Errorf("%q: %s, %v", s, got, err)
		}
	}
	type holder struct {
		Key  vetting.Fingerprint `json:"key"`
		None vetting.Fingerprint `json:"none"`
	}
	b, err := json.Marshal(holder{Key: fp})
	var back holder
	if err != nil || json.Unmarshal(b, &back) != nil || !reflect.DeepEqual(back, holder{Key: fp}) || !strings.Contains(string(b), `"none":""`) {
		t.Errorf("%s became %+v, %v", b, back, err)
	}
}

func TestCheckName(t *testing.T) {
	for name, good := range map[string]bool{
		"lamp": true, "L": true, "0-lamp_v1.2": true, strings.Repeat("a", vetting.MaxNameLength): true,
		"": false, "-lamp": false, ".": false, "..": false, "a/b": false, "a b": false, "é": false, "a%2f": false, strings.Repeat("a", vetting.MaxNameLength+1): false,
		"simpleenroll": false, "simplereenroll": false, "cacerts": false, "csrattrs": false, "fullcmc": false, "serverkeygen": false,
	} {
		if err := vetting.CheckName("product", name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		} else if err != nil && !strings.Contains(err.Error(), "product") {
			t.Errorf("%q: the error does not say of what: %v", name, err)
		}
	}
}
