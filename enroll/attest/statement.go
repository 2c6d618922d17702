package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"github.com/touchmark/touchmark/enroll"
)

// Untrue says what of a statement is not so, though its form is good.
type Untrue struct{ Reason string }

func (e *Untrue) Error() string { return e.Reason }

func untrue(format string, args ...any) error { return &Untrue{fmt.Sprintf(format, args...)} }

// generated is TPM_GENERATED_VALUE, with which begins what a TPM made and
// nothing else that a restricted key signs (Part 2, 6.2).
const generated = 0xff544347

// verify checks that the AK signed a statement of a kind, and reads it. The
// error is an *Untrue, or a *enroll.RequestError about the form.
func (ak *attestationKey) verify(what string, statement, signature []byte, kind tpm2.TPMST) (*tpm2.TPMSAttest, error) {
	if len(statement) >= 4 && binary.BigEndian.Uint32(statement) != generated {
		return nil, untrue("%s was not made by a TPM: it begins with %x", what, statement[:4])
	}
	said, err := parse[tpm2.TPMSAttest](what, statement)
	if err != nil {
		return nil, err
	}
	if said.Type != kind {
		return nil, untrue("%s is a statement of type %#x: want %#x", what, uint16(said.Type), uint16(kind))
	}
	sig, err := parse[tpm2.TPMTSignature](what+"'s signature", signature)
	if err != nil {
		return nil, err
	}
	return said, ak.checkSignature(what, statement, sig)
}

// checkSignature verifies a signature by the scheme that the AK is made for,
// and no other.
func (ak *attestationKey) checkSignature(what string, signed []byte, sig *tpm2.TPMTSignature) error {
	if sig.SigAlg != ak.signs {
		return untrue("%s is signed with the scheme %#x, and not with the AK's", what, uint16(sig.SigAlg))
	}
	hash, err := ak.hashes.Hash()
	if err != nil {
		return enroll.BadRequest("%s: %v", what, err)
	}
	h := hash.New()
	h.Write(signed)
	hashed, ok := ak.verifies(sig, hash, h.Sum(nil))
	switch {
	case hashed != ak.hashes:
		return untrue("%s is signed over the hash %#x, and not over the AK's", what, uint16(hashed))
	case !ok:
		return untrue("%s is not signed by the AK", what)
	}
	return nil
}

// verifies tells which hash a signature names, and whether it is right.
func (ak *attestationKey) verifies(sig *tpm2.TPMTSignature, hash crypto.Hash, digest []byte) (tpm2.TPMAlgID, bool) {
	switch key := ak.key.(type) {
	case *ecdsa.PublicKey:
		s, err := sig.Signature.ECDSA()
		if err != nil {
			return 0, false
		}
		r, v := new(big.Int).SetBytes(s.SignatureR.Buffer), new(big.Int).SetBytes(s.SignatureS.Buffer)
		return s.Hash, ecdsa.Verify(key, digest, r, v)
	case *rsa.PublicKey:
		if s, err := sig.Signature.RSASSA(); err == nil && sig.SigAlg == tpm2.TPMAlgRSASSA {
			return s.Hash, rsa.VerifyPKCS1v15(key, hash, digest, s.Sig.Buffer) == nil
		}
		if s, err := sig.Signature.RSAPSS(); err == nil && sig.SigAlg == tpm2.TPMAlgRSAPSS {
			return s.Hash, rsa.VerifyPSS(key, hash, digest, s.Sig.Buffer, nil) == nil
		}
	}
	return 0, false
}

// checkKey checks the AK's word on the key to be certified (TPM2_Certify, Part
// 3, 18.2): that the TPM made it and never lets it go.
func (ak *attestationKey) checkKey(p *public, k Key, nonce []byte) (*tpm2.TPMSAttest, error) {
	a := p.area.ObjectAttributes
	switch {
	case !p.made():
		return nil, untrue("key.public: the key lacks fixedTPM, fixedParent or sensitiveDataOrigin, so it may exist outside the TPM")
	case a.Restricted || !a.SignEncrypt || a.Decrypt:
		return nil, untrue("key.public: a key to be certified signs, is not restricted, and does not decrypt")
	}
	said, err := ak.verify("key.attestation", k.Attestation, k.Signature, tpm2.TPMSTAttestCertify)
	if err != nil {
		return nil, err
	}
	info, err := said.Attested.Certify()
	switch {
	case err != nil:
		return nil, enroll.BadRequest("key.attestation: %v", err)
	case !bytes.Equal(said.ExtraData.Buffer, nonce):
		return nil, untrue("key.attestation was made for another nonce")
	case !bytes.Equal(info.Name.Buffer, p.name):
		return nil, untrue("key.attestation is about another key than key.public")
	}
	return said, nil
}
