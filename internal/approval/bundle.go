package approval

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bundle is a proposal with its approvals as a file that can be verified with
// nothing else than the root certificate.
type Bundle struct {
	// Envelope is a DSSE envelope, as it stands.
	Envelope Envelope `json:"envelope"`
	// Signers belong to the envelope's signatures, in their order.
	Signers []Signer `json:"signers"`
	// Proof, where there is one, shows that the log has the leaf about the
	// last approval: package audit checks it.
	Proof json.RawMessage `json:"proof,omitempty"`
}

// Envelope is a DSSE envelope (https://github.com/secure-systems-lab/dsse,
// envelope.md).
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"`
	Signatures  []Signature `json:"signatures"`
}

// Signature is one of an envelope.
type Signature struct {
	KeyID string `json:"keyid"` // SHA-256 of the SubjectPublicKeyInfo, hex
	Sig   []byte `json:"sig"`
}

// Signer says whose a signature is and when it was given.
type Signer struct {
	By           string    `json:"by"`
	At           time.Time `json:"at"` // as the server noted it
	Certificates [][]byte  `json:"certificates"`
}

// MaxBundle is the longest bundle that is looked at, in bytes.
const MaxBundle = 2 << 20

// Bundle puts a proposal and its approvals into a bundle.
func (p *Proposal) Bundle() (*Bundle, error) {
	b := &Bundle{Envelope: Envelope{PayloadType: PayloadType, Payload: p.Payload, Signatures: []Signature{}}, Signers: []Signer{}}
	for _, a := range p.Approvals {
		cert, err := x509.ParseCertificate(a.Certificates[0])
		if err != nil {
			return nil, fmt.Errorf("the certificate of %s: %w", a.By, err)
		}
		b.Envelope.Signatures = append(b.Envelope.Signatures, Signature{keyID(cert), a.Signature})
		b.Signers = append(b.Signers, Signer{a.By, a.At, a.Certificates})
	}
	return b, nil
}

// ReadBundle reads a bundle. It does not verify it.
func ReadBundle(text []byte) (*Bundle, error) {
	if len(text) > MaxBundle {
		return nil, fmt.Errorf("the bundle is %d bytes long: at most %d are accepted", len(text), MaxBundle)
	}
	b := new(Bundle)
	if err := strict(text, b); err != nil {
		return nil, fmt.Errorf("this is not a bundle of approvals: %w", err)
	}
	switch n := len(b.Envelope.Signatures); {
	case b.Envelope.PayloadType != PayloadType:
		return nil, fmt.Errorf("the bundle is about a %q: want %s", b.Envelope.PayloadType, PayloadType)
	case n != len(b.Signers):
		return nil, fmt.Errorf("the bundle has %d signatures by %d signers", n, len(b.Signers))
	case n > MaxWanted:
		return nil, fmt.Errorf("the bundle has %d signatures: at most %d can be wanted", n, MaxWanted)
	}
	return b, nil
}

// Verified is what a bundle proves.
type Verified struct {
	Terms *Terms
	// Approvers are the operators who agreed, each with a certificate of an
	// operator CA below the root.
	Approvers []Approver
}

// Approver is an operator who agreed to the terms.
type Approver struct {
	Name        string            `json:"name"`
	Role        string            `json:"role"` // as the certificate has it
	At          time.Time         `json:"at"`   // as the server noted it
	Certificate *x509.Certificate `json:"-"`
}

// Verify checks a bundle against the root: every signature is over the very
// terms, by the key of an operator's certificate that was valid then, none of
// them by who asked or by somebody who signed already, all within the
// proposal's time, and as many as were wanted. What the bundle cannot show is
// that no operator among them had been revoked; the server refuses those.
func (b *Bundle) Verify(root *x509.Certificate) (*Verified, error) {
	t, err := ReadTerms(b.Envelope.Payload)
	if err != nil {
		return nil, err
	}
	v := &Verified{Terms: t}
	for i, s := range b.Signers {
		a, err := b.approver(i, s, t, root)
		if err != nil {
			return nil, fmt.Errorf("signature %d, of %s: %w", i+1, s.By, err)
		}
		if slices.ContainsFunc(v.Approvers, func(other Approver) bool {
			return other.Name == a.Name || keyID(other.Certificate) == keyID(a.Certificate)
		}) {
			return nil, fmt.Errorf("%s signed twice", a.Name)
		}
		v.Approvers = append(v.Approvers, *a)
	}
	if have := len(v.Approvers); have < t.Wanted {
		return nil, fmt.Errorf("%d of %d approvals: the proposal does not have what it wants", have, t.Wanted)
	}
	return v, nil
}

// approver checks one signature.
func (b *Bundle) approver(i int, s Signer, t *Terms, root *x509.Certificate) (*Approver, error) {
	sig := b.Envelope.Signatures[i]
	if err := verify(b.Envelope.Payload, Approval{By: s.By, Certificates: s.Certificates, Signature: sig.Sig}); err != nil {
		return nil, err
	}
	cert, err := operatorOf(s, root)
	switch {
	case err != nil:
		return nil, err
	case keyID(cert) != sig.KeyID:
		return nil, errors.New("the key that the envelope names is not the certificate's")
	case s.By == t.By:
		return nil, errors.New("the one who asked cannot approve")
	case s.At.Before(t.At) || !s.At.Before(t.Expires):
		return nil, fmt.Errorf("it was given at %s, and the proposal waited from %s to %s", s.At.Format(time.RFC3339), t.At.Format(time.RFC3339), t.Expires.Format(time.RFC3339))
	}
	return &Approver{Name: s.By, Role: role(cert), At: s.At, Certificate: cert}, nil
}

// operatorCA tells a CA that certifies operators from the others below the
// same root, which certify devices, rigs and code: it is the organizational
// unit of its subject. The first one, which init makes, has none, and this at
// the end of its name.
const operatorCA = "Operator CA"

// operatorOf checks that a signer's certificate is that of the operator, by
// an operator CA below the root, and was valid then.
func operatorOf(s Signer, root *x509.Certificate) (*x509.Certificate, error) {
	chain := make([]*x509.Certificate, len(s.Certificates))
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for i, der := range s.Certificates {
		var err error
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, err
		}
		between.AddCert(chain[i])
	}
	cert := chain[0]
	paths, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: s.At, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	switch {
	case err != nil:
		return nil, err
	case !slices.ContainsFunc(paths, byOperatorCA):
		return nil, fmt.Errorf("the certificate of %q is not by an operator CA", cert.Subject)
	case cert.Subject.CommonName != s.By:
		return nil, fmt.Errorf("the certificate is that of %q", cert.Subject.CommonName)
	}
	return cert, nil
}

func byOperatorCA(path []*x509.Certificate) bool {
	if len(path) < 3 {
		return false
	}
	s := path[1].Subject
	if len(s.OrganizationalUnit) == 0 {
		return len(s.Organization) == 1 && s.CommonName == s.Organization[0]+" "+operatorCA
	}
	return slices.Equal(s.OrganizationalUnit, []string{operatorCA})
}

// role is the operator's as the certificate has it.
func role(cert *x509.Certificate) string {
	if len(cert.Subject.OrganizationalUnit) != 1 {
		return ""
	}
	return cert.Subject.OrganizationalUnit[0]
}
