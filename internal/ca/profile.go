package ca

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/touchmark/touchmark/vetting"
	"go.step.sm/crypto/x509util"
)

// Variables are the names that a profile's template may use, as {{ .Serial }}
// and so on. Every value is escaped for use inside a JSON string; a value
// that a record does not have is empty.
type Variables struct {
	Serial           string // the unit's serial number
	MAC              string // e.g. 02:00:5e:10:00:01
	UID              string // the chip's UID
	Product          string
	Order            string
	Site             string
	Owner            string // empty while the device is the manufacturer's
	Device           string // the device's ID
	HardwareRevision string
	Line             string
	BootstrapKey     string // fingerprint, 64 hexadecimal digits
	EKHash           string
}

// DefaultTemplate is used by a profile without one. Further names are made
// with x509util's forms, for instance
//
//	"sans": [
//	  {"type": "uri", "value": "urn:dev:mac:{{ .MAC }}"},
//	  {"type": "dns", "value": "{{ .Serial | lower }}.devices.example.com"},
//	  {"type": "permanentIdentifier", "value": "{{ .UID }}"},
//	  {"type": "hardwareModuleName", "asn1Value":
//	    {"type": "1.3.6.1.4.1.99999.1", "serialNumber": "{{ .Serial | b64enc }}"}}
//	]
const DefaultTemplate = `{
  "subject": {"commonName": "{{ .Serial }}", "serialNumber": "{{ .Serial }}"},
  "keyUsage": ["digitalSignature"],
  "extKeyUsage": ["clientAuth"]
}`

// ServerTemplate is used by a product of servers without one; its serial
// numbers are DNS names.
const ServerTemplate = `{
  "subject": {"commonName": "{{ .Serial }}"},
  "sans": [{"type": "dns", "value": "{{ .Serial }}"}],
  "keyUsage": ["digitalSignature"],
  "extKeyUsage": ["serverAuth"]
}`

// profileFor is a product's profile with the template that it has for want of
// one.
func profileFor(p *vetting.Product) vetting.Profile {
	made := p.Profile
	if made.Template == "" && p.Accepts(vetting.ProofDomain) {
		made.Template = ServerTemplate
	}
	return made
}

// forever is the notAfter of a certificate without a well-defined end
// (RFC 5280 §4.1.2.5).
var forever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

var knownKeys = []string{"P-256", "P-384", "P-521", "Ed25519", "RSA-2048", "RSA-3072", "RSA-4096"}

// profile is a compiled vetting.Profile.
type profile struct {
	template *template.Template
	validity time.Duration // 0 is forever
	keys     []string

	noStatusURLs bool
}

func compile(p vetting.Profile) (*profile, error) {
	text := p.Template
	if text == "" {
		text = DefaultTemplate
	}
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("the certificate template is %d bytes long: at most %d are allowed", len(text), maxTemplate)
	}
	functions := x509util.GetFuncMap()
	t, err := template.New("profile").Option("missingkey=error").Funcs(functions).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the certificate template does not parse: %w", err)
	}
	validity, err := ParseValidity(p.Validity)
	if err != nil {
		return nil, err
	}
	for _, k := range p.Keys {
		if !slices.Contains(knownKeys, k) {
			return nil, fmt.Errorf("unknown kind of key %q; known are %s", k, strings.Join(knownKeys, ", "))
		}
	}
	return &profile{template: t, validity: validity, keys: p.KeyKinds(), noStatusURLs: p.NoStatusURLs}, nil
}

// maxTemplate bounds a profile's template, in bytes.
const maxTemplate = 32 << 10

// ParseValidity reads "825d", "397d12h", any Go duration, or "forever",
// which is 0.
func ParseValidity(s string) (time.Duration, error) {
	if s == "forever" {
		return 0, nil
	}
	rest, days := s, 0
	if d, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.Atoi(d)
		if err != nil || n < 0 || n > 36500 {
			return 0, fmt.Errorf("validity %q: want for instance \"825d\", \"12h\" or \"forever\"", s)
		}
		rest, days = after, n
	}
	total := time.Duration(days) * 24 * time.Hour
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil {
			return 0, fmt.Errorf("validity %q: want for instance \"825d\", \"12h\" or \"forever\"", s)
		}
		total += d
	}
	if total < time.Minute {
		return 0, fmt.Errorf("validity %q is shorter than a minute", s)
	}
	return total, nil
}

