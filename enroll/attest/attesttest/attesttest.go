// Package attesttest plays devices with a TPM in tests of the server: it makes
// keys in a TPM and has it say what the exchange of docs/tpm.md wants.
package attesttest

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"math/big"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/touchmark/touchmark/enroll/attest"
	"github.com/touchmark/touchmark/internal/swtpm"
	"github.com/touchmark/touchmark/vetting"
)

// Device is a device with a TPM. Its AK and the key to be certified lie in the
// TPM until the test ends; the EK comes and goes, because a TPM has room for
// three.
type Device struct {
	t    testing.TB
	tpm  transport.TPM
	kind EKKind
	ak   *tpm2.CreatePrimaryResponse
	Key  *Key
	// Hello is the device's first message; a test changes it at will.
	Hello attest.Hello
}

// EKKind is a template of the TCG's EK Credential Profile (2.5, annex B).
type EKKind struct {
	public tpm2.TPMTPublic
	index  tpm2.TPMHandle // of its certificate
	policy bool           // it wants PolicySecret of the endorsement hierarchy
}

// The kinds of EK that package swtpm makes certificates for, and P256, which
// has none.
var (
	RSA  = EKKind{tpm2.RSAEKTemplate, 0x01c00002, true}
	P384 = EKKind{p384(), 0x01c00016, false}
	P256 = EKKind{tpm2.ECCEKTemplate, 0, true}
)

// p384 is template H-3.
func p384() tpm2.TPMTPublic {
	policy := []byte("\xb2\x6e\x7d\x28\xd1\x1a\x50\xbc\x53\xd8\x82\xbc\xf5\xfd\x3a\x1a\x07\x41\x48\xbb\x35\xd3\xb4\xe4" +
		"\xcb\x1c\x0a\xd9\xbd\xe4\x19\xca\xcb\x47\xba\x09\x69\x96\x46\x15\x0f\x9f\xc0\x00\xf3\xf8\x0e\x12")
	attributes := tpm2.ECCEKTemplate.ObjectAttributes
	attributes.UserWithAuth = true
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA384, ObjectAttributes: attributes, AuthPolicy: tpm2.TPM2BDigest{Buffer: policy},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{
				Algorithm: tpm2.TPMAlgAES,
				KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(256)),
				Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
			},
			CurveID: tpm2.TPMECCNistP384,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
	}
}

// Signing is what an AK is made from; a test changes it at will.
func Signing() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
	}
}

// SigningRSA is Signing with RSASSA over a hash.
func SigningRSA(hash tpm2.TPMAlgID) tpm2.TPMTPublic {
	p := Signing()
	p.Type = tpm2.TPMAlgRSA
	p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
		KeyBits: 2048, Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: hash})},
	})
	p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
	return p
}

// New makes a device's keys in a TPM.
func New(t testing.TB, of *swtpm.TPM, kind EKKind) *Device { return NewWith(t, of, kind, Signing()) }

// NewWith makes a device whose AK is made from a template.
func NewWith(t testing.TB, of *swtpm.TPM, kind EKKind, ak tpm2.TPMTPublic) *Device {
	t.Helper()
	conn, err := of.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	d := &Device{t: t, tpm: conn, kind: kind}
	ek := d.primary(tpm2.TPMRHEndorsement, kind.public)
	d.Hello.EK.Public = ek.OutPublic.Bytes()
	if kind.index != 0 {
		d.Hello.EK.Certificates = [][]byte{d.readNV(kind.index), of.Vendor.Intermediate.Raw}
	}
	d.flush(ek.ObjectHandle)
	d.ak = d.primary(tpm2.TPMRHEndorsement, ak)
	t.Cleanup(func() { d.flush(d.ak.ObjectHandle) })
	d.Hello.AK = d.created()
	d.NewKey()
	return d
}

// EK is the fingerprint of the endorsement key, as records have it.
func (d *Device) EK() vetting.Fingerprint { return vetting.KeyFingerprint(d.EKPublic()) }

