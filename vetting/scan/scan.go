// Package scan reads what scanners give for the labels of devices.
package scan

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/touchmark/touchmark/vetting"
)

// MaxLength is the longest text of a scanned code that is read, in bytes.
const MaxLength = 2048

// Label is what a scanned code names.
type Label struct {
	vetting.Identity
	Product string
}

// ErrEnrolmentCode says that what was scanned is a one-time enrolment code:
// a secret that lets a device in, and no name of one.
var ErrEnrolmentCode = errors.New("this is a one-time enrolment code, which says nothing of who the device is; scan the label with the serial number, and keep the code secret")

// Parse reads what a scanner gave for a label: a URI with the parameters
// serial, mac, uid and product (touchmark:device?serial=… or the maker's own
// page), a DEV URN with a MAC address (RFC 9039 §4.1), fields as they are
// printed (SN:…, MAC:…, UID:…, MODEL:…, one after the other), or a bare MAC
// address or serial number. Nothing is fetched. The identity is normalized.
func Parse(text string) (Label, error) {
	if len(text) > MaxLength {
		return Label{}, fmt.Errorf("the scanned code is %d bytes long: at most %d are read", len(text), MaxLength)
	}
	text = strings.TrimSpace(text)
	if isEnrolmentCode(text) {
		return Label{}, ErrEnrolmentCode
	}
	s, err := readScan(text)
	if err != nil {
		return Label{}, err
	}
	if s.Identity, err = s.Identity.Normalize(); err != nil {
		return Label{}, fmt.Errorf("the scanned code: %w", err)
	}
	if s.Product != "" {
		if err := vetting.CheckName("product", s.Product); err != nil {
			return Label{}, fmt.Errorf("the scanned code: %w", err)
		}
	}
	if s.Identity.IsZero() {
		return Label{}, errors.New("the scanned code names no serial number, MAC address or UID")
	}
	return s, nil
}

// isEnrolmentCode recognizes a one-time code as it is printed. Without its
// hyphens it is not told from a serial number.
func isEnrolmentCode(text string) bool {
	c, err := vetting.ParseOneTimeCode(text)
	return err == nil && strings.EqualFold(c.Label(), text)
}

func readScan(text string) (Label, error) {
	if mac, ok := cutPrefixFold(text, "urn:dev:mac:"); ok {
		mac, _, _ = strings.Cut(mac, "_") // a component of the device
		return Label{Identity: vetting.Identity{MAC: mac}}, nil
	}
	scheme, _, _ := strings.Cut(text, ":")
	switch strings.ToLower(scheme) {
	case "touchmark", "https", "http":
		return readURI(text)
	}
	if s, ok, err := readFields(text); ok || err != nil {
		return s, err
	}
	if macForm.MatchString(text) {
		return Label{Identity: vetting.Identity{MAC: text}}, nil
	}
	return Label{Identity: vetting.Identity{Serial: text}}, nil
}

// macForm is a MAC address with separators; without them it would look like
// a serial number.
var macForm = regexp.MustCompile(`^(?i)[0-9a-f]{2}([:-][0-9a-f]{2}){5}(([:-][0-9a-f]{2}){2})?$|^(?i)[0-9a-f]{4}(\.[0-9a-f]{4}){2,3}$`)

func readURI(text string) (Label, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Label{}, errors.New("the scanned code begins like a URI, but is none")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Label{}, errors.New("the scanned code's URI has damaged parameters")
	}
	var s Label
	for name, values := range q {
		if strings.EqualFold(name, "code") {
			return Label{}, ErrEnrolmentCode
		}
		field := s.field(name)
		if field == nil {
			continue // a maker's page may want others
		}
		if len(values) > 1 || *field != "" {
			return Label{}, fmt.Errorf("the scanned code gives %s twice", name)
		}
		*field = values[0]
	}
	return s, nil
}

// field is what a name on a label stands for; nil if for nothing here.
func (s *Label) field(name string) *string {
	switch strings.ToLower(strings.Trim(name, " .")) {
	case "sn", "s/n", "serial", "serialnumber", "serial no", "serial number":
		return &s.Serial
	case "mac", "mac address":
		return &s.MAC
	case "uid":
		return &s.UID
	case "product", "model", "p/n", "pn":
		return &s.Product
	}
	return nil
}

// readFields reads NAME:VALUE or NAME=VALUE, several of them on lines or
// after semicolons; ok is false if the text has not that form.
func readFields(text string) (s Label, ok bool, err error) {
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' || r == ';' || r == '|' }) {
		i := strings.IndexAny(part, ":=")
		if i < 0 {
			continue
		}
		field := s.field(part[:i])
		if field == nil {
			continue
		}
		if *field != "" {
			return Label{}, false, fmt.Errorf("the scanned code gives %s twice", strings.TrimSpace(part[:i]))
		}
		*field, ok = strings.TrimSpace(part[i+1:]), true
		if isEnrolmentCode(*field) {
			return Label{}, false, ErrEnrolmentCode
		}
	}
	return s, ok, nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// Into adds what a scanner read to what was said of the unit; the two must
// not contradict each other.
func Into(i *vetting.Inspection, text string) error {
	s, err := Parse(text)
	if err != nil {
		return err
	}
	for _, f := range [...]struct {
		name string
		into *string
		read string
	}{{"serial", &i.Asked.Serial, s.Serial}, {"mac", &i.Asked.MAC, s.MAC}, {"uid", &i.Asked.UID, s.UID}, {"product", &i.Product, s.Product}} {
		if f.read != "" && *f.into != "" && *f.into != f.read {
			return fmt.Errorf("the scanned code has the %s %q, but %q was given beside it", f.name, f.read, *f.into)
		}
		if f.read != "" {
			*f.into = f.read
		}
	}
	return nil
}
