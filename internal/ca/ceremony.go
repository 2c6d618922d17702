package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/vetting"
)

// A ceremony makes certificates of CAs without the root's key ever being near
// a server: [Places.Request] where the CA's key is, [Root.Sign] where the
// root's key is, and [Authorities.CheckReplacement] or
// [Authorities.CheckIssuingCA] where the CA's key is again.

// MaxRequests bounds what one ceremony signs: every CA of a server.
const MaxRequests = vetting.MaxIssuingCAs + 8

// Request makes a PKCS#10 request for the certificate of a CA by the key that
// is where Places has it for name. The CA keeps the subject and the
// subjectKeyIdentifier of the certificate that it has.
func (p Places) Request(ctx context.Context, name string, have *x509.Certificate) ([]byte, error) {
	key, err := p.openKey(ctx, p.key(name), have)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return requestCA(key, &x509.CertificateRequest{RawSubject: have.RawSubject}, have.SubjectKeyId)
}

// RequestIssuingCA makes a request for a new CA of a purpose, and its key if
// it is not there. Asked again, it uses the same key.
func (p Places) RequestIssuingCA(ctx context.Context, name string, purpose vetting.Purpose, root *x509.Certificate) ([]byte, error) {
	if err := vetting.CheckIssuingCAName(name); err != nil {
		return nil, err
	}
	ring, uri := keys.Ring{Dir: p.Dir}, p.key(IssuingKeyName(name))
	key, err := ring.Open(ctx, uri)
	if err != nil {
		missing := err
		if key, err = ring.Create(ctx, uri, keys.P256); err != nil {
			return nil, errors.Join(missing, err)
		}
	}
	subject := pkix.Name{Organization: root.Subject.Organization, OrganizationalUnit: []string{units[purpose]}, CommonName: name}
	return requestCA(key, &x509.CertificateRequest{Subject: subject}, keyID(key.Public()))
}

// requestCA asks for what a CA below the root needs, in an extensionRequest
// (RFC 2985 §5.4.2), so that other software than this can sign it, too.
func requestCA(key crypto.Signer, t *x509.CertificateRequest, id []byte) ([]byte, error) {
	constraints, err := asn1.Marshal(struct {
		CA      bool
		PathLen int
	}{true, 0})
	if err != nil {
		return nil, err
	}
	usage, err := asn1.Marshal(asn1.BitString{Bytes: []byte{0x06}, BitLength: 7}) // keyCertSign, cRLSign
	if err != nil {
		return nil, err
	}
	identifier, err := asn1.Marshal(id)
	if err != nil {
		return nil, err
	}
	t.ExtraExtensions = []pkix.Extension{
		{Id: oidBasicConstraints, Critical: true, Value: constraints}, {Id: oidKeyUsage, Critical: true, Value: usage}, {Id: oidSubjectKeyID, Value: identifier},
	}
	return x509.CreateCertificateRequest(rand.Reader, t, key)
}

// RequestPEM gives a request's PEM form.
func RequestPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: requestType, Bytes: der})
}

const (
	requestType     = "CERTIFICATE REQUEST"
	certificateType = "CERTIFICATE"
)

// ParseRequests reads PKCS#10 requests in PEM, with nothing between them, and
// checks that each was signed with its own key.
func ParseRequests(text []byte) (list []*x509.CertificateRequest, err error) {
	return list, eachPEM(text, requestType, func(der []byte) error {
		r, err := x509.ParseCertificateRequest(der)
		if err != nil {
			return err
		}
		list = append(list, r)
		return wrapped("it was not signed with its own key", r.CheckSignature())
	})
}

// ParseCertificates reads certificates in PEM, with nothing between them.
func ParseCertificates(text []byte) (list []*x509.Certificate, err error) {
	return list, eachPEM(text, certificateType, func(der []byte) error {
		c, err := x509.ParseCertificate(der)
		list = append(list, c)
		return err
	})
}