// render makes the certificate's template for one device.
func (p *profile) render(v Variables) (*x509.Certificate, error) {
	var out bytes.Buffer
	if err := p.template.Execute(&out, v.escaped()); err != nil {
		return nil, fmt.Errorf("the certificate template fails: %w", err)
	}
	var c x509util.Certificate
	d := json.NewDecoder(&out)
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("the certificate template gives no certificate: %w", err)
	}
	if _, err := d.Token(); err == nil {
		return nil, errors.New("the certificate template gives more than one JSON object")
	}
	names, err := subjectAltName(&c)
	if err != nil {
		return nil, err
	}
	t := c.GetCertificate()
	if len(names) > 0 {
		// RFC 5280 §4.2.1.6: critical if there is no other name.
		critical := len(t.Subject.ToRDNSequence()) == 0
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: oidSubjectAltName, Critical: critical, Value: names})
	}
	return t, errors.Join(harmless(t), p.honest(t))
}

// honest refuses a certificate that is said to have no status (RFC 9608) and
// lives longer than one can wait for its end, or names a place to ask.
func (p *profile) honest(t *x509.Certificate) error {
	switch x := t.ExtraExtensions; {
	case extension(x, oidNoRevAvail) == nil:
		return nil
	case p.validity == 0 || p.validity > shortLived:
		return fmt.Errorf("the template gives noRevAvail (%s), so the validity can be 10d at most: nobody will say whether the certificate was revoked", oidNoRevAvail)
	case extension(x, oidCRLDistributionPoints) != nil || extension(x, oidAuthorityInfoAccess) != nil:
		return fmt.Errorf("the template gives noRevAvail (%s) and says where the certificate's status can be learnt: leave one of them out", oidNoRevAvail)
	}
	return nil
}

// subjectAltName takes the template's "sans" and makes the extension's value
// of them; x509util by itself does so only for whole requests, and knows
// other names only there.
func subjectAltName(c *x509util.Certificate) ([]byte, error) {
	if len(c.SANs) == 0 {
		return nil, nil
	}
	names := make([]asn1.RawValue, len(c.SANs))
	for i, san := range c.SANs {
		var err error
		if names[i], err = rawName(san); err != nil {
			return nil, fmt.Errorf("the certificate template's SAN %d: %w", i+1, err)
		}
	}
	c.SANs = nil
	return asn1.Marshal(names)
}

// rawName is a name as the extension has it. x509util knows no wildcards (RFC
// 9525 §6.3).
func rawName(san x509util.SubjectAlternativeName) (asn1.RawValue, error) {
	below, wild := strings.CutPrefix(san.Value, "*.")
	if san.Type != x509util.DNSType || !wild {
		return san.RawValue()
	}
	san.Value = below
	raw, err := san.RawValue()
	raw.Bytes = append([]byte("*."), raw.Bytes...)
	return raw, err
}

// harmless refuses what no device certificate may have, whatever the
// template says: the rights of a CA, a responder or a registration authority.
func harmless(t *x509.Certificate) error {
	switch {
	case t.IsCA || t.MaxPathLen > 0:
		return errors.New("the template makes a CA certificate: a device is no CA")
	case t.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return errors.New("the template gives keyUsage certSign or crlSign: a device is no CA")
	case t.KeyUsage == 0:
		return errors.New("the template gives no keyUsage: a device needs at least digitalSignature")
	}
	for _, u := range t.ExtKeyUsage {
		if u == x509.ExtKeyUsageAny || u == x509.ExtKeyUsageOCSPSigning || u == x509.ExtKeyUsageTimeStamping || u == x509.ExtKeyUsageCodeSigning {
			return errors.New("the template gives an extKeyUsage (any, OCSPSigning, timeStamping or codeSigning) that a device may not have")
		}
	}
	if IsRA(t) {
		return errors.New("the template gives extKeyUsage cmcRA: only rigs are registration authorities")
	}
	for _, x := range t.ExtraExtensions {
		if x.Id.Equal(oidBasicConstraints) || x.Id.Equal(oidKeyUsage) || x.Id.Equal(oidExtKeyUsage) {
			return fmt.Errorf("the template sets the extension %s by hand: use basicConstraints, keyUsage and extKeyUsage", x.Id)
		}
	}
	return nil
}

