package est

import (
	"encoding/asn1"
	"math/big"

	"github.com/touchmark/touchmark/enroll"
)

var (
	oidRequestTemplate   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 61}
	oidExtensionTemplate = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 62}
	oidExtensionRequest  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
)

// requestTemplate is CertificationRequestInfoTemplate (RFC 9908 §3.4): a
// PKCS#10 request with blanks.
type requestTemplate struct {
	Version    int
	Subject    []asn1.RawValue `asn1:"optional,omitempty"` // of RelativeDistinguishedNameTemplate
	Key        keyTemplate     `asn1:"tag:0,optional"`
	Attributes asn1.RawValue   // [1] IMPLICIT; never absent
}

type keyTemplate struct {
	Algorithm asn1.RawValue
	Key       asn1.BitString `asn1:"optional"`
}

type nameTemplate struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue `asn1:"optional"`
}

type extensionTemplate struct {
	ID       asn1.ObjectIdentifier
	Critical bool   `asn1:"optional"`
	Value    []byte `asn1:"optional"`
}

// template is the attribute of CsrAttrs that holds a request's form.
func template(form enroll.RequestForm) (attribute, error) {
	t := requestTemplate{Attributes: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true}}
	for _, rdn := range form.Subject {
		set, err := nameSet(rdn)
		if err != nil {
			return attribute{}, err
		}
		t.Subject = append(t.Subject, asn1.RawValue{FullBytes: set})
	}
	var err error
	if t.Key, err = keyForm(form.Key); err != nil {
		return attribute{}, err
	}
	if len(form.Extensions) > 0 {
		if t.Attributes.Bytes, err = extensionAttribute(form.Extensions); err != nil {
			return attribute{}, err
		}
	}
	return attribute{oidRequestTemplate, []any{t}}, nil
}

func nameSet(rdn []enroll.NameForm) ([]byte, error) {
	set := make([]nameTemplate, len(rdn))
	for i, n := range rdn {
		set[i].Type = n.ID
		if n.Value != nil {
			set[i].Value = asn1.RawValue{FullBytes: n.Value}
		}
	}
	return asn1.MarshalWithParams(set, "set")
}

// extensionAttribute asks for extensions: by an extensionRequest (RFC 2985
// §5.4.2) if all their values are known, else by the template, never both.
func extensionAttribute(forms []enroll.ExtensionForm) ([]byte, error) {
	kind := oidExtensionRequest
	list := make([]extensionTemplate, len(forms))
	for i, f := range forms {
		list[i] = extensionTemplate{f.ID, f.Critical, f.Value}
		if f.Value == nil {
			kind = oidExtensionTemplate
		}
	}
	return asn1.Marshal(attribute{kind, []any{list}})
}

// keyForm is SubjectPublicKeyInfoTemplate: the algorithm, and for RSA a
// placeholder whose modulus has the length that is wanted.
func keyForm(kind string) (keyTemplate, error) {
	k := keys[kind]
	algorithm := []any{k.algorithm}
	switch {
	case k.curve != nil:
		algorithm = append(algorithm, k.curve)
	case k.bits > 0:
		algorithm = append(algorithm, asn1.NullRawValue)
	}
	der, err := asn1.Marshal(algorithm)
	if err != nil {
		return keyTemplate{}, err
	}
	t := keyTemplate{Algorithm: asn1.RawValue{FullBytes: der}}
	if k.bits > 0 {
		modulus := new(big.Int).Lsh(big.NewInt(1), uint(k.bits-1))
		placeholder, err := asn1.Marshal(struct{ N, E *big.Int }{modulus, big.NewInt(65537)})
		if err != nil {
			return keyTemplate{}, err
		}
		t.Key = asn1.BitString{Bytes: placeholder, BitLength: 8 * len(placeholder)}
	}
	return t, nil
}
