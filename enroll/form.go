package enroll

import "encoding/asn1"

// RequestForm is what a request for a product's certificate should look like
// (RFC 9908 §3.4). Everything in it but the key may also be left out of a
// request: names come from the record and the profile.
type RequestForm struct {
	// Key is the kind of key that is liked best, as KeyKind names it.
	Key string
	// Subject is the subject name, one slice for each RDN.
	Subject [][]NameForm
	// Extensions are those that a request may ask for.
	Extensions []ExtensionForm
}

// NameForm is one attribute of a name.
type NameForm struct {
	ID asn1.ObjectIdentifier
	// Value is DER; nil if the device has to fill it in.
	Value []byte
}

// ExtensionForm is one certificate extension.
type ExtensionForm struct {
	ID       asn1.ObjectIdentifier
	Critical bool
	// Value is extnValue's content; nil if the device has to fill it in.
	Value []byte
}
