package device

import (
	"strings"
	"testing"
)

func TestParseLabel(t *testing.T) {
	for text, want := range map[string]Label{
		"touchmark://est.example.com:8443/lamp?code=7K3M-9QXT-2VWB-5HNC&order=PO-1": {"https://est.example.com:8443", "lamp", "", "PO-1", "7K3M-9QXT-2VWB-5HNC"},
		" touchmark://localhost/lamp?code=7K3M&order=PO-1&serial=A%3A1&later=x\n":   {"https://localhost", "lamp", "A:1", "PO-1", "7K3M"},
		"touchmark://[::1]:8443/lamp?code=7K3M":                                     {"https://[::1]:8443", "lamp", "", "", "7K3M"},
	} {
		if got, err := ParseLabel(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "7K3M-9QXT", "https://h/lamp?code=7K3M", "touchmark:lamp?code=7K3M", "touchmark:///lamp?code=7K3M", "touchmark://h/?code=7K3M", "touchmark://h/lamp",
		"touchmark://h/lamp?code=", "touchmark://h/lamp?code=7K3M&code=7K3N", "touchmark://h/lamp/more?code=7K3M", "touchmark://u:7K3M@h/lamp?code=7K3M",
		"touchmark://h/lamp?code=7K3M&serial=1&serial=2", "touchmark://h/lamp?code=7K3M#x", "touchmark://h/lamp?code=7K3M;x", "touchmark://h/lamp?code=7K3M\x7f", "touchmark://h:x/lamp?code=7K3M",
	} {
		if got, err := ParseLabel(text); err == nil {
			t.Errorf("%q passes as %+v", text, got)
		} else if strings.Contains(err.Error(), "7K3M") {
			t.Errorf("%q: the error repeats the code: %v", text, err)
		}
	}
}

// FuzzParseLabel: what passes names a server, a product and a code, and no
// error repeats the text.
func FuzzParseLabel(f *testing.F) {
	f.Add("touchmark://est.example.com:8443/lamp?code=7K3M-9QXT-2VWB-5HNC&order=PO-1&serial=A-1")
	f.Add("touchmark://[::1]/lamp?code=7K3M")
	f.Add("touchmark://h/lamp?code=%zz")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ParseLabel(text)
		switch {
		case err != nil && (l != Label{} || len(text) > 60 && strings.Contains(err.Error(), text)):
			t.Errorf("%q: %+v, %v", text, l, err)
		case err == nil && (!strings.HasPrefix(l.Server, "https://") || len(l.Server) == len("https://") || l.Product == "" || strings.Contains(l.Product, "/") || l.Code == ""):
			t.Errorf("%q passes as %+v", text, l)
		}
	})
}
