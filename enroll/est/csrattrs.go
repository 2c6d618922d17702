package est

import (
	"encoding/asn1"
	"fmt"
	"net/http"

	"github.com/touchmark/touchmark/enroll"
)

// csrattrs tells what a product's requests should look like (RFC 7030
// §4.5.2, RFC 8951 §3.5): the kind of key and the signature for clients that
// know only such lists, and beside it a template (RFC 9908 §3.4). Without a
// label nothing can be said, which is 204.
func (h *Handler) csrattrs(x *exchange) error {
	if err := h.use(x); err != nil {
		return err
	}
	if x.product == nil {
		x.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	form, err := h.Forms.RequestForm(x.product)
	if err != nil {
		return err
	}
	body, err := attributes(form)
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

// keyKind is how a kind of key is written: its algorithm with the curve or
// the bits of the modulus, and the signature that goes with it.
type keyKind struct {
	algorithm, curve asn1.ObjectIdentifier
	bits             int
	signature        asn1.ObjectIdentifier
}

// keys are the kinds as a profile names them.
var keys = map[string]keyKind{
	"P-256":    {oidECPublicKey, asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, 0, oidECDSA256},
	"P-384":    {oidECPublicKey, asn1.ObjectIdentifier{1, 3, 132, 0, 34}, 0, oidECDSA384},
	"P-521":    {oidECPublicKey, asn1.ObjectIdentifier{1, 3, 132, 0, 35}, 0, oidECDSA512},
	"Ed25519":  {algorithm: oidEd25519},
	"RSA-2048": {oidRSAEncryption, nil, 2048, oidRSA256},
	"RSA-3072": {oidRSAEncryption, nil, 3072, oidRSA256},
	"RSA-4096": {oidRSAEncryption, nil, 4096, oidRSA256},
}

// attributes is CsrAttrs for a form.
func attributes(form enroll.RequestForm) ([]byte, error) {
	k, ok := keys[form.Key]
	if !ok {
		return nil, fmt.Errorf("a kind of key %q cannot be asked for", form.Key)
	}
	t, err := template(form)
	if err != nil {
		return nil, err
	}
	var entries []any
	switch {
	case k.curve != nil:
		entries = []any{attribute{k.algorithm, []any{k.curve}}, k.signature}
	case k.bits > 0:
		entries = []any{attribute{k.algorithm, []any{k.bits}}, k.signature}
	default:
		entries = []any{k.algorithm}
	}
	return asn1.Marshal(append(entries, t))
}
