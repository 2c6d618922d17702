package catalogue

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/authenticode"
	"github.com/touchmark/touchmark/firmware-sign/rauc"
	"github.com/touchmark/touchmark/firmware-sign/swupdate"
	"github.com/touchmark/touchmark/internal/cms"
)

// Certified says of a format that its verifiers know a root, to which
// certificates in the output lead. It gives the CMS messages in an output.
type Certified func(signed *io.SectionReader) ([][]byte, error)

func certifiedBy(message func(*io.SectionReader) ([]byte, error)) Certified {
	return func(signed *io.SectionReader) ([][]byte, error) {
		one, err := message(signed)
		return [][]byte{one}, err
	}
}

var (
	certifiedInCMS              = certifiedBy(signatureOf)
	certifiedInBundle           = certifiedBy(rauc.Signature)
	certifiedInUpdate           = certifiedBy(swupdate.Signature)
	certifiedInPE     Certified = authenticode.Signatures
)

// Signers are who signed an output, as far as their certificates, those inside
// the output, lead to one of the roots, are for signing code, and are valid at
// the given time. Whether the signatures are good, Check tells, which wants to
// know the signers.
func (f *Format) Signers(signed *io.SectionReader, roots *x509.CertPool, at time.Time) (list []Signer, err error) {
	messages, err := f.Certified(signed)
	if err != nil {
		return nil, err
	}
	var refused error
	for _, message := range messages {
		certs, others, err := cms.Certificates(message, maxSignature)
		if err != nil {
			return nil, fmt.Errorf("the signature: %w", err)
		}
		between := x509.NewCertPool()
		for _, c := range others {
			between.AddCert(c)
		}
		for _, c := range certs {
			_, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}})
			if err != nil {
				refused = errors.Join(refused, fmt.Errorf("the certificate of %q: %w", c.Subject, err))
				continue
			}
			list = append(list, Signer{Public: c.PublicKey, Certificate: c, Chain: others})
		}
	}
	switch {
	case len(list) > 0:
		return list, nil
	case refused != nil:
		return nil, refused
	}
	return nil, errors.New("it is not signed")
}

// ToCheck completes parameters with which an output is checked that nobody
// knows more of. What a release says is not asked for then.
func (f *Format) ToCheck(given map[string]string, at time.Time) (map[string]string, error) {
	all, err := f.Complete(given, Of{Now: at})
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(all, func(name, _ string) bool {
		_, said := given[name]
		return !said && slices.ContainsFunc(f.Parameters, func(p Parameter) bool { return p.Name == name && strings.HasPrefix(p.Default, "{") })
	})
	return all, nil
}
