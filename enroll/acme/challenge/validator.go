// Package challenge finds out whether a challenge of ACME was met. It has
// smallstep's acme package do what every CA has to do the same, and is stricter
// where that is lenient: before, it bounds and checks what a client sent, and
// after, it takes no word for granted that it has not seen (docs/decisions/acme.md
// has the list).
package challenge

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/smallstep/certificates/acme"
	"github.com/smallstep/certificates/authority/provisioner"
	"go.step.sm/crypto/jose"

	door "github.com/touchmark/touchmark/enroll/acme"
	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/vetting"
)

// Vendors finds the products that trust the chain of an attestation, the
// attesting certificate first. A *vendorid.Rejection says why none does.
type Vendors interface {
	Matches(ctx context.Context, chain []*x509.Certificate) ([]vetting.VendorMatch, error)
}

// Validator implements the door's.
type Validator struct {
	Vendors Vendors
	// Reach is how servers are reached whose names are to be proved.
	Reach Reach
}

// Validate implements the door's Validator.
func (v *Validator) Validate(ctx context.Context, t door.Trial) (door.Proved, error) {
	if t.Type == certorder.DeviceAttest01 {
		return v.attested(ctx, t)
	}
	return door.Proved{}, v.Reach.visit(ctx, t)
}

func refuse(kind, format string, args ...any) error {
	return &certorder.Problem{Type: kind, Detail: fmt.Sprintf(format, args...), Status: http.StatusForbidden}
}

func badStatement(format string, args ...any) error {
	return refuse("badAttestationStatement", format, args...)
}

// errPanicked is what a panic of the library comes to: it reads members of
// structures that a statement need not have.
var errPanicked = badStatement("the attestation statement is malformed")

// run has the library validate a challenge. It returns the fingerprint of the
// attested key, if there is one.
func run(ctx context.Context, t door.Trial) (key string, err error) {
	defer func() {
		if recover() != nil {
			key, err = "", errPanicked
		}
	}()
	memory := new(memory)
	ch := &acme.Challenge{Type: acme.ChallengeType(t.Type), Token: t.Token, Value: t.Identifier.Value, Status: acme.StatusPending}
	err = ch.Validate(ctx, memory, &jose.JSONWebKey{Key: t.Key.Key}, t.Payload)
	failed := new(acme.Error)
	switch {
	case ch.Error != nil:
		return "", problemOf(ch.Error)
	case errors.As(err, &failed):
		// The library calls malformed statements internal errors, too.
		return "", badStatement("%v", failed)
	case err != nil:
		return "", fmt.Errorf("validate %s for %q: %w", t.Type, t.Identifier.Value, err)
	case ch.Status != acme.StatusValid:
		return "", fmt.Errorf("validate %s for %q: the challenge is %s", t.Type, t.Identifier.Value, ch.Status)
	}
	return memory.fingerprint, nil
}

// problemOf tells a client all that the library found out.
func problemOf(e *acme.Error) error {
	kind := e.Type[strings.LastIndexByte(e.Type, ':')+1:]
	detail := e.Detail
	if e.Err != nil && !strings.Contains(detail, e.Err.Error()) {
		detail = e.Err.Error()
	}
	for _, s := range e.Subproblems {
		detail += ": " + s.Detail
	}
	return refuse(kind, "%s", detail)
}

// memory is what the library believes to be its database: it keeps what one
// validation came to. The library calls no other method for these challenges.
type memory struct {
	acme.DB
	fingerprint string
}

func (m *memory) GetAuthorization(context.Context, string) (*acme.Authorization, error) {
	return new(acme.Authorization), nil
}

func (m *memory) UpdateAuthorization(_ context.Context, a *acme.Authorization) error {
	m.fingerprint = a.Fingerprint
	return nil
}

func (m *memory) UpdateChallenge(context.Context, *acme.Challenge) error { return nil }

// trust is what the library believes to be its configuration.
type trust struct {
	acme.Provisioner
	roots *x509.CertPool
}

// trusting has the library trust an attesting certificate, whose chain was
// verified.
func trusting(ctx context.Context, c *x509.Certificate) context.Context {
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return acme.NewProvisionerContext(ctx, trust{roots: pool})
}

func (t trust) GetAttestationRoots() (*x509.CertPool, bool) { return t.roots, true }

func (t trust) IsAttestationFormatEnabled(_ context.Context, f provisioner.ACMEAttestationFormat) bool {
	return known[string(f)] != nil
}
