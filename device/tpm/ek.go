package tpm

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// ekKind is a default endorsement key (TCG EK Credential Profile 2.5, Annex B).
type ekKind struct {
	template tpm2.TPMTPublic
	// certificate is the NV index of its certificate (§2.2.1), kept the handle
	// where a TPM keeps it ready (TCG Registry of Reserved TPM 2.0 Handles).
	certificate, kept tpm2.TPMHandle
}

// kinds of endorsement keys, by name.
var kinds = map[string]ekKind{
	"rsa-2048": {tpm2.RSAEKTemplate, 0x01c00002, 0x81010001},
	"p-256":    {tpm2.ECCEKTemplate, 0x01c0000a, 0x81010002},
	"p-384":    {p384Template(), 0x01c00016, 0x81010016},
}

// preference is the order in which a certificate is looked for: keys on curves
// are made in a moment, RSA may take a TPM half a minute.
var preference = []string{"p-384", "p-256", "rsa-2048"}

// without is the kind that speaks for a TPM without certificates: lists of EKs
// name that one.
const without = "rsa-2048"

// EKs are the names of the endorsement keys that TPM.EK may say.
func EKs() []string { return slices.Sorted(maps.Keys(kinds)) }

// p384Template is template H-3.
func p384Template() tpm2.TPMTPublic {
	template := tpm2.ECCEKTemplate
	template.NameAlg = tpm2.TPMAlgSHA384
	template.ObjectAttributes.UserWithAuth = true
	template.AuthPolicy = tpm2.TPM2BDigest{Buffer: []byte{ // PolicyB for SHA-384: PolicySecret or PolicyAuthorizeNV
		0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a,
		0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca,
		0xcb, 0x47, 0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
	}}
	template.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgAES,
			KeyBits: tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(256)),
			Mode:    tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB)},
		CurveID: tpm2.TPMECCNistP384,
	})
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	return template
}

// EK is the endorsement key that proves the TPM.
type EK struct {
	Kind string
	// Certificates are its certificate and those between it and its maker's
	// root, as far as the TPM has them; empty if there is none.
	Certificates []*x509.Certificate
	Public       crypto.PublicKey
}

// ReadEK says which endorsement key proves this TPM.
func (t *TPM) ReadEK() (ek *EK, err error) {
	err = t.do(func(conn transport.TPM) error {
		kind, certs, err := t.choose(conn)
		if err != nil {
			return err
		}
		return kinds[kind].with(conn, func(l loadedEK) error {
			public, err := tpm2.Pub(*l.area)
			if err == nil && len(certs) > 0 && !same(certs[0].PublicKey, public) {
				err = errors.New("the TPM's EK certificate is not that of its EK")
			}
			ek = &EK{Kind: kind, Certificates: certs, Public: public}
			return err
		})
	})
	return ek, err
}

