package tpm

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/touchmark/touchmark/device"
)

// akTemplate is a key that signs what the TPM says, and nothing from outside.
var akTemplate = tpm2.TPMTPublic{
	Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
	ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256,
		Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}}),
}

// identity is a TPM with an attestation key for one exchange. The key stays
// wrapped in between, so it outlives a restart of the TPM.
type identity struct {
	tpm     *TPM
	kind    string
	ak      *wrapped
	message device.TPMIdentity
}

// Identify implements [device.Prover].
func (t *TPM) Identify() (device.TPMProver, error) {
	made, err := t.create(akTemplate, nil)
	if err != nil {
		return nil, fmt.Errorf("make an attestation key: %w", err)
	}
	i := &identity{tpm: t, ak: made.wrapped()}
	i.message.AK.Public, i.message.AK.CreateData = made.OutPublic.Bytes(), made.CreationData.Bytes()
	err = t.do(func(conn transport.TPM) error {
		if err := i.readEK(conn); err != nil {
			return err
		}
		return i.certifyCreation(conn, made)
	})
	return i, err
}

// Message implements [device.TPMProver].
func (i *identity) Message() device.TPMIdentity { return i.message }

func (i *identity) readEK(conn transport.TPM) error {
	kind, certs, err := i.tpm.choose(conn)
	if err != nil {
		return err
	}
	i.kind, i.message.EK.Certificates = kind, nil
	for _, c := range certs {
		i.message.EK.Certificates = append(i.message.EK.Certificates, c.Raw)
	}
	return kinds[kind].with(conn, func(ek loadedEK) error {
		i.message.EK.Public = tpm2.Marshal(*ek.area)
		return nil
	})
}

// certifyCreation has the attestation key say that it was made in the TPM.
func (i *identity) certifyCreation(conn transport.TPM, made created) error {
	return i.ak.with(conn, func(ak loaded) error {
		said, err := tpm2.CertifyCreation{
			SignHandle: ak.by(nil), ObjectHandle: tpm2.NamedHandle{Handle: ak.handle, Name: ak.name},
			CreationHash: made.CreationHash, CreationTicket: made.CreationTicket, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		}.Execute(conn)
		if err != nil {
			return fmt.Errorf("certify the attestation key: %w", err)
		}
		i.message.AK.CreateAttestation, i.message.AK.CreateSignature = said.CertifyInfo.Bytes(), tpm2.Marshal(said.Signature)
		return nil
	})
}

// Prove implements [device.TPMProver].
func (i *identity) Prove(ch *device.TPMChallenge, signer crypto.Signer) (*device.TPMProof, error) {
	k, ok := signer.(*key)
	if !ok || k.tpm != i.tpm {
		return nil, errors.New("the key to be certified is not in the TPM")
	}
	p := new(device.TPMProof)
	err := i.tpm.do(func(conn transport.TPM) (err error) {
		if p.Answer, err = i.activate(conn, ch); err != nil {
			return err
		}
		nonce := sha256.Sum256(p.Answer)
		if err := i.certify(conn, k, nonce[:], p); err != nil {
			return err
		}
		return i.quote(conn, ch.PCRs, nonce[:], p)
	})
	return p, err
}

// parseCredential reads what a server encrypted to the TPM.
func parseCredential(ch *device.TPMChallenge) (*tpm2.TPM2BIDObject, *tpm2.TPM2BEncryptedSecret, error) {
	blob, err := tpm2.Unmarshal[tpm2.TPM2BIDObject](ch.Credential)
	if err != nil || !bytes.Equal(tpm2.Marshal(*blob), ch.Credential) {
		return nil, nil, fmt.Errorf("the challenge's credential is no TPM2B_ID_OBJECT (%w)", err)
	}
	secret, err := tpm2.Unmarshal[tpm2.TPM2BEncryptedSecret](ch.Secret)
	if err != nil || !bytes.Equal(tpm2.Marshal(*secret), ch.Secret) {
		return nil, nil, fmt.Errorf("the challenge's secret is no TPM2B_ENCRYPTED_SECRET (%w)", err)
	}
	return blob, secret, nil
}

// activate decrypts the server's answer.
func (i *identity) activate(conn transport.TPM, ch *device.TPMChallenge) (answer []byte, err error) {
	blob, secret, err := parseCredential(ch)
	if err != nil {
		return nil, err
	}
	err = i.ak.with(conn, func(ak loaded) error {
		return kinds[i.kind].with(conn, func(ek loadedEK) error {
			out, err := tpm2.ActivateCredential{ActivateHandle: ak.by(nil), KeyHandle: ek.decrypts(), CredentialBlob: *blob, Secret: *secret}.Execute(conn)
			if err != nil {
				return fmt.Errorf("the TPM cannot open the server's challenge: %w", err)
			}
			answer = out.CertInfo.Buffer
			return nil
		})
	})
	return answer, err
}

// certify has the attestation key say that the TPM holds another key.
func (i *identity) certify(conn transport.TPM, k *key, nonce []byte, p *device.TPMProof) error {
	return k.wrapped.with(conn, func(subject loaded) error {
		return i.ak.with(conn, func(ak loaded) error {
			said, err := tpm2.Certify{
				ObjectHandle: subject.by(k.tpm.Auth), SignHandle: ak.by(nil),
				QualifyingData: tpm2.TPM2BData{Buffer: nonce}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			}.Execute(conn)
			if err != nil {
				return fmt.Errorf("certify the key: %w", err)
			}
			p.Key.Public = k.wrapped.public.Bytes()
			p.Key.Attestation, p.Key.Signature = said.CertifyInfo.Bytes(), tpm2.Marshal(said.Signature)
			return nil
		})
	})
}

// quote has the attestation key say what is in the registers that the server
// wants to know.
func (i *identity) quote(conn transport.TPM, pcrs []uint, nonce []byte, p *device.TPMProof) error {
	if len(pcrs) == 0 {
		return nil
	}
	values, err := readPCRs(conn, pcrs)
	if err != nil {
		return fmt.Errorf("read registers %d: %w", pcrs, err)
	}
	return i.ak.with(conn, func(ak loaded) error {
		said, err := tpm2.Quote{SignHandle: ak.by(nil), QualifyingData: tpm2.TPM2BData{Buffer: nonce},
			InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, PCRSelect: bank(pcrs...)}.Execute(conn)
		if err != nil {
			return fmt.Errorf("quote registers %d: %w", pcrs, err)
		}
		p.Quote = &device.TPMQuote{Attestation: said.Quoted.Bytes(), Signature: tpm2.Marshal(said.Signature), PCRs: values}
		return nil
	})
}

// bank selects registers of SHA-256.
func bank(pcrs ...uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)}}}
}

func readPCRs(conn transport.TPM, pcrs []uint) (map[uint][]byte, error) {
	values := make(map[uint][]byte, len(pcrs))
	for _, n := range pcrs {
		read, err := tpm2.PCRRead{PCRSelectionIn: bank(n)}.Execute(conn)
		if err != nil {
			return nil, err
		}
		if len(read.PCRValues.Digests) != 1 {
			return nil, fmt.Errorf("the TPM has no register %d of SHA-256", n)
		}
		values[n] = read.PCRValues.Digests[0].Buffer
	}
	return values, nil
}
