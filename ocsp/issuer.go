package ocsp

import (
	"crypto"
	_ "crypto/sha1" // what most clients name issuers by
	_ "crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Issuer is a CA whose certificates a Responder tells about.
type Issuer struct {
	// ID is its number in the database; see Change.Issuer.
	ID          int64
	Certificate *x509.Certificate
	// Genuine reports whether the CA can have issued a certificate with this
	// serial number. It asks nobody, and is called by many goroutines.
	Genuine func(Serial) bool
	// Credential gives what answers are signed with now. It is called for
	// each answer that is signed, by many goroutines, so it hands out what it
	// holds and does not make it. As long as there is none it gives an error,
	// and clients are told to try later.
	Credential func() (*Credential, error)
}

// issuers finds issuers by what a CertID says of them.
type issuers struct {
	forms map[string]form
	first *Issuer // signs what concerns none of them
}

// form is one of the ways in which a CertID can name an issuer.
type form struct {
	issuer *Issuer
	number uint8
}

// certIDHashes are the hash algorithms of CertIDs that are understood. RFC
// 9919 has SHA-1 and SHA-256; the others cost nothing.
var certIDHashes = []struct {
	hash crypto.Hash
	oid  asn1.ObjectIdentifier
}{
	{crypto.SHA1, asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}},
	{crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}},
	{crypto.SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}},
	{crypto.SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}},
}

func newIssuers(list []Issuer) (*issuers, error) {
	if len(list) == 0 {
		return nil, errors.New("a responder needs an issuer to tell about")
	}
	t := &issuers{forms: map[string]form{}, first: &list[0]}
	for i := range list {
		if err := t.add(&list[i]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// add enters all forms of an issuer: each hash, with the parameters NULL and
// without (RFC 5754 §2 allows both).
func (t *issuers) add(i *Issuer) error {
	number := uint8(0)
	for _, h := range certIDHashes {
		name := h.hash.New()
		name.Write(i.Certificate.RawSubject)
		key, ok := keyHash(i.Certificate.RawSubjectPublicKeyInfo, h.hash)
		if !ok {
			return fmt.Errorf("the certificate of the CA %q has no subjectPublicKeyInfo", i.Certificate.Subject)
		}
		for _, null := range []bool{false, true} {
			var b cryptobyte.Builder
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(h.oid)
				if null {
					b.AddASN1NULL()
				}
			})
			b.AddASN1OctetString(name.Sum(nil))
			b.AddASN1OctetString(key)
			t.forms[string(b.BytesOrPanic())] = form{i, number}
			number++
		}
	}
	return nil
}

// named is the issuer that a CertID names, nil if it is not one of ours or the
// hash algorithm is not known.
func (t *issuers) named(id *CertID) (*Issuer, uint8) {
	f := t.forms[string(id.Issuer)]
	return f.issuer, f.number
}