func same(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// choose is the kind of the EK that proves the TPM, with its certificates.
func (t *TPM) choose(conn transport.TPM) (string, []*x509.Certificate, error) {
	if t.EK != "" {
		k, ok := kinds[t.EK]
		if !ok {
			return "", nil, fmt.Errorf("%q is no endorsement key that is known: want one of %q", t.EK, EKs())
		}
		certs, err := k.certificates(conn)
		return t.EK, certs, err
	}
	for _, name := range preference {
		if certs, err := kinds[name].certificates(conn); err != nil || len(certs) > 0 {
			return name, certs, err
		}
	}
	return without, nil, nil
}

// Where the maker's CA certificates lie, one after the other (§2.2.1.5.2), and
// how many are looked for.
const (
	chainFirst = tpm2.TPMHandle(0x01c00100)
	maxChain   = 4
)

// certificates reads the EK's certificate and the maker's; there may be none.
func (k ekKind) certificates(conn transport.TPM) ([]*x509.Certificate, error) {
	der, err := readNV(conn, k.certificate)
	if err != nil || der == nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(inDER(der))
	if err != nil {
		return nil, fmt.Errorf("the TPM's EK certificate at %#x: %w", uint32(k.certificate), err)
	}
	certs := []*x509.Certificate{cert}
	for i := range tpm2.TPMHandle(maxChain) {
		der, err := readNV(conn, chainFirst+i)
		if err != nil || der == nil {
			break
		}
		if ca, err := x509.ParseCertificate(inDER(der)); err == nil {
			certs = append(certs, ca)
		}
	}
	return certs, nil
}

// inDER cuts off what follows a certificate: indices may be longer than it.
func inDER(b []byte) []byte {
	if len(b) < 4 || b[0] != 0x30 || b[1] != 0x82 {
		return b
	}
	if n := 4 + int(b[2])<<8 + int(b[3]); n < len(b) {
		return b[:n]
	}
	return b
}

// nvPiece is what is read at a time; every TPM takes that much.
const nvPiece = 512

// readNV reads an NV index by its own empty authorization, or returns nil if
// there is none.
func readNV(conn transport.TPM, index tpm2.TPMHandle) ([]byte, error) {
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(conn)
	if err != nil {
		if errors.Is(err, tpm2.TPMRCHandle) {
			return nil, nil
		}
		return nil, err
	}
	area, err := public.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	var out []byte
	for len(out) < int(area.DataSize) {
		read, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: index, Name: public.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: public.NVName},
			Size:       uint16(min(nvPiece, int(area.DataSize)-len(out))), Offset: uint16(len(out)),
		}.Execute(conn)
		if err != nil {
			return nil, fmt.Errorf("read NV index %#x: %w", uint32(index), err)
		}
		if len(read.Data.Buffer) == 0 {
			return nil, fmt.Errorf("NV index %#x ends early", uint32(index))
		}
		out = append(out, read.Data.Buffer...)
	}
	return out, nil
}

// loadedEK is an endorsement key in the TPM.
type loadedEK struct {
	loaded
	area *tpm2.TPMTPublic
}

// with has the EK for as long as work takes: where the TPM keeps it ready, or
// made anew from the seed.
func (k ekKind) with(conn transport.TPM, work func(loadedEK) error) error {
	if kept, err := (tpm2.ReadPublic{ObjectHandle: k.kept}).Execute(conn); err == nil {
		if area, err := kept.OutPublic.Contents(); err == nil && k.is(area) {
			return work(loadedEK{loaded{k.kept, kept.Name}, area})
		}
	}
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(k.template)}.Execute(conn)
	if err != nil {
		return fmt.Errorf("endorsement key: %w", err)
	}
	defer flush(conn, made.ObjectHandle)
	area, err := made.OutPublic.Contents()
	if err != nil {
		return err
	}
	return work(loadedEK{loaded{made.ObjectHandle, made.Name}, area})
}

// is reports whether a public area is one that the template makes.
func (k ekKind) is(area *tpm2.TPMTPublic) bool {
	return area.Type == k.template.Type && area.NameAlg == k.template.NameAlg && area.ObjectAttributes == k.template.ObjectAttributes &&
		string(area.AuthPolicy.Buffer) == string(k.template.AuthPolicy.Buffer)
}

// decrypts names the EK as the key that decrypts. The older templates want a
// policy session that shows the right to the endorsement hierarchy.
func (l loadedEK) decrypts() tpm2.AuthHandle {
	if l.area.ObjectAttributes.UserWithAuth {
		return l.by(nil)
	}
	policy := tpm2.Policy(l.area.NameAlg, 16, func(conn transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
		_, err := tpm2.PolicySecret{AuthHandle: tpm2.TPMRHEndorsement, PolicySession: session, NonceTPM: nonce}.Execute(conn)
		return err
	})
	return tpm2.AuthHandle{Handle: l.handle, Name: l.name, Auth: policy}
}