// escaped returns the variables with every value fit for a JSON string, so
// that no record can break out of its place in the template.
func (v Variables) escaped() Variables {
	for _, s := range []*string{&v.Serial, &v.MAC, &v.UID, &v.Product, &v.Order, &v.Site, &v.Owner, &v.Device,
		&v.HardwareRevision, &v.Line, &v.BootstrapKey, &v.EKHash} {
		if strings.ContainsFunc(*s, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
			b, err := json.Marshal(*s)
			if err != nil { // a string always marshals
				panic(err)
			}
			*s = string(b[1 : len(b)-1])
		}
	}
	return v
}

// variables are an admission's.
func variables(a vetting.Admission) Variables {
	r, o := a.Record(), a.Order()
	owner := ""
	if held := a.Owner(); held != nil {
		owner = held.Name
	}
	return Variables{
		Serial: r.Serial, MAC: r.MAC, UID: r.UID, Product: a.Product().Name, Order: o.Name, Site: o.Site, Owner: owner,
		Device: strconv.FormatInt(r.ID, 10), HardwareRevision: r.Made.HardwareRevision, Line: r.Made.Line,
		BootstrapKey: r.BootstrapKey.String(), EKHash: r.Made.EKHash,
	}
}

// sample is what a profile is tried with when it is saved.
var sample = Variables{
	Serial: "SAMPLE-0001", MAC: "02:00:5e:10:00:01", UID: "0011223344556677", Product: "sample-product", Order: "sample-order",
	Site: "sample-site", Owner: "sample-owner", Device: "4711", HardwareRevision: "A1", Line: "line-1",
	BootstrapKey: strings.Repeat("ab", 32), EKHash: strings.Repeat("cd", 32),
}

// otherSample has no value in common with sample.
var otherSample = Variables{
	Serial: "OTHER-9999", MAC: "02:00:5e:10:00:99", UID: "ffeeddccbbaa9988", Product: "sample-product", Order: "other-order",
	Site: "other-site", Owner: "other-owner", Device: "1174", HardwareRevision: "B2", Line: "line-9",
	BootstrapKey: strings.Repeat("ef", 32), EKHash: strings.Repeat("01", 32),
}

// CheckProfile tries a product's profile: it renders it for a sample device,
// issues the certificate by this CA's shape with a throw-away key, and lints
// it. The error names what to mend.
func (a *Authorities) CheckProfile(ctx context.Context, p *vetting.Product) error {
	c, err := compile(profileFor(p))
	if err != nil {
		return vetting.Errorf(vetting.Invalid, "product %s: %v", p.Name, err)
	}
	device := sample
	if p.Accepts(vetting.ProofDomain) {
		device.Serial = "server.sample.example"
	}
	t, err := c.render(device)
	if err != nil {
		return vetting.Errorf(vetting.Invalid, "product %s: %v", p.Name, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	a.complete(t, a.issuers.Load().list[0], c, &key.PublicKey, time.Now())
	// A throw-away key signs, so that nothing of the real CA leaves it here.
	parent := *a.Device.Certificate
	parent.PublicKey = &key.PublicKey
	der, err := x509.CreateCertificate(rand.Reader, t, &parent, &key.PublicKey, key)
	if err != nil {
		return vetting.Errorf(vetting.Invalid, "product %s: the profile gives no certificate: %v", p.Name, err)
	}
	if cert, err := x509.ParseCertificate(der); p.Accepts(vetting.ProofDomain) && (err != nil || cert.VerifyHostname(device.Serial) != nil) {
		return vetting.Errorf(vetting.Invalid, "product %s: the profile's certificate is not for the server's name: the template needs \"sans\": [{\"type\": \"dns\", \"value\": \"{{ .Serial }}\"}]", p.Name)
	}
	if err := lintCertificate(der); err != nil {
		return vetting.Errorf(vetting.Invalid, "product %s: the profile's certificate breaks the rules: %v", p.Name, err)
	}
	return nil
}