// EKPublic is the endorsement key as a SubjectPublicKeyInfo.
func (d *Device) EKPublic() []byte {
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](d.Hello.EK.Public)
	d.must(err)
	key, err := tpm2.Pub(*area)
	d.must(err)
	spki, err := x509.MarshalPKIXPublicKey(key)
	d.must(err)
	return spki
}

func (d *Device) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *Device) primary(hierarchy tpm2.TPMHandle, template tpm2.TPMTPublic) *tpm2.CreatePrimaryResponse {
	d.t.Helper()
	key, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)}, InPublic: tpm2.New2B(template)}.Execute(d.tpm)
	d.must(err)
	return key
}

func (d *Device) flush(h tpm2.TPMHandle) { _, _ = tpm2.FlushContext{FlushHandle: h}.Execute(d.tpm) }

func (d *Device) readNV(index tpm2.TPMHandle) (der []byte) {
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(d.tpm)
	d.must(err)
	contents, err := public.NVPublic.Contents()
	d.must(err)
	for len(der) < int(contents.DataSize) {
		read, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: index, Name: public.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: public.NVName},
			Size:       min(512, contents.DataSize-uint16(len(der))), Offset: uint16(len(der)),
		}.Execute(d.tpm)
		d.must(err)
		der = append(der, read.Data.Buffer...)
	}
	return der
}

func (d *Device) asAK() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: d.ak.ObjectHandle, Name: d.ak.Name, Auth: tpm2.PasswordAuth(nil)}
}

var noScheme = tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}

// created has the AK say how it was made.
func (d *Device) created() attest.AK {
	out, err := tpm2.CertifyCreation{SignHandle: d.asAK(), ObjectHandle: tpm2.NamedHandle{Handle: d.ak.ObjectHandle, Name: d.ak.Name},
		CreationHash: d.ak.CreationHash, InScheme: d.scheme(), CreationTicket: d.ak.CreationTicket}.Execute(d.tpm)
	d.must(err)
	return attest.AK{Public: d.ak.OutPublic.Bytes(), CreateData: d.ak.CreationData.Bytes(), CreateAttestation: out.CertifyInfo.Bytes(), CreateSignature: tpm2.Marshal(out.Signature)}
}

// scheme is what an AK without a scheme of its own is told to sign with.
func (d *Device) scheme() tpm2.TPMTSigScheme {
	area, err := d.ak.OutPublic.Contents()
	d.must(err)
	if p, err := area.Parameters.ECCDetail(); err == nil && p.Scheme.Scheme == tpm2.TPMAlgNull {
		return tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})}
	}
	return noScheme
}

// Activate decrypts a challenge's credential; nil if the TPM would not.
func (d *Device) Activate(c *attest.Challenge) []byte {
	d.t.Helper()
	d.Key.unload()
	ek := d.primary(tpm2.TPMRHEndorsement, d.kind.public)
	defer d.flush(ek.ObjectHandle)
	auth := tpm2.PasswordAuth(nil)
	if d.kind.policy {
		auth = tpm2.Policy(tpm2.TPMAlgSHA256, 16, func(t transport.TPM, h tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
			_, err := tpm2.PolicySecret{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)}, PolicySession: h, NonceTPM: nonce}.Execute(t)
			return err
		})
	}
	out, err := tpm2.ActivateCredential{ActivateHandle: d.asAK(), KeyHandle: tpm2.AuthHandle{Handle: ek.ObjectHandle, Name: ek.Name, Auth: auth},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: c.Credential[2:]}, Secret: tpm2.TPM2BEncryptedSecret{Buffer: c.Secret[2:]}}.Execute(d.tpm)
	if err != nil {
		return nil
	}
	return out.CertInfo.Buffer
}

// Nonce is what statements carry.
func Nonce(answer []byte) []byte {
	n := sha256.Sum256(answer)
	return n[:]
}

// Certify has the AK speak of the key.
func (d *Device) Certify(nonce []byte) attest.Key {
	h := d.Key.load()
	out, err := tpm2.Certify{ObjectHandle: h, SignHandle: d.asAK(), QualifyingData: tpm2.TPM2BData{Buffer: nonce}, InScheme: d.scheme()}.Execute(d.tpm)
	d.must(err)
	return attest.Key{Public: d.Key.public.OutPublic.Bytes(), Attestation: out.CertifyInfo.Bytes(), Signature: tpm2.Marshal(out.Signature)}
}

