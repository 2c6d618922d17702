package ocsptest

import (
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
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: hashOIDs[hash], Parameters: asn1.NullRawValue},
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
	return marshal(struct {
		TBS struct {
			Requestor  asn1.RawValue `asn1:"optional,explicit,tag:1"`
			List       []request
			Extensions []pkix.Extension `asn1:"optional,explicit,omitempty,tag:2"`
		}
	}{struct {
		Requestor  asn1.RawValue `asn1:"optional,explicit,tag:1"`
		List       []request
		Extensions []pkix.Extension `asn1:"optional,explicit,omitempty,tag:2"`
	}{q.Requestor, list, q.Extensions}})
}

func marshal(v any) []byte {
	der, err := asn1.Marshal(v)
	if err != nil {
		panic(err) // of the test's own making
	}
	return der
}
