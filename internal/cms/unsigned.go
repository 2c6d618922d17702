package cms

import (
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// maxMessage is the longest message that gets an unsigned attribute, in bytes.
const maxMessage = 1 << 20

// opened is a SignedData with one signer, taken apart; every part has its tag
// and length.
type opened struct {
	kind   cryptobyte.String   // the content type
	before []cryptobyte.String // all of the SignedData before the signer
	signer []cryptobyte.String // all of the signer but unsigned attributes
	// unsigned are its unsigned attributes.
	unsigned []cryptobyte.String
}

var errNoSigned = errors.New("it is no CMS message with one signer (RFC 5652, section 5)")

// unsignedAttributes is their tag in a SignerInfo, and content that of what a
// ContentInfo holds.
var (
	unsignedAttributes = tag.Tag(1).ContextSpecific().Constructed()
	contentTag         = tag.Tag(0).ContextSpecific().Constructed()
)

func takeApart(message []byte) (*opened, error) {
	if len(message) > maxMessage {
		return nil, fmt.Errorf("the CMS message is %d bytes long: at most %d are accepted", len(message), maxMessage)
	}
	der, err := Definite(message)
	if err != nil {
		return nil, err
	}
	o, in := new(opened), cryptobyte.String(der)
	var info, explicit, data, signers, signer cryptobyte.String
	if !in.ReadASN1(&info, tag.SEQUENCE) || !info.ReadASN1Element(&o.kind, tag.OBJECT_IDENTIFIER) ||
		!info.ReadASN1(&explicit, contentTag) || !explicit.ReadASN1(&data, tag.SEQUENCE) {
		return nil, errNoSigned
	}
	parts := elements(data)
	if len(parts) < 4 {
		return nil, errNoSigned
	}
	last := parts[len(parts)-1]
	if o.before = parts[:len(parts)-1]; !last.ReadASN1(&signers, tag.SET) || !signers.ReadASN1(&signer, tag.SEQUENCE) || !signers.Empty() {
		return nil, errNoSigned
	}
	o.signer = elements(signer)
	if n := len(o.signer) - 1; n >= 0 && o.signer[n].PeekASN1Tag(unsignedAttributes) {
		var set cryptobyte.String
		o.signer[n].ReadASN1(&set, unsignedAttributes)
		o.unsigned, o.signer = elements(set), o.signer[:n]
	}
	if n := len(o.signer) - 1; n < 4 || !o.signer[n].PeekASN1Tag(tag.OCTET_STRING) {
		return nil, errNoSigned
	}
	return o, nil
}

// elements are those of a sequence, as far as they are well-formed.
func elements(in cryptobyte.String) (list []cryptobyte.String) {
	for !in.Empty() {
		var element cryptobyte.String
		var any tag.Tag
		if !in.ReadAnyASN1Element(&element, &any) {
			return nil
		}
		list = append(list, element)
	}
	return list
}

// SignatureOf is the signature of the one signer of a SignedData.
func SignatureOf(message []byte) ([]byte, error) {
	o, err := takeApart(message)
	if err != nil {
		return nil, err
	}
	var signature cryptobyte.String
	last := o.signer[len(o.signer)-1]
	if !last.ReadASN1(&signature, tag.OCTET_STRING) {
		return nil, errNoSigned
	}
	return signature, nil
}

// AddUnsigned puts an unsigned attribute (RFC 5652 §5.3) with one value into a
// SignedData with one signer. What is signed stays as it is.
func AddUnsigned(message []byte, a Attribute) ([]byte, error) {
	o, err := takeApart(message)
	if err != nil {
		return nil, err
	}
	if _, err := o.attribute(a.Type); err == nil {
		return nil, fmt.Errorf("it has an attribute %s already", a.Type)
	}
	var attribute cryptobyte.Builder
	attribute.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(a.Type)
		b.AddASN1(tag.SET, func(b *cryptobyte.Builder) { b.AddBytes(a.Value) })
	})
	added, err := attribute.Bytes()
	if err != nil {
		return nil, err
	}
	return o.encode(append(o.unsigned, added))
}

func (o *opened) encode(unsigned []cryptobyte.String) ([]byte, error) {
	var b cryptobyte.Builder
	addAll := func(b *cryptobyte.Builder, list []cryptobyte.String) {
		for _, element := range list {
			b.AddBytes(element)
		}
	}
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(o.kind)
		b.AddASN1(contentTag, func(b *cryptobyte.Builder) {
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
				addAll(b, o.before)
				b.AddASN1(tag.SET, func(b *cryptobyte.Builder) {
					b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
						addAll(b, o.signer)
						b.AddASN1(unsignedAttributes, func(b *cryptobyte.Builder) { addAll(b, unsigned) })
					})
				})
			})
		})
	})
	return b.Bytes()
}

// UnsignedOf is the value (DER) of an unsigned attribute of the one signer of a
// SignedData.
func UnsignedOf(message []byte, kind asn1.ObjectIdentifier) ([]byte, error) {
	o, err := takeApart(message)
	if err != nil {
		return nil, err
	}
	return o.attribute(kind)
}

func (o *opened) attribute(kind asn1.ObjectIdentifier) ([]byte, error) {
	for _, element := range o.unsigned {
		var a, values cryptobyte.String
		var oid asn1.ObjectIdentifier
		if element.ReadASN1(&a, tag.SEQUENCE) && a.ReadASN1ObjectIdentifier(&oid) && oid.Equal(kind) && a.ReadASN1(&values, tag.SET) {
			if list := elements(values); len(list) == 1 {
				return list[0], nil
			}
		}
	}
	return nil, fmt.Errorf("it has no unsigned attribute %s with one value", kind)
}
