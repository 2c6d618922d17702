package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

// maxStructure bounds a structure, in bytes, before anything parses it: an
// RSA-4096 key's public area or signature has little more than 512.
const maxStructure = 1 << 10

// public is a key's public area.
type public struct {
	area tpm2.TPMTPublic
	// name is the key's Name (Part 1, 16): a hash of all of the area.
	name []byte
	key  crypto.PublicKey
	// print is of the key as a SubjectPublicKeyInfo.
	print vetting.Fingerprint
}

// parse reads one structure that fills its bytes.
func parse[T tpm2.Marshallable, P interface {
	*T
	tpm2.Unmarshallable
}](what string, b []byte) (*T, error) {
	if len(b) == 0 || len(b) > maxStructure {
		return nil, enroll.BadRequest("%s has %d bytes: want 1 to %d", what, len(b), maxStructure)
	}
	v, err := tpm2.Unmarshal[T, P](b)
	if err != nil {
		return nil, enroll.BadRequest("%s is not the structure of TPM 2.0 that belongs there: %v", what, err)
	}
	if !bytes.Equal(tpm2.Marshal(*v), b) {
		return nil, enroll.BadRequest("%s has bytes after its end, or is not in the one form that TPMs write: give it without the size of a TPM2B", what)
	}
	return v, nil
}

func parsePublic(what string, b []byte) (*public, error) {
	area, err := parse[tpm2.TPMTPublic](what, b)
	if err != nil {
		return nil, err
	}
	p := &public{area: *area}
	switch area.NameAlg {
	case tpm2.TPMAlgSHA256, tpm2.TPMAlgSHA384, tpm2.TPMAlgSHA512:
	default:
		return nil, enroll.BadRequest("%s: the name algorithm %#x is not accepted; use SHA-256, SHA-384 or SHA-512", what, uint16(area.NameAlg))
	}
	name, err := tpm2.ObjectName(area)
	if err == nil {
		p.name = name.Buffer
		p.key, err = keyOf(area)
	}
	if err == nil {
		p.print, err = vetting.PublicKeyFingerprint(p.key)
	}
	if err != nil {
		return nil, enroll.BadRequest("%s: %v", what, err)
	}
	return p, nil
}

// keyOf is the key of a public area, if it is one that could be used.
func keyOf(area *tpm2.TPMTPublic) (crypto.PublicKey, error) {
	key, err := tpm2.Pub(*area)
	if err != nil {
		return nil, err
	}
	if k, ok := key.(*ecdsa.PublicKey); ok {
		if _, err := k.ECDH(); err != nil {
			return nil, fmt.Errorf("the point is not on the curve: %w", err)
		}
	}
	if _, err := enroll.KeyKind(key); err != nil {
		return nil, err
	}
	return key, nil
}

// made reports whether the TPM made the key and never lets it go (Part 2, 8.3).
func (p *public) made() bool {
	a := p.area.ObjectAttributes
	return a.FixedTPM && a.FixedParent && a.SensitiveDataOrigin
}

// scheme is the signature scheme that the area names and its hash; TPMAlgNull
// where it names none.
func (p *public) scheme() (scheme, hash tpm2.TPMAlgID) {
	switch p.area.Type {
	case tpm2.TPMAlgRSA:
		d, err := p.area.Parameters.RSADetail()
		if err != nil {
			break
		}
		if s, err := d.Scheme.Details.RSASSA(); err == nil && d.Scheme.Scheme == tpm2.TPMAlgRSASSA {
			return tpm2.TPMAlgRSASSA, s.HashAlg
		}
		if s, err := d.Scheme.Details.RSAPSS(); err == nil && d.Scheme.Scheme == tpm2.TPMAlgRSAPSS {
			return tpm2.TPMAlgRSAPSS, s.HashAlg
		}
	case tpm2.TPMAlgECC:
		d, err := p.area.Parameters.ECCDetail()
		if err != nil {
			break
		}
		if s, err := d.Scheme.Details.ECDSA(); err == nil && d.Scheme.Scheme == tpm2.TPMAlgECDSA {
			return tpm2.TPMAlgECDSA, s.HashAlg
		}
	}
	return tpm2.TPMAlgNull, tpm2.TPMAlgNull
}

// certificates parses a bounded chain.
func certificates(list [][]byte, most int) (chain []*x509.Certificate, err error) {
	if len(list) > most {
		return nil, enroll.BadRequest("there are %d EK certificates: at most %d are taken", len(list), most)
	}
	for i, der := range list {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, enroll.BadRequest("EK certificate %d of %d is not X.509 in DER: %v", i+1, len(list), err)
		}
		chain = append(chain, c)
	}
	return chain, nil
}