func eachPEM(text []byte, kind string, each func(der []byte) error) error {
	n := 0
	for rest := bytes.TrimSpace(text); len(rest) > 0 || n == 0; rest = bytes.TrimSpace(rest) {
		if !bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
			return fmt.Errorf("there is something else than a %s in PEM: want nothing else", kind)
		}
		block, after := pem.Decode(rest)
		if block == nil || block.Type != kind || len(block.Headers) > 0 {
			return fmt.Errorf("there is something else than a %s in PEM: want nothing else", kind)
		}
		if n++; n > MaxRequests {
			return fmt.Errorf("there are more than %d of a %s: no server has as many CAs", MaxRequests, kind)
		}
		if err := each(block.Bytes); err != nil {
			return fmt.Errorf("%s no. %d: %w", kind, n, err)
		}
		rest = after
	}
	return nil
}

// Root is a root CA with its key, as in a ceremony.
type Root struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// OpenRoot opens the key that uri names, relative to dir, and finds the
// self-signed certificate of it among some.
func OpenRoot(ctx context.Context, dir, uri string, among []*x509.Certificate) (*Root, error) {
	key, err := keys.Ring{Dir: dir}.Open(ctx, uri)
	if err != nil {
		return nil, fmt.Errorf("the root's key lies in a safe: bring it, and say where it is: %w", err)
	}
	id, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	for _, c := range among {
		if bytes.Equal(c.RawSubjectPublicKeyInfo, id) && c.IsCA && c.CheckSignatureFrom(c) == nil {
			return &Root{c, key}, nil
		}
	}
	return nil, fmt.Errorf("the key %s is not the key of a root certificate that was given", keys.Redact(uri))
}

// Check reports why the root would not sign a request: it is for a CA of
// another name and key than the root's, with a key that is fit for one.
func (r *Root) Check(csr *x509.CertificateRequest) error {
	switch {
	case len(csr.Subject.Names) == 0:
		return errors.New("it names no subject")
	case bytes.Equal(csr.RawSubject, r.Certificate.RawSubject):
		return fmt.Errorf("it is for the root's own name, %q", csr.Subject)
	case bytes.Equal(csr.RawSubjectPublicKeyInfo, r.Certificate.RawSubjectPublicKeyInfo):
		return errors.New("it is for the root's own key")
	}
	if err := fitKey(csr.PublicKey); err != nil {
		return err
	}
	_, err := identifierOf(csr)
	return err
}

// fitKey accepts the keys that a CA may have.
func fitKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if bits := k.Params().BitSize; bits < 256 {
			return fmt.Errorf("its key is on a curve of %d bits: want P-256, P-384 or P-521", bits)
		}
		return nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < 3072 {
			return fmt.Errorf("its RSA key has %d bits: want at least 3072", bits)
		}
		return nil
	}
	return fmt.Errorf("its key is a %T: want ECDSA or RSA", key)
}

// identifierOf is the subjectKeyIdentifier that a request asks for, or the
// key's own.
func identifierOf(csr *x509.CertificateRequest) ([]byte, error) {
	for _, e := range csr.Extensions {
		if !e.Id.Equal(oidSubjectKeyID) {
			continue
		}
		var id []byte
		if rest, err := asn1.Unmarshal(e.Value, &id); err != nil || len(rest) > 0 || len(id) < 8 || len(id) > 32 {
			return nil, errors.New("it asks for a subjectKeyIdentifier that is not of 8 to 32 bytes")
		}
		return id, nil
	}
	return keyID(csr.PublicKey), nil
}

// Sign signs the certificate of a CA that issues to ends only, as a request
// that passes Check asks for. Of the request's extensions the
// subjectKeyIdentifier alone has a say. The certificate ends with the root's
// at the latest.
func (r *Root) Sign(csr *x509.CertificateRequest, now time.Time) (*x509.Certificate, error) {
	if err := r.Check(csr); err != nil {
		return nil, fmt.Errorf("the request of %q: %w", csr.Subject, err)
	}
	t := caTemplate("", "", now, issuingYears, 0)
	t.NotAfter = earlier(t.NotAfter, r.Certificate.NotAfter)
	t.RawSubject = csr.RawSubject
	t.SubjectKeyId, _ = identifierOf(csr)
	return signCA(t, r.Certificate, csr.PublicKey, r.Key)
}
