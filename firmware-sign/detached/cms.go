// Package detached makes signatures that stay in a file of their own beside
// what they sign: CMS and raw.
package detached

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/cmsdraft"
	"github.com/touchmark/touchmark/firmware-sign/internal/stream"
	"github.com/touchmark/touchmark/internal/cms"
)

// CMS is a detached SignedData with one signer (RFC 5652 §5), in DER, as
// "openssl cms -verify -binary -content FILE" takes it. Keys are RSA or
// ECDSA; verifiers in use know no Ed25519 there.
type CMS struct {
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // issuing CAs that go along, without the root
	// At is the signing time that stands in the signature, a part of what is
	// signed; to the second.
	At  time.Time
	PSS bool // an RSA key signs with PSS instead of PKCS #1 v1.5
}

type cmsDraft struct {
	draft *cms.Draft
	want  firmwaresign.ToSign
}

// Prepare digests the file, and writes nothing.
func (c CMS) Prepare(file *io.SectionReader, _ io.Writer) (firmwaresign.Draft, error) {
	d := cms.Detached{Certificate: c.Certificate, Chain: c.Chain, At: c.At, PSS: c.PSS}
	draft, want, err := cmsdraft.New(d, func(hash crypto.Hash) ([]byte, error) { return digest(file, hash) })
	return cmsDraft{draft, want}, err
}

func (d cmsDraft) ToSign() []firmwaresign.ToSign { return []firmwaresign.ToSign{d.want} }

func (d cmsDraft) Finish(out io.Writer, signatures [][]byte) error {
	der, err := d.draft.Finish(signatures[0])
	if err != nil {
		return err
	}
	_, err = out.Write(der)
	return err
}

func digest(file *io.SectionReader, hash crypto.Hash) ([]byte, error) {
	if file.Size() == 0 {
		return nil, errors.New("the file is empty")
	}
	h := hash.New()
	if err := stream.Copy(h, nil, io.NewSectionReader(file, 0, file.Size()), file.Size()); err != nil {
		return nil, fmt.Errorf("read the file to sign: %w", err)
	}
	return h.Sum(nil), nil
}

// VerifyCMS checks a detached signature over a file. Every signer's
// certificate must be inside, issued by one of the roots (which may be issuing
// CAs) and valid at the given time.
func VerifyCMS(file *io.SectionReader, signature []byte, roots *x509.CertPool, at time.Time) ([]cms.Signer, error) {
	return cms.VerifyDetached(signature, func(hash crypto.Hash) ([]byte, error) { return digest(file, hash) }, roots, at)
}
