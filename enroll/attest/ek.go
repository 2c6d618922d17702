package attest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid"
)

// endorsement is an EK whose form is good.
type endorsement struct {
	*public
	chain []*x509.Certificate // its certificate first; nil without one
	names vetting.TPM         // what the certificate says of the TPM
}

func parseEK(e EK) (*endorsement, error) {
	p, err := parsePublic("ek.public", e.Public)
	if err != nil {
		return nil, err
	}
	if err := checkEK(p); err != nil {
		return nil, enroll.BadRequest("ek.public: %v", err)
	}
	out := &endorsement{public: p}
	if out.chain, err = certificates(e.Certificates, vendorid.MaxChain); err != nil || out.chain == nil {
		return out, err
	}
	out.names, err = checkEKCertificate(out.chain[0], p.print)
	return out, err
}

// checkEK holds an EK to what the TCG's EK Credential Profile (2.5, §2.1.5)
// has of it. The certificate, if there is one, says nothing of these
// attributes; a lie about them helps nobody, because what is encrypted to the
// key is decrypted by a TPM alone.
func checkEK(p *public) error {
	a := p.area.ObjectAttributes
	switch kind := p.key.(type) {
	case *rsa.PublicKey:
		if n := kind.N.BitLen(); n > 3072 {
			return fmt.Errorf("an RSA key of %d bits is not accepted; use 2048 or 3072", n)
		}
	case *ecdsa.PublicKey:
		if kind.Curve == elliptic.P521() {
			return fmt.Errorf("the curve P-521 is not accepted; use P-256 or P-384")
		}
	}
	switch {
	case !p.made():
		return fmt.Errorf("an endorsement key has fixedTPM, fixedParent and sensitiveDataOrigin")
	case !a.Restricted || !a.Decrypt || a.SignEncrypt:
		return fmt.Errorf("an endorsement key is a restricted decryption key")
	}
	return nil
}

var (
	oidEKCertificate    = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidTPMManufacturer  = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidTPMModel         = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidTPMVersion       = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	tagDirectoryName    = 4
	maxNamesOfTPM       = 64
	errNotEKCertificate = "the EK certificate of %q %s"
)

// checkEKCertificate holds a certificate to the TCG's EK Credential Profile
// (2.5, §3.2), and reads what it says of the TPM. Who signed it is the
// business of [Makers].
func checkEKCertificate(c *x509.Certificate, key vetting.Fingerprint) (names vetting.TPM, err error) {
	bad := func(why string) error { return enroll.BadRequest(errNotEKCertificate, c.Subject, why) }
	switch {
	case vetting.KeyFingerprint(c.RawSubjectPublicKeyInfo) != key:
		return names, bad("is of another key than ek.public")
	case !hasOID(c.UnknownExtKeyUsage, oidEKCertificate):
		return names, bad("does not say that it is one (extKeyUsage tcg-kp-EKCertificate)")
	}
	names, err = namesOfTPM(c)
	if err != nil {
		return names, bad(err.Error())
	}
	return names, nil
}

func hasOID(list []asn1.ObjectIdentifier, oid asn1.ObjectIdentifier) bool {
	for _, o := range list {
		if o.Equal(oid) {
			return true
		}
	}
	return false
}

// namesOfTPM reads the TPM's manufacturer, model and version out of the
// subjectAltName, where they are attributes of a directoryName (EK Credential
// Profile §3.2.9).
func namesOfTPM(c *x509.Certificate) (names vetting.TPM, err error) {
	for _, x := range c.Extensions {
		if !x.Id.Equal(oidSubjectAltName) {
			continue
		}
		var all []asn1.RawValue
		if rest, err := asn1.Unmarshal(x.Value, &all); err != nil || len(rest) > 0 || len(all) > maxNamesOfTPM {
			return names, fmt.Errorf("has a subjectAltName that is none")
		}
		for _, name := range all {
			if name.Class == asn1.ClassContextSpecific && name.Tag == tagDirectoryName {
				readNamesOfTPM(name.Bytes, &names)
			}
		}
	}
	if names.Manufacturer == "" {
		return names, fmt.Errorf("does not name the TPM's manufacturer in its subjectAltName (TCG EK Credential Profile, §3.2.9)")
	}
	return names, nil
}

func readNamesOfTPM(der []byte, names *vetting.TPM) {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &rdns); err != nil || len(rest) > 0 {
		return
	}
	for _, rdn := range rdns {
		for _, a := range rdn {
			s, ok := a.Value.(string)
			if !ok || vetting.CheckText("name", s) != nil {
				continue
			}
			switch {
			case a.Type.Equal(oidTPMManufacturer):
				names.Manufacturer = s
			case a.Type.Equal(oidTPMModel):
				names.Model = s
			case a.Type.Equal(oidTPMVersion):
				names.Version = s
			}
		}
	}
}

// encrypt encrypts a credential to the EK for the holder of the key with this
// name alone: TPM2_MakeCredential (Part 1, 24; Part 3, 12.6). Both come with
// their size in front.
func (e *endorsement) encrypt(name, credential []byte) (idObject, secret []byte, err error) {
	to, err := tpm2.ImportEncapsulationKey(&e.area)
	if err == nil {
		idObject, secret, err = tpm2.CreateCredential(rand.Reader, to, name, credential)
	}
	if err != nil {
		return nil, nil, enroll.BadRequest("ek.public: nothing can be encrypted to the key: %v", err)
	}
	return sized(idObject), sized(secret), nil
}

func sized(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}
