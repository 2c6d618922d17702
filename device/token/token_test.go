package token

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParsePlace(t *testing.T) {
	pin := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pin, []byte("hush17\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := ParsePlace("pkcs11:token=my%20token;object=gw?module-path=/lib/p11.so&pin-source=file:" + pin)
	if want := (Place{Module: "/lib/p11.so", Token: "my token", Object: "gw", PIN: "hush17"}); err != nil || p != want {
		t.Errorf("read as %+v: %v", p, err)
	}
	if p, err := ParsePlace("pkcs11:module-path=/lib/p11.so;serial=17?pin-value=hush17"); err != nil || p.Object != "touchmark-agent" || p.Serial != "17" || p.PIN != "hush17" {
		t.Errorf("read as %+v: %v", p, err)
	}
	for uri, say := range map[string]string{
		"file:":                                                "not a pkcs11",
		"pkcs11:token=a?pin-value=hush17":                      "module-path",
		"pkcs11:module-path=a?slot=hush17":                     "no \"slot\"",
		"pkcs11:module-path=a;token=%zz":                       "percent-encoded",
		"pkcs11:module-path=a;token=b?pin-source=" + pin + "x": "pin-source",
	} {
		if _, err := ParsePlace(uri); err == nil || !strings.Contains(err.Error(), say) || strings.Contains(err.Error(), "hush17") {
			t.Errorf("%s: %v", uri, err)
		}
	}
}
