package vendorid

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/touchmark/touchmark/vetting"
)

// names are a vendor's compiled name rules.
type names []finder

// finder finds one identifier.
type finder struct {
	rule    vetting.NameRule
	values  func(*x509.Certificate) []string
	pattern *regexp.Regexp
	set     func(*vetting.Identity, string)
}

// maxPattern bounds a pattern, in bytes.
const maxPattern = 200

func (n *names) compile(v vetting.Vendor) error {
	for _, r := range [...]struct {
		field string
		rule  *vetting.NameRule
		set   func(*vetting.Identity, string)
	}{
		{"serial", v.Serial, func(id *vetting.Identity, s string) { id.Serial = s }},
		{"mac", v.MAC, func(id *vetting.Identity, s string) { id.MAC = s }},
		{"uid", v.UID, func(id *vetting.Identity, s string) { id.UID = s }},
	} {
		if r.rule == nil {
			continue
		}
		f, err := compileRule(*r.rule)
		if err != nil {
			return fmt.Errorf("the name rule of %s: %w", r.field, err)
		}
		f.set = r.set
		*n = append(*n, f)
	}
	return nil
}

func compileRule(r vetting.NameRule) (f finder, err error) {
	f.rule = r
	if f.values = place(r.From); f.values == nil {
		return f, fmt.Errorf("unknown place %q; known are %s", r.From, Places)
	}
	if r.Pattern == "" {
		return f, nil
	}
	if len(r.Pattern) > maxPattern {
		return f, fmt.Errorf("the pattern is %d bytes long: at most %d are allowed", len(r.Pattern), maxPattern)
	}
	if f.pattern, err = regexp.Compile(`^(?:` + r.Pattern + `)$`); err != nil {
		return f, fmt.Errorf("the pattern %q: %w", r.Pattern, err)
	}
	if n := f.pattern.NumSubexp(); n != 1 {
		return f, fmt.Errorf("the pattern %q has %d groups: enclose the identifier, and nothing else, in ( )", r.Pattern, n)
	}
	return f, nil
}

// CheckRule says what is wrong with a rule; nil is none.
func CheckRule(r *vetting.NameRule) error {
	if r == nil {
		return nil
	}
	_, err := compileRule(*r)
	return err
}

// Find applies one rule to a certificate.
func Find(r vetting.NameRule, c *x509.Certificate) (string, error) {
	f, err := compileRule(r)
	if err != nil {
		return "", err
	}
	return f.find(c)
}

// find reads all the identifiers of a certificate.
func (n names) find(c *x509.Certificate) (id vetting.Identity, err error) {
	for _, f := range n {
		value, err := f.find(c)
		if err != nil {
			return vetting.Identity{}, err
		}
		f.set(&id, value)
	}
	return id.Normalize()
}

func (f *finder) find(c *x509.Certificate) (string, error) {
	list := f.values(c)
	if len(list) != 1 {
		return "", fmt.Errorf("has %s %d times, and must have it once", f.rule.From, len(list))
	}
	if f.pattern == nil {
		return list[0], nil
	}
	m := f.pattern.FindStringSubmatch(list[0])
	if m == nil || m[1] == "" {
		return "", fmt.Errorf("its %s %q does not match %q", f.rule.From, list[0], f.rule.Pattern)
	}
	return m[1], nil
}

// Places lists, for people, where an identifier may stand.
const Places = "subject.serialNumber, subject.commonName, subject.organizationalUnit, subject.userId, subject.dnQualifier, subject.OID, " +
	"san.hardwareModuleName, san.hardwareModuleName.hex, san.permanentIdentifier, san.dns, san.uri, certificate.serialNumber"

var attributes = map[string]asn1.ObjectIdentifier{
	"commonName": {2, 5, 4, 3}, "serialNumber": {2, 5, 4, 5}, "organizationalUnit": {2, 5, 4, 11},
	"dnQualifier": {2, 5, 4, 46}, "userId": {0, 9, 2342, 19200300, 100, 1, 1},
}

