package attest

import (
	"bytes"

	"github.com/google/go-tpm/tpm2"

	"github.com/touchmark/touchmark/enroll"
)

// attestationKey is an AK that says no more than a TPM lets it: restricted, so
// that it signs nothing but what the TPM itself made.
type attestationKey struct {
	*public
	signs, hashes tpm2.TPMAlgID
}

// parseAK checks an AK by itself. That a TPM holds it shows when the
// credential for its name comes back.
func parseAK(k AK) (*attestationKey, error) {
	p, err := parsePublic("ak.public", k.Public)
	if err != nil {
		return nil, err
	}
	ak, err := checkAK(p)
	if err != nil {
		return nil, err
	}
	return ak, ak.checkCreation(k)
}

func checkAK(p *public) (*attestationKey, error) {
	ak := &attestationKey{public: p}
	ak.signs, ak.hashes = p.scheme()
	a := p.area.ObjectAttributes
	switch {
	case !p.made():
		return nil, enroll.BadRequest("ak.public: an attestation key has fixedTPM, fixedParent and sensitiveDataOrigin: make it in the TPM")
	case !a.Restricted || !a.SignEncrypt || a.Decrypt:
		return nil, enroll.BadRequest("ak.public: an attestation key is a restricted signing key, and does not decrypt: with any other, anybody could sign what looks like the TPM's word")
	case ak.signs == tpm2.TPMAlgNull:
		return nil, enroll.BadRequest("ak.public: its scheme must be ECDSA, RSASSA or RSAPSS")
	case !strong(ak.hashes):
		return nil, enroll.BadRequest("ak.public: its scheme hashes with %#x; use SHA-256, SHA-384 or SHA-512", uint16(ak.hashes))
	}
	return ak, nil
}

func strong(hash tpm2.TPMAlgID) bool {
	return hash == tpm2.TPMAlgSHA256 || hash == tpm2.TPMAlgSHA384 || hash == tpm2.TPMAlgSHA512
}

// checkCreation checks the AK's own word that it was made so (TPM2_CertifyCreation,
// Part 3, 18.3), by which it also shows that it can sign.
func (ak *attestationKey) checkCreation(k AK) error {
	if _, err := parse[tpm2.TPMSCreationData]("ak.createData", k.CreateData); err != nil {
		return err
	}
	said, err := ak.verify("ak.createAttestation", k.CreateAttestation, k.CreateSignature, tpm2.TPMSTAttestCreation)
	if untrue, ok := err.(*Untrue); ok {
		return enroll.BadRequest("%s", untrue.Reason) // nothing is proved yet: it is nobody's lie
	}
	if err != nil {
		return err
	}
	info, err := said.Attested.Creation()
	if err != nil {
		return enroll.BadRequest("ak.createAttestation: %v", err)
	}
	hash, err := ak.area.NameAlg.Hash()
	if err != nil {
		return enroll.BadRequest("ak.public: %v", err)
	}
	h := hash.New()
	h.Write(k.CreateData)
	switch {
	case !bytes.Equal(info.ObjectName.Buffer, ak.name):
		return enroll.BadRequest("ak.createAttestation is about another key than ak.public")
	case !bytes.Equal(info.CreationHash.Buffer, h.Sum(nil)):
		return enroll.BadRequest("ak.createAttestation is about other creation data than ak.createData")
	}
	return nil
}
