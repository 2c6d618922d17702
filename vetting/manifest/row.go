package manifest

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// columns are the names of a record's fields in both formats.
var columns = [...]string{
	"serial", "mac", "uid", "bootstrapKey", "bootstrapCertificate", "bootstrapPublicKey",
	"ekHash", "hardwareRevision", "firmware", "line", "rig", "time", "tests", "order", "product",
}

func column(name string) int { return slices.Index(columns[:], name) }

// row is one record as text. An empty value is one that was not given.
type row struct {
	values [len(columns)]string
	given  [len(columns)]bool
}

func (w *row) get(name string) string { return w.values[column(name)] }

func (w *row) set(name, value string) error {
	i := column(name)
	if i < 0 {
		return bad("%v", unknown(name))
	}
	if w.given[i] {
		return bad("%s is given twice", name)
	}
	w.values[i], w.given[i] = value, true
	return nil
}

// record makes the record of a row; every error is a *badLine.
func (w *row) record(rules Rules) (vetting.Record, error) {
	rec := vetting.Record{
		Identity: vetting.Identity{Serial: w.get("serial"), MAC: w.get("mac"), UID: w.get("uid")},
		Made: vetting.Manufacturing{
			EKHash:           strings.ToLower(w.get("ekHash")),
			HardwareRevision: w.get("hardwareRevision"),
			Firmware:         w.get("firmware"),
			Line:             w.get("line"),
			Rig:              w.get("rig"),
		},
	}
	for _, step := range []func(*vetting.Record) error{w.key, w.time, w.tests, (*vetting.Record).Check} {
		if err := step(&rec); err != nil {
			return rec, bad("%v", err)
		}
	}
	if err := rules.check(w, &rec); err != nil {
		return rec, bad("%v", err)
	}
	return rec, nil
}

// key takes the bootstrap key from the fields that may name it, which must
// agree.
func (w *row) key(rec *vetting.Record) error {
	from := ""
	for _, f := range [...]struct {
		column string
		read   func(string) (vetting.Fingerprint, error)
	}{
		{"bootstrapKey", vetting.ParseFingerprint},
		{"bootstrapCertificate", certificateKey},
		{"bootstrapPublicKey", publicKey},
	} {
		text := w.get(f.column)
		if text == "" {
			continue
		}
		key, err := f.read(text)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", f.column, err)
		case key.IsZero():
			return fmt.Errorf("%s: all zeros are no key's fingerprint", f.column)
		case from != "" && key != rec.BootstrapKey:
			return fmt.Errorf("%s and %s are of different keys (%s and %s)", from, f.column, rec.BootstrapKey, key)
		}
		rec.BootstrapKey, from = key, f.column
	}
	return nil
}

// certificateKey reads a certificate, PEM or base64 of DER.
func certificateKey(text string) (vetting.Fingerprint, error) {
	der, err := certificateDER(text)
	if err != nil {
		return vetting.Fingerprint{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return vetting.Fingerprint{}, fmt.Errorf("not an X.509 certificate: %w", err)
	}
	return vetting.KeyFingerprint(cert.RawSubjectPublicKeyInfo), nil
}

func certificateDER(text string) ([]byte, error) {
	if strings.Contains(text, "-----BEGIN") {
		return pemBlock(text, "CERTIFICATE")
	}
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return nil, fmt.Errorf("neither PEM nor base64: %w", err)
	}
	return der, nil
}

// publicKey reads a PEM SubjectPublicKeyInfo (RFC 7468 §13).
func publicKey(text string) (vetting.Fingerprint, error) {
	spki, err := pemBlock(text, "PUBLIC KEY")
	if err != nil {
		return vetting.Fingerprint{}, err
	}
	if _, err := x509.ParsePKIXPublicKey(spki); err != nil {
		return vetting.Fingerprint{}, fmt.Errorf("not a public key: %w", err)
	}
	return vetting.KeyFingerprint(spki), nil
}

func pemBlock(text, kind string) ([]byte, error) {
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return nil, errors.New("not PEM")
	case block.Type != kind:
		return nil, fmt.Errorf("a PEM block of type %q: want %q", block.Type, kind)
	case !blank(rest):
		return nil, errors.New("something follows the PEM block")
	}
	return block.Bytes, nil
}

// time keeps microseconds, which is what every database keeps.
func (w *row) time(rec *vetting.Record) error {
	text := w.get("time")
	if text == "" {
		return nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fmt.Errorf("time %q is not in the form of RFC 3339, such as 2026-11-21T08:30:00Z", text)
	}
	if t = t.UTC().Truncate(time.Microsecond); t.Year() < 1970 || t.Year() > 9999 {
		return fmt.Errorf("time %q is out of range", text)
	}
	rec.Made.Time = t
	return nil
}

// tests keeps the test results without insignificant space, so that the same
// results are the same bytes.
func (w *row) tests(rec *vetting.Record) error {
	text := w.get("tests")
	if text == "" || text == "null" {
		return nil
	}
	if err := checkJSON([]byte(text)); err != nil {
		return fmt.Errorf("tests is not JSON: %w", err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		return fmt.Errorf("tests is not JSON: %w", err)
	}
	rec.Made.Tests = b.Bytes()
	return nil
}

// unknown says that there is no such field, and which may be meant.
func unknown(name string) error {
	near, best := "", 4 // farther off is no help
	for _, c := range columns {
		if d := distance(strings.ToLower(clip(name)), strings.ToLower(c)); d < best {
			near, best = c, d
		}
	}
	if near == "" {
		return fmt.Errorf("unknown field %q; known are %s", name, strings.Join(columns[:], ", "))
	}
	return fmt.Errorf("unknown field %q; did you mean %q?", name, near)
}

// distance is the number of single-byte edits between two words.
func distance(a, b string) int {
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		cur := make([]int, len(b)+1)
		cur[0] = i + 1
		for j := range len(b) {
			change := prev[j]
			if a[i] != b[j] {
				change++
			}
			cur[j+1] = min(change, prev[j+1]+1, cur[j]+1)
		}
		prev = cur
	}
	return prev[len(b)]
}
