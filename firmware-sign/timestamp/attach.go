package timestamp

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/touchmark/touchmark/internal/cms"
)

// The unsigned attributes that hold a token over the signature's bytes.
var (
	// InCMS is id-aa-timeStampToken (RFC 3161, appendix A).
	InCMS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 14}
	// InAuthenticode is where Windows looks: the same with another name.
	InAuthenticode = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 3, 3, 1}
)

// Attach puts a time stamp into a CMS signature with one signer (DER). The
// function stamp gets the bytes to be stamped, and returns the token, as
// [Client.Stamp] does. What was signed stays as it is.
func Attach(signature []byte, where asn1.ObjectIdentifier, stamp func(content []byte) (token []byte, err error)) ([]byte, error) {
	content, err := cms.SignatureOf(signature)
	if err != nil {
		return nil, fmt.Errorf("the signature to stamp: %w", err)
	}
	token, err := stamp(content)
	if err != nil {
		return nil, err
	}
	return cms.AddUnsigned(signature, cms.Attribute{Type: where, Value: token})
}

// ErrNoStamp is of a signature that has no time stamp inside.
var ErrNoStamp = errors.New("the signature has no time stamp")

// Attached verifies the time stamp in a CMS signature: that it is good, and
// over this signature. Whether that itself is good is another question.
func Attached(signature []byte, where asn1.ObjectIdentifier, roots *x509.CertPool) (*Token, error) {
	content, err := cms.SignatureOf(signature)
	if err != nil {
		return nil, fmt.Errorf("the stamped signature: %w", err)
	}
	token, err := cms.UnsignedOf(signature, where)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoStamp, err)
	}
	t, err := Verify(token, roots)
	if err != nil {
		return nil, err
	}
	return t, t.Covers(content)
}
