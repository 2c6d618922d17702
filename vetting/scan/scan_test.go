package scan_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/scan"
)

func TestParse(t *testing.T) {
	type id = vetting.Identity
	for text, want := range map[string]scan.Label{
		"TH-000001": {Identity: id{Serial: "TH-000001"}},
		" SN:TH-1 ": {Identity: id{Serial: "TH-1"}},
		"S/N: TH-1\nMAC: 02-00-00-00-00-01\nMODEL: lamp": {Identity: id{Serial: "TH-1", MAC: "02:00:00:00:00:01"}, Product: "lamp"},
		"SN=TH-1;UID=AABB;BATCH=9":                       {Identity: id{Serial: "TH-1", UID: "aabb"}},
		"02:00:00:00:00:01":                              {Identity: id{MAC: "02:00:00:00:00:01"}},
		"0200.0000.0001":                                 {Identity: id{MAC: "02:00:00:00:00:01"}},
		"020000000001":                                   {Identity: id{Serial: "020000000001"}},
		"urn:dev:mac:0200000000000001_lamp":              {Identity: id{MAC: "02:00:00:00:00:00:00:01"}},
		"touchmark:device?serial=TH-1&product=lamp":      {Identity: id{Serial: "TH-1"}, Product: "lamp"},
		"https://example.com/d?utm=1&SN=TH-1":            {Identity: id{Serial: "TH-1"}},
		"AB-12:34":                                       {Identity: id{Serial: "AB-12:34"}},
	} {
		if got, err := scan.Parse(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, word := range map[string]string{
		"":                          "names no serial",
		"https://example.com/":      "names no serial",
		"https://example.com/%zz":   "URI",
		"SN:A;SN:B":                 "twice",
		"touchmark:d?sn=A&sn=B":     "twice",
		"touchmark:d?sn=A&serial=B": "twice",
		"MAC:12":                    "not a MAC address",
		"a b":                       "character",
		"MODEL:no such;SN:A":        "allowed are",
		strings.Repeat("x", 2049):   "at most",
	} {
		if got, err := scan.Parse(text); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %+v, %v; want an error that says %q", text, got, err, word)
		}
	}
}

// An enrolment code is a secret: it is refused and not repeated.
func TestParseRefusesEnrolmentCodes(t *testing.T) {
	const secret = "EHQQ-ARV8-DNGQ-4TS6"
	for _, text := range []string{secret, "sn:" + strings.ToLower(secret), "touchmark:enrol?code=" + secret, "https://example.com/?serial=A&code=" + secret} {
		if _, err := scan.Parse(text); !errors.Is(err, scan.ErrEnrolmentCode) || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestParseEnrolment(t *testing.T) {
	const secret = "EHQQ-ARV8-DNGQ-4TS6"
	for text, want := range map[string]scan.Enrolment{
		secret:                      {},
		" ehqqarv8dngq 4ts6\n":      {},
		"touchmark:?code=" + secret: {},
		"TOUCHMARK://h:8443/lamp?code=" + secret + "&order=PO-1&later=x": {Product: "lamp"},
		"touchmark://h/lamp?code=" + secret + "&serial=A%3A1":            {Product: "lamp", Serial: "A:1"},
	} {
		if got, err := scan.ParseEnrolment(text); err != nil || got.Code.Label() != secret || got.Serial != want.Serial || got.Product != want.Product {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "https://h/lamp?code=" + secret, "touchmark://h/lamp", "touchmark://h/a/b?code=" + secret, "touchmark://h/lamp?code=" + secret + "&code=" + secret,
		"touchmark://h/lamp?code=" + secret + "&serial=A&serial=B", "touchmark://h/lamp?code=" + secret + "&serial=a+b", "touchmark://h/lamp?code=" + secret + ";",
		"touchmark://h/lamp?code=" + secret + "\x7f", "touchmark://h/lamp?code=EHQQ-ARV8-DNGQ-4TS7", "touchmark://h/lamp?order=" + strings.Repeat("x", 2048) + "&code=" + secret,
	} {
		if got, err := scan.ParseEnrolment(text); err == nil || got != (scan.Enrolment{}) {
			t.Errorf("%q passes as %+v, %v", text, got, err)
		} else if strings.Contains(err.Error(), secret[:9]) {
			t.Errorf("%q: the error repeats the code: %v", text, err)
		}
	}
}

// FuzzParseEnrolment: what passes has a code and normal names, no error
// repeats the text, and no label of a code is taken for one of a device.
func FuzzParseEnrolment(f *testing.F) {
	for _, s := range []string{"EHQQ-ARV8-DNGQ-4TS6", "touchmark://h:1/lamp?code=EHQQ-ARV8-DNGQ-4TS6&serial=A-1", "touchmark:?code=%45HQQ-ARV8-DNGQ-4TS6", "ehqqarv8dngq4ts6"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := scan.ParseEnrolment(text)
		if err != nil {
			if e != (scan.Enrolment{}) || len(text) > 16 && strings.Contains(err.Error(), text) {
				t.Errorf("%q: %+v, %v", text, e, err)
			}
			return
		}
		if again, err := vetting.ParseOneTimeCode(e.Code.Label()); err != nil || again != e.Code {
			t.Errorf("%q gives a code that is none: %v", text, err)
		}
		if id, err := (vetting.Identity{Serial: e.Serial}).Normalize(); err != nil || id.Serial != e.Serial {
			t.Errorf("%q gives the serial number %q: %v", text, e.Serial, err)
		}
		if _, err := scan.Parse(text); strings.Contains(text, "code=") && !errors.Is(err, scan.ErrEnrolmentCode) {
			t.Errorf("%q is taken for a device's label: %v", text, err)
		}
	})
}

// FuzzParse asserts that what is read is normal: reading it again from
// the fields gives the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"TH-1", "SN:TH-1;MAC:020000000001", "touchmark:device?serial=A&uid=00", "urn:dev:mac:020000000001", "EHQQ-ARV8-DNGQ-4TS6", "S/N=\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := scan.Parse(text)
		if err != nil {
			return
		}
		if s.Identity.IsZero() {
			t.Fatalf("%q names nothing", text)
		}
		again, err := s.Identity.Normalize()
		if err != nil || again != s.Identity {
			t.Errorf("%q gives %+v, which is not normal: %+v, %v", text, s.Identity, again, err)
		}
		var fields []string
		for name, value := range map[string]string{"SN": s.Serial, "MAC": s.MAC, "UID": s.UID, "MODEL": s.Product} {
			if value != "" {
				fields = append(fields, name+":"+value)
			}
		}
		if strings.ContainsAny(s.Serial+s.UID, ";|") {
			return // cannot be written as fields
		}
		if printed, err := scan.Parse(strings.Join(fields, "\n")); err != nil || printed != s {
			t.Errorf("%q gives %+v, which printed gives %+v, %v", text, s, printed, err)
		}
	})
}
