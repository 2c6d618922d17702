package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/vetting"
)

// MakeIssuingCA makes the key of an issuing CA, if it is not there, and signs
// its certificate with the root's key, which rootKey names (a URI; "" is where
// Places has it). It is one half of a ceremony, the other is
// [Authorities.CheckIssuingCA] by a server; asked again, it uses the same key.
func MakeIssuingCA(ctx context.Context, p Places, rootKey, name string, now time.Time) (*x509.Certificate, error) {
	if err := vetting.CheckIssuingCAName(name); err != nil {
		return nil, err
	}
	root, by, err := openRoot(ctx, p, rootKey)
	if err != nil {
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
	t := issuingTemplate(root, now)
	t.Subject = pkix.Name{Organization: root.Subject.Organization, OrganizationalUnit: []string{"Device CA"}, CommonName: name}
	return signCA(t, root, key.Public(), by)
}

// RenewIssuingCA signs the certificate of an issuing CA anew: of the same name
// and key, below the root in force.
func RenewIssuingCA(ctx context.Context, p Places, rootKey string, have *x509.Certificate, now time.Time) (*x509.Certificate, error) {
	root, by, err := openRoot(ctx, p, rootKey)
	if err != nil {
		return nil, err
	}
	t := issuingTemplate(root, now)
	t.RawSubject, t.SubjectKeyId = have.RawSubject, have.SubjectKeyId
	return signCA(t, root, have.PublicKey, by)
}

// issuingTemplate is what the certificates of issuing CAs have in common.
// They end with the root at the latest.
func issuingTemplate(root *x509.Certificate, now time.Time) *x509.Certificate {
	t := caTemplate("", "", now, issuingYears, 0)
	t.NotAfter = earlier(t.NotAfter, root.NotAfter)
	return t
}

func openRoot(ctx context.Context, p Places, uri string) (*x509.Certificate, crypto.Signer, error) {
	root, err := readCertificate(p.certificate(RootName))
	if err != nil {
		return nil, nil, err
	}
	if uri == "" {
		uri = p.key(RootName)
	}
	key, err := p.openKey(ctx, uri, root)
	if err != nil {
		return nil, nil, fmt.Errorf("an issuing CA is signed with the root's key, which lies in a safe: bring it, and say where it is: %w", err)
	}
	return root, key, nil
}

// openKey opens the key of a certificate.
func (p Places) openKey(ctx context.Context, uri string, cert *x509.Certificate) (crypto.Signer, error) {
	signer, err := keys.Ring{Dir: p.Dir}.Open(ctx, uri)
	if err != nil {
		return nil, err
	}
	have, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(have, cert.RawSubjectPublicKeyInfo) {
		return nil, fmt.Errorf("the key %s is not the key of the certificate of %q: one of them belongs to another CA", keys.Redact(uri), cert.Subject)
	}
	return signer, nil
}