// place gives what reads a place, nil if there is no such place.
func place(from string) func(*x509.Certificate) []string {
	if name, ok := strings.CutPrefix(from, "subject."); ok {
		oid, ok := attributes[name]
		if !ok {
			oid = parseOID(name)
		}
		if oid == nil {
			return nil
		}
		return func(c *x509.Certificate) []string { return attribute(c, oid) }
	}
	return map[string]func(*x509.Certificate) []string{
		"san.hardwareModuleName":     HardwareSerials,
		"san.hardwareModuleName.hex": func(c *x509.Certificate) []string { return moduleNames(c, hex.EncodeToString) },
		"san.permanentIdentifier":    PermanentIdentifiers,
		"san.dns":                    func(c *x509.Certificate) []string { return c.DNSNames },
		"san.uri": func(c *x509.Certificate) (list []string) {
			for _, u := range c.URIs {
				list = append(list, u.String())
			}
			return list
		},
		"certificate.serialNumber": func(c *x509.Certificate) []string { return []string{hex.EncodeToString(c.SerialNumber.Bytes())} },
	}[from]
}

func parseOID(s string) (oid asn1.ObjectIdentifier) {
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return nil
		}
		oid = append(oid, int(n))
	}
	if len(oid) < 2 {
		return nil
	}
	return oid
}

func attribute(c *x509.Certificate, oid asn1.ObjectIdentifier) (list []string) {
	for _, a := range c.Subject.Names {
		if s, ok := a.Value.(string); ok && a.Type.Equal(oid) {
			list = append(list, s)
		}
	}
	return list
}

var (
	oidPermanentIdentifier = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 3}
	oidHardwareModuleName  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 4}
)

// moduleNames are the hwSerialNum of all hardwareModuleNames (RFC 4108 §5).
func moduleNames(c *x509.Certificate, text func([]byte) string) (list []string) {
	for _, der := range otherNames(c, oidHardwareModuleName) {
		var name struct {
			Type   asn1.ObjectIdentifier
			Serial []byte
		}
		if rest, err := asn1.Unmarshal(der, &name); err == nil && len(rest) == 0 {
			list = append(list, text(name.Serial))
		}
	}
	return list
}

// HardwareSerials are the hwSerialNum of all hardwareModuleNames, as text.
func HardwareSerials(c *x509.Certificate) []string {
	return moduleNames(c, func(b []byte) string { return string(b) })
}

// PermanentIdentifiers are the identifierValues of all permanentIdentifiers
// (RFC 4043 §2).
func PermanentIdentifiers(c *x509.Certificate) (list []string) {
	for _, der := range otherNames(c, oidPermanentIdentifier) {
		var name struct {
			Value    string                `asn1:"utf8,optional"`
			Assigner asn1.ObjectIdentifier `asn1:"optional"`
		}
		if rest, err := asn1.Unmarshal(der, &name); err == nil && len(rest) == 0 && name.Value != "" {
			list = append(list, name.Value)
		}
	}
	return list
}

// otherNames are the values of a type of otherName in the subjectAltName (RFC
// 5280 §4.2.1.6).
func otherNames(c *x509.Certificate, of asn1.ObjectIdentifier) (list [][]byte) {
	for _, x := range c.Extensions {
		var all []asn1.RawValue
		if !x.Id.Equal(oidSubjectAltName) {
			continue
		}
		if rest, err := asn1.Unmarshal(x.Value, &all); err != nil || len(rest) > 0 {
			return nil
		}
		for _, name := range all {
			var other struct {
				Type  asn1.ObjectIdentifier
				Value asn1.RawValue `asn1:"tag:0"`
			}
			if name.Class != asn1.ClassContextSpecific || name.Tag != 0 {
				continue
			}
			if rest, err := asn1.UnmarshalWithParams(name.FullBytes, &other, "tag:0"); err == nil && len(rest) == 0 && other.Type.Equal(of) {
				list = append(list, other.Value.Bytes)
			}
		}
	}
	return list
}
