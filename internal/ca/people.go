package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/vetting"
)

// operatorValidity is how long an operator's or rig's certificate lasts.
const operatorValidity = 397 * 24 * time.Hour

// workloadValidity is how long that of a workload lasts.
const workloadValidity = time.Hour

// OperatorIssuer makes the certificates of operators and rigs.
type OperatorIssuer struct {
	Authorities *Authorities
	Now         func() time.Time
}

// IssueOperator signs the request's key: by the factory CA for those of a
// site, by the operator CA for the others. Nothing else in the request is
// looked at.
func (i OperatorIssuer) IssueOperator(csr *x509.CertificateRequest, op *access.Operator) (*access.Certificate, error) {
	key, now := csr.PublicKey, i.Now()
	by, err := i.Authorities.present(purposeOfRole(op.Role), now)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: i.Authorities.Serials.New(),
		Subject:      pkix.Name{CommonName: op.Name, OrganizationalUnit: []string{string(op.Role)}},
		NotBefore:    now.Add(-Backdate).UTC().Truncate(time.Second),
		NotAfter:     earlier(now.Add(operatorValidity), by.Certificate.NotAfter),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection},
		SubjectKeyId: keyID(key), BasicConstraintsValid: true,
	}
	if of := op.Site + op.Owner; of != "" { // one of them at most
		t.Subject.Organization = []string{of}
	}
	if op.Trust != nil {
		t.NotAfter = earlier(now.Add(workloadValidity), by.Certificate.NotAfter)
	}
	if op.Role == access.RoleRig || op.Role.OfOwner() || op.Trust != nil { // they sign nothing
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if op.Role == access.RoleRig {
		t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidCMCRA}
	}
	der, err := by.sign(t, key)
	if err != nil {
		return nil, err
	}
	return &access.Certificate{DER: der, Chain: [][]byte{by.Certificate.Raw, i.Authorities.Root.Raw}, Issuer: by.name, NotAfter: t.NotAfter}, nil
}

// purposeOfRole is what the CA is for that issues to a role.
func purposeOfRole(role access.Role) vetting.Purpose {
	if role.OfSite() {
		return vetting.ForSites
	}
	return vetting.ForOperators
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		a = b
	}
	return a.UTC().Truncate(time.Second)
}

// serverValidity is the lifetime of the server's own certificate; it renews
// at two thirds of it.
const serverValidity = 90 * 24 * time.Hour

// ServerCertificate is the server's own TLS certificate. It issues itself
// from the operator CA, keeps its key in memory unless there is one for it, and renews without a
// restart: the handshake that finds it past two thirds of its life, or of
// another operator CA than the present one, makes the next one.
type ServerCertificate struct {
	authorities *Authorities
	names       []string
	now         func() time.Time

	current atomic.Pointer[ownCertificate]
	renewal chan struct{} // holds one token: the right to renew
}

// ownCertificate is a certificate of the server's and whose it is.
type ownCertificate struct {
	tls.Certificate
	by    *issuer
	chain []*x509.Certificate // what it shows beside it
}

// NewServerCertificate issues the first certificate for DNS names and IP
// addresses.
func NewServerCertificate(a *Authorities, names []string, now func() time.Time) (*ServerCertificate, error) {
	if len(names) == 0 {
		return nil, fmt.Errorf("the server needs at least one name or address, under which devices reach it")
	}
	s := &ServerCertificate{authorities: a, names: names, now: now, renewal: make(chan struct{}, 1)}
	s.renewal <- struct{}{}
	return s, s.renew()
}

// Get serves tls.Config.GetCertificate.
func (s *ServerCertificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c := s.current.Load()
	if !s.due(c) {
		return &c.Certificate, nil
	}
	select {
	case <-s.renewal:
		defer func() { s.renewal <- struct{}{} }()
		if c := s.current.Load(); !s.due(c) {
			return &c.Certificate, nil
		}
		if err := s.renew(); err != nil && s.now().After(c.Leaf.NotAfter) {
			return nil, err // with a valid one left, that serves on
		}
	default: // somebody else renews; the present one still counts
	}
	return &s.current.Load().Certificate, nil
}

// Signatory signs CMS messages in the server's name.
func (s *ServerCertificate) Signatory() (cms.Signatory, error) {
	if _, err := s.Get(nil); err != nil {
		return cms.Signatory{}, err
	}
	c := s.current.Load()
	return cms.Signatory{Certificate: c.Leaf, Chain: c.chain, Key: c.PrivateKey.(crypto.Signer)}, nil
}

// NotAfter is the present certificate's end.
func (s *ServerCertificate) NotAfter() time.Time { return s.current.Load().Leaf.NotAfter }

func (s *ServerCertificate) due(c *ownCertificate) bool {
	life := c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)
	return s.now().After(c.Leaf.NotBefore.Add(life*2/3)) || s.authorities.issuers.Load().present(vetting.ForOperators).name != c.by.name
}

// newKey is the key of the next certificate: the configured one, or one that
// never leaves memory.
func (s *ServerCertificate) newKey() (crypto.Signer, error) {
	if key := s.authorities.Own(TLSKeyName); key != nil {
		return key, nil
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func (s *ServerCertificate) renew() error {
	key, err := s.newKey()
	if err != nil {
		return err
	}
	now := s.now()
	by, err := s.authorities.present(vetting.ForOperators, now)
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: s.authorities.Serials.New(),
		Subject:      pkix.Name{CommonName: s.names[0]},
		NotBefore:    now.Add(-Backdate).UTC().Truncate(time.Second),
		NotAfter:     earlier(now.Add(serverValidity), by.Certificate.NotAfter),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		SubjectKeyId: keyID(key.Public()), BasicConstraintsValid: true,
	}
	for _, name := range s.names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, by.Certificate, key.Public(), by.Signer)
	if err != nil {
		return fmt.Errorf("issue the server's own certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	c := &ownCertificate{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, by, s.authorities.chain(by.Authority)}
	for _, issuer := range c.chain {
		c.Certificate.Certificate = append(c.Certificate.Certificate, issuer.Raw)
	}
	s.current.Store(c)
	return nil
}
