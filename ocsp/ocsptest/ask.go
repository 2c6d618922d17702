package ocsptest

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // CertIDs have them
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
)

// Question is an OCSPRequest to be written.
type Question struct {
	CertIDs    []CertID
	Requestor  asn1.RawValue    // a GeneralName
	Extensions []pkix.Extension // Nonce makes one
}

// Nonce is the extension of RFC 9654.
func Nonce(n []byte) pkix.Extension {
	return pkix.Extension{Id: oidNonce, Value: marshal(n)}
}

var hashOIDs = map[crypto.Hash]asn1.ObjectIdentifier{
	crypto.SHA1:   {1, 3, 14, 3, 2, 26},
	crypto.SHA256: {2, 16, 840, 1, 101, 3, 4, 2, 1},
	crypto.SHA384: {2, 16, 840, 1, 101, 3, 4, 2, 2},
	crypto.SHA512: {2, 16, 840, 1, 101, 3, 4, 2, 3},
}

// OID encodes an object identifier.
func OID(id asn1.ObjectIdentifier) asn1.RawValue { return asn1.RawValue{FullBytes: marshal(id)} }

// ID names a certificate in the usual way: with the parameters NULL.
func ID(hash crypto.Hash, issuer *x509.Certificate, serial *big.Int) CertID {
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &key); err != nil {
		panic(err) // it was parsed once
	}
	sum := func(b []byte) []byte {
		h := hash.New()
		h.Write(b)
		return h.Sum(nil)
	}
	return CertID{
		Algorithm: Algorithm{OID: OID(hashOIDs[hash]), Parameters: asn1.NullRawValue},
		NameHash:  sum(issuer.RawSubject), KeyHash: sum(key.Key.RightAlign()), Serial: serial,
	}
}

// DER writes the question.
func (q Question) DER() []byte {
	type request struct{ CertID CertID }
	var list []request
	for _, id := range q.CertIDs {
		list = append(list, request{id})
	}
	type tbs struct {
		Requestor  asn1.RawValue `asn1:"optional"`
		List       []request
		Extensions []pkix.Extension `asn1:"optional,explicit,omitempty,tag:2"`
	}
	t := tbs{List: list, Extensions: q.Extensions}
	if q.Requestor.Class != 0 { // encoding/asn1 does not wrap raw values up
		t.Requestor = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: marshal(q.Requestor)}
	}
	return marshal(struct{ TBS tbs }{t})
}

func marshal(v any) []byte {
	der, err := asn1.Marshal(v)
	if err != nil {
		panic(err) // of the test's own making
	}
	return der
}

// Asked is an OCSPRequest that was read.
type Asked struct {
	CertIDs    []CertID
	Extensions []pkix.Extension
}

// Read reads an OCSPRequest. It passes over what stands behind the known
// fields, which encoding/asn1 does, so it takes more than it should.
func Read(der []byte) (*Asked, error) {
	type request struct {
		CertID     CertID
		Extensions asn1.RawValue `asn1:"optional,tag:0"`
	}
	var r struct {
		TBS struct {
			Version    int           `asn1:"optional,explicit,default:0,tag:0"`
			Requestor  asn1.RawValue `asn1:"optional,tag:1"`
			List       []request
			Extensions []struct {
				ID       asn1.RawValue
				Critical bool `asn1:"optional"`
				Value    []byte
			} `asn1:"optional,explicit,tag:2"`
		}
		Signature asn1.RawValue `asn1:"optional,tag:0"`
	}
	if err := whole(der, &r); err != nil {
		return nil, err
	}
	a := new(Asked)
	for _, one := range r.TBS.List {
		a.CertIDs = append(a.CertIDs, one.CertID)
	}
	for _, e := range r.TBS.Extensions {
		id := asn1.ObjectIdentifier{2, 25} // of no interest
		if bytes.Equal(e.ID.FullBytes, marshal(oidNonce)) {
			id = oidNonce
		}
		a.Extensions = append(a.Extensions, pkix.Extension{Id: id, Critical: e.Critical, Value: e.Value})
	}
	return a, nil
}

// Nonce is the nonce without its inner OCTET STRING, nil if there is none.
func (a *Asked) Nonce() (nonce []byte) {
	for _, e := range a.Extensions {
		if e.Id.Equal(oidNonce) {
			if whole(e.Value, &nonce) != nil {
				return nil
			}
		}
	}
	return nonce
}

// Plain reports whether a request that was read asks about certificates in
// DER, and nothing else: then nothing about it is malformed.
func (a *Asked) Plain(der []byte) bool {
	var q Question
	for _, id := range a.CertIDs {
		var oid asn1.ObjectIdentifier
		if _, err := asn1.Unmarshal(id.Algorithm.OID.FullBytes, &oid); err != nil {
			return false
		}
		id.Raw = nil // so that it is written anew
		q.CertIDs = append(q.CertIDs, id)
	}
	return len(q.CertIDs) > 0 && bytes.Equal(q.DER(), der)
}
