package est

import (
	"encoding/asn1"
	"net/http"
)

// csrattrs tells what a product's requests should look like (RFC 7030
// §4.5.2, RFC 8951 §3.5): the kind of key and the signature. Without a label
// nothing can be said, which is 204.
func (h *Handler) csrattrs(x *exchange) error {
	if err := h.use(x); err != nil {
		return err
	}
	if x.product == nil {
		x.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	body, err := attributes(x.product.Profile.KeyKinds()[0])
	if err != nil {
		return err
	}
	x.answer("application/csrattrs", body)
	return nil
}

// attribute is Attribute of RFC 5652 §5.3.
type attribute struct {
	Type   asn1.ObjectIdentifier
	Values []any `asn1:"set"`
}

var (
	oidECPublicKey   = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidRSAEncryption = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEd25519       = asn1.ObjectIdentifier{1, 3, 101, 112}
	oidECDSA256      = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidECDSA384      = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
	oidECDSA512      = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}
	oidRSA256        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
)

// attributes is CsrAttrs for a kind of key as a profile names it.
func attributes(kind string) ([]byte, error) {
	ec := func(curve, signature asn1.ObjectIdentifier) []any {
		return []any{attribute{oidECPublicKey, []any{curve}}, signature}
	}
	rsa := func(bits int) []any { return []any{attribute{oidRSAEncryption, []any{bits}}, oidRSA256} }
	entries, ok := map[string][]any{
		"P-256":    ec(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, oidECDSA256),
		"P-384":    ec(asn1.ObjectIdentifier{1, 3, 132, 0, 34}, oidECDSA384),
		"P-521":    ec(asn1.ObjectIdentifier{1, 3, 132, 0, 35}, oidECDSA512),
		"Ed25519":  {oidEd25519},
		"RSA-2048": rsa(2048), "RSA-3072": rsa(3072), "RSA-4096": rsa(4096),
	}[kind]
	if !ok {
		entries = []any{}
	}
	return asn1.Marshal(entries)
}
