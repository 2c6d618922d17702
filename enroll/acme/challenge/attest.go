package challenge

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"

	"github.com/fxamacker/cbor/v2"

	door "github.com/touchmark/touchmark/enroll/acme"
	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid"
)

// statement is an attestation statement (WebAuthn §6.5.4) as far as it is
// looked at before the library does.
type statement struct {
	Format string `cbor:"fmt"`
	Body   struct {
		X5C [][]byte `cbor:"x5c"`
		Alg *int64   `cbor:"alg"`
	} `cbor:"attStmt"`
}

// known are the formats that are taken, and what each must meet beyond what
// the library checks.
var known = map[string]func(*statement, *x509.Certificate, certorder.Identifier) error{
	"step":  checkNothing,
	"apple": checkApple,
	"tpm":   checkTPM,
}

var modes = func() cbor.DecMode {
	m, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		MaxNestedLevels: 8, MaxArrayElements: 64, MaxMapPairs: 64}.DecMode()
	if err != nil { // the options are constants
		panic(err)
	}
	return m
}()

// parseStatement reads the payload of device-attest-01
// (draft-ietf-acme-device-attest §5).
func parseStatement(payload []byte) (*statement, error) {
	var in struct {
		AttObj string `json:"attObj"`
		Error  string `json:"error"`
	}
	if err := json.Unmarshal(payload, &in); err != nil {
		return nil, badStatement("the payload is not a JSON object with attObj")
	}
	if in.Error != "" {
		return nil, refuse("rejectedIdentifier", "the client could not attest: %.200q", in.Error)
	}
	raw, err := base64.RawURLEncoding.DecodeString(in.AttObj)
	if err != nil || len(raw) == 0 {
		return nil, badStatement("attObj is empty or not base64url without padding")
	}
	s := new(statement)
	if err := modes.Unmarshal(raw, s); err != nil {
		return nil, badStatement("attObj is not an attestation object in CBOR: %v", err)
	}
	return s, nil
}

// chain parses the certificates of a statement, the attesting one first.
func (s *statement) chain() (list []*x509.Certificate, err error) {
	if n := len(s.Body.X5C); n == 0 || n > vendorid.MaxChain {
		return nil, badStatement("x5c has %d certificates: want the attesting certificate and those above it, at most %d", n, vendorid.MaxChain)
	}
	for _, der := range s.Body.X5C {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, badStatement("x5c holds what is no certificate: %v", err)
		}
		list = append(list, c)
	}
	return list, nil
}

// attested validates device-attest-01.
func (v *Validator) attested(ctx context.Context, t door.Trial) (door.Proved, error) {
	s, err := parseStatement(t.Payload)
	if err != nil {
		return door.Proved{}, err
	}
	check := known[s.Format]
	if check == nil {
		return door.Proved{}, badStatement("the format %.40q is not served: use tpm, step or apple", s.Format)
	}
	chain, err := s.chain()
	if err != nil {
		return door.Proved{}, err
	}
	matches, err := v.Vendors.Matches(ctx, chain)
	if err != nil {
		return door.Proved{}, distrusted(err)
	}
	if matches, err = naming(matches, t.Identifier); err != nil {
		return door.Proved{}, err
	}
	if err := check(s, chain[0], t.Identifier); err != nil {
		return door.Proved{}, err
	}
	key, err := run(trusting(ctx, chain[0]), t)
	if err != nil {
		return door.Proved{}, err
	}
	if key == "" {
		return door.Proved{}, badStatement("the attestation is of no key")
	}
	return door.Proved{Key: key, Matches: matches}, nil
}

// distrusted makes an answer of why no product trusts a chain.
func distrusted(err error) error {
	rejection := new(vendorid.Rejection)
	switch {
	case errors.As(err, &rejection) && rejection.Stranger:
		return badStatement("%v for attestations: it must be an attestation CA of the product (touchmark vendor set, or product update --attestation-ca for this server's own)", rejection)
	case errors.As(err, &rejection):
		return badStatement("%v", rejection)
	}
	return err
}

// naming has matches assert the identifier, and drops those whose vendor's
// certificates say otherwise.
func naming(matches []vetting.VendorMatch, of certorder.Identifier) ([]vetting.VendorMatch, error) {
	id, err := of.Identity()
	if err != nil {
		return nil, badStatement("the identifier: %v", err)
	}
	var fit []vetting.VendorMatch
	for _, m := range matches {
		stated := m.Asserted
		if stated.Serial != "" && id.Serial != "" && stated.Serial != id.Serial || stated.UID != "" && id.UID != "" && stated.UID != id.UID {
			continue
		}
		m.Asserted = id
		fit = append(fit, m)
	}
	if len(fit) == 0 {
		return nil, badStatement("the attesting certificate names another device (%s) than the order (%s)", matches[0].Asserted, id)
	}
	return fit, nil
}

func checkNothing(*statement, *x509.Certificate, certorder.Identifier) error { return nil }

// oidAppleNonce holds the freshness code in Apple's certificates.
var oidAppleNonce = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 8, 11, 1}

// checkApple wants the nonce, which the library compares only where there is
// one: without it an old attestation would do.
func checkApple(_ *statement, leaf *x509.Certificate, _ certorder.Identifier) error {
	for _, e := range leaf.Extensions {
		if e.Id.Equal(oidAppleNonce) && len(e.Value) > 0 {
			return nil
		}
	}
	return badStatement("the attesting certificate has no nonce, so nothing says that it was made for this challenge")
}

// coseRS1 is RSASSA-PKCS1-v1_5 with SHA-1 (RFC 8812 §2).
const coseRS1 = -65535

// checkTPM wants the AK certificate to name the device, octet for octet, and no
// SHA-1.
func checkTPM(s *statement, ak *x509.Certificate, id certorder.Identifier) error {
	if s.Body.Alg == nil || *s.Body.Alg == coseRS1 {
		return badStatement("the statement is signed with SHA-1 (RS1) or names no algorithm: use RS256")
	}
	names := vendorid.PermanentIdentifiers(ak)
	if id.Type == certorder.HardwareModule {
		names = vendorid.HardwareSerials(ak)
	}
	if !slices.Contains(names, id.Value) {
		return badStatement("the AK certificate has no %s %q in its subjectAltName: the attestation CA must put it there", id.Type, id.Value)
	}
	return nil
}