// Quote has the AK speak of registers.
func (d *Device) Quote(nonce []byte, pcrs ...uint) *attest.Quote {
	selection := tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)}}}
	out, err := tpm2.Quote{SignHandle: d.asAK(), QualifyingData: tpm2.TPM2BData{Buffer: nonce}, InScheme: d.scheme(), PCRSelect: selection}.Execute(d.tpm)
	d.must(err)
	values, err := tpm2.PCRRead{PCRSelectionIn: selection}.Execute(d.tpm)
	d.must(err)
	q := &attest.Quote{Attestation: out.Quoted.Bytes(), Signature: tpm2.Marshal(out.Signature), PCRs: map[int][]byte{}}
	for i, v := range values.PCRValues.Digests {
		q.PCRs[int(pcrs[i])] = v.Buffer
	}
	return q
}

// Prove makes the second message, with a quote of register 7.
func (d *Device) Prove(c *attest.Challenge) *attest.Proof {
	d.t.Helper()
	answer := d.Activate(c)
	if answer == nil {
		d.t.Fatal("the TPM does not decrypt the credential")
	}
	n := Nonce(answer)
	return &attest.Proof{Hello: d.Hello, Challenge: c.Challenge, Answer: answer, Key: d.Certify(n), Quote: d.Quote(n, 7)}
}

// Key is a key to be certified, P-256, in the TPM. It is a crypto.Signer.
type Key struct {
	d      *Device
	public *tpm2.CreatePrimaryResponse
	loaded bool
	area   tpm2.TPMTPublic
	pub    crypto.PublicKey
}

// NewKey makes another key to be certified.
func (d *Device) NewKey() { d.NewKeyWith(KeyTemplate()) }

// KeyTemplate is what a key to be certified is made from; a test changes it at
// will.
func KeyTemplate() tpm2.TPMTPublic {
	p := Signing()
	p.ObjectAttributes.Restricted = false
	return p
}

// NewKeyWith makes a key to be certified from a template.
func (d *Device) NewKeyWith(template tpm2.TPMTPublic) {
	d.t.Helper()
	if d.Key != nil {
		d.Key.unload()
	}
	unique := make([]byte, 32)
	rand.Read(unique)
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: unique}, Y: tpm2.TPM2BECCParameter{Buffer: unique}})
	k := &Key{d: d, area: template}
	d.Key = k
	k.load()
	area, err := k.public.OutPublic.Contents()
	d.must(err)
	k.pub, err = tpm2.Pub(*area)
	d.must(err)
	d.t.Cleanup(k.unload)
}

func (k *Key) load() tpm2.AuthHandle {
	if !k.loaded {
		k.public, k.loaded = k.d.primary(tpm2.TPMRHOwner, k.area), true
	}
	return tpm2.AuthHandle{Handle: k.public.ObjectHandle, Name: k.public.Name, Auth: tpm2.PasswordAuth(nil)}
}

func (k *Key) unload() {
	if k.loaded {
		k.d.flush(k.public.ObjectHandle)
		k.loaded = false
	}
}

// Public implements crypto.Signer.
func (k *Key) Public() crypto.PublicKey { return k.pub }

// Sign implements crypto.Signer.
func (k *Key) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	h := k.load()
	out, err := tpm2.Sign{KeyHandle: h, Digest: tpm2.TPM2BDigest{Buffer: digest},
		InScheme: noScheme, Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}}.Execute(k.d.tpm)
	if err != nil {
		return nil, err
	}
	s, err := out.Signature.Signature.ECDSA()
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(s.SignatureR.Buffer), new(big.Int).SetBytes(s.SignatureS.Buffer)})
}

// CSR is a request for the key, without names.
func (k *Key) CSR() []byte {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
	k.d.must(err)
	return der
}

// PEM is a certificate as a product's policy has it.
func PEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}
