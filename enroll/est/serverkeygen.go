package est

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1" // #nosec: names a key, protects nothing
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"mime/multipart"
	"net/http"
	"net/textproto"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/vetting"
)

var (
	oidDecryptKeyID      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 37}
	oidAsymmDecryptKeyID = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 54}
)

// serverkeygen enrols or renews with a key that the server makes (RFC 7030
// §4.4). The request is as any other but for its key, which only says what
// kind is wanted, or what to encrypt to.
func (h *Handler) serverkeygen(x *exchange) error {
	if err := h.authenticate(x); err != nil {
		return err
	}
	csr, err := h.request(x, enroll.ParseServerKeyCSR)
	if err != nil {
		return err
	}
	to, err := recipient(csr, x.client.Certificate)
	if err != nil {
		return err
	}
	claim, err := h.claim(x, csr)
	if err != nil {
		return err
	}
	claim.Key, claim.ServerKey = vetting.Fingerprint{}, vetting.ServerKeysPlain
	if to != nil {
		claim.ServerKey = vetting.ServerKeysEncrypted
	}
	r := enroll.Request{Claim: claim, CSR: csr}
	if x.client.Auth.Proof == vetting.ProofOfficial {
		r.Presented = x.client.Certificate
	}
	return h.enrol(x, r, func(out enroll.Outcome) error { return h.answerKey(x, out, to) })
}

// recipient finds the key that the private key shall be encrypted to: the
// client certificate's or the request's own, as the request names it. It is
// nil if the request names none (RFC 7030 §4.4.1).
func recipient(csr *x509.CertificateRequest, client *x509.Certificate) (*cms.Recipient, error) {
	if _, present, err := attributeOf(csr, oidDecryptKeyID); err != nil || present {
		return nil, enroll.BadRequest("the request asks by DecryptKeyIdentifier for encryption with a shared secret key, and this server has none: name an RSA or EC key by AsymmetricDecryptKeyIdentifier (RFC 7030 §4.4.1.2)")
	}
	value, present, err := attributeOf(csr, oidAsymmDecryptKeyID)
	if err != nil {
		return nil, enroll.BadRequest("the request's AsymmetricDecryptKeyIdentifier: %v (RFC 7030 §4.4.1.2)", err)
	}
	if !present {
		return nil, nil
	}
	var id []byte
	if rest, err := asn1.Unmarshal(value, &id); err != nil || len(rest) > 0 || len(id) == 0 {
		return nil, enroll.BadRequest("the request's AsymmetricDecryptKeyIdentifier is not one OCTET STRING (RFC 7030 §4.4.1.2)")
	}
	key, err := named(id, csr, client)
	if err != nil {
		return nil, err
	}
	return &cms.Recipient{Key: key, ID: id}, nil
}

// named finds the key that an identifier names, and refuses one that cannot
// or may not decrypt.
func named(id []byte, csr *x509.CertificateRequest, client *x509.Certificate) (key crypto.PublicKey, err error) {
	switch {
	case names(id, csr.RawSubjectPublicKeyInfo):
		key = csr.PublicKey
		if err := csr.CheckSignature(); err != nil {
			return nil, enroll.BadRequest("the private key is to be encrypted to the request's own key, but the request's signature does not verify with it: %v", err)
		}
	case client == nil:
		return nil, enroll.BadRequest("the AsymmetricDecryptKeyIdentifier %x does not name the request's own key, and no client certificate was presented: give the SHA-1 or SHA-256 of the request's subjectPublicKey (RFC 5280 §4.2.1.2, RFC 7093 §2)", id)
	case bytes.Equal(id, client.SubjectKeyId), names(id, client.RawSubjectPublicKeyInfo):
		key = client.PublicKey
		if !mayDecrypt(client) {
			return nil, enroll.BadRequest("the private key is to be encrypted to the client certificate's key, but that certificate's keyUsage allows neither keyEncipherment nor keyAgreement: sign the request with a key that may decrypt, and name that one (RFC 7030 §4.4.1.2)")
		}
	default:
		return nil, enroll.BadRequest("the AsymmetricDecryptKeyIdentifier %x names neither the request's own key nor the client certificate's: give the SHA-1 or SHA-256 of its subjectPublicKey (RFC 5280 §4.2.1.2, RFC 7093 §2), or the certificate's subjectKeyIdentifier", id)
	}
	switch key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
	default:
		return nil, enroll.BadRequest("nothing can be encrypted to the key that the AsymmetricDecryptKeyIdentifier names, a %T: use RSA or EC", key)
	}
	if _, err := enroll.KeyKind(key); err != nil {
		return nil, enroll.BadRequest("the key that the AsymmetricDecryptKeyIdentifier names: %v", err)
	}
	return key, nil
}

// names reports whether an identifier is made of a public key in a usual way:
// the SHA-1 of its bits (RFC 5280 §4.2.1.2), their SHA-256, whole or its left
// 160 bits (RFC 7093 §2), or the SHA-256 of the SubjectPublicKeyInfo.
func names(id, spki []byte) bool {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return false
	}
	one, two, all := sha1.Sum(info.Key.Bytes), sha256.Sum256(info.Key.Bytes), sha256.Sum256(spki)
	return bytes.Equal(id, one[:]) || bytes.Equal(id, two[:]) || bytes.Equal(id, two[:20]) || bytes.Equal(id, all[:])
}

// mayDecrypt reports whether a certificate's key supports key transport or
// agreement, or is unrestricted.
func mayDecrypt(cert *x509.Certificate) bool {
	want := x509.KeyUsageKeyAgreement
	if _, ok := cert.PublicKey.(*rsa.PublicKey); ok {
		want = x509.KeyUsageKeyEncipherment
	}
	return cert.KeyUsage == 0 || cert.KeyUsage&want != 0
}

// answerKey sends the private key and then the certificate (RFC 7030 §4.4.2).
func (h *Handler) answerKey(x *exchange, out enroll.Outcome, to *cms.Recipient) error {
	if out.Key == nil {
		return errors.New("the request was admitted, but no key was made")
	}
	key, err := out.Key.PKCS8()
	if err != nil {
		return err
	}
	defer clear(key)
	kind := "application/pkcs8"
	if to != nil {
		kind = "application/pkcs7-mime; smime-type=server-generated-key"
		by, err := h.Signatory()
		if err != nil {
			return err
		}
		if key, err = cms.SealKey(key, by, h.Now(), *to); err != nil {
			return err
		}
	}
	certs, err := certsOnly(out.Certificate)
	if err != nil {
		return err
	}
	return x.answerParts(part{kind, key}, part{"application/pkcs7-mime; smime-type=certs-only", certs})
}

// part is one part of a multipart answer, in DER.
type part struct {
	contentType string
	der         []byte
}

// answerParts sends multipart/mixed (RFC 2046 §5.1), each part in base64.
func (x *exchange) answerParts(parts ...part) error {
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for _, p := range parts {
		pw, err := w.CreatePart(textproto.MIMEHeader{"Content-Type": {p.contentType}, "Content-Transfer-Encoding": {"base64"}})
		if err != nil {
			return err
		}
		if _, err := pw.Write(encode(p.der)); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	x.w.Header().Set("Content-Type", "multipart/mixed; boundary="+w.Boundary())
	x.w.Header().Set("Cache-Control", "no-store")
	x.write(http.StatusOK, body.Bytes())
	return nil
}
