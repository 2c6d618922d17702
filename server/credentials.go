package server

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/vetting"
)

// credentials are what this node signs OCSP answers with: for each CA that
// issues to devices a key, and the certificate by which the CA lets it answer.
// The certificate is replaced at half of its life, and so is a key that never
// leaves memory.
type credentials struct {
	key     crypto.Signer // of all, as an HSM has it; nil for others in memory
	issuing func() []ca.Issuing
	certify certifier
	tell    func([]ocsp.Issuer) error
	log     *slog.Logger
	now     func() time.Time

	mu   sync.Mutex // held while they are looked after
	held map[int64]*credential
	told []*x509.Certificate // the CAs that were told

	expiries atomic.Pointer[map[string]time.Time] // of the certificates, for a scrape that never waits
}

// certifier gets a CA's certificate for a key that is to answer for it.
type certifier func(ctx context.Context, issuer string, key crypto.Signer) (der []byte, err error)

// credential is that of one CA.
type credential struct {
	current atomic.Pointer[ocsp.Credential]
	again   time.Time // when to try again after a failure
	failing bool
}

// credentialsEvery is how often credentials are looked after, and retryAfter
// how long after a failure one is tried again.
const (
	credentialsEvery = time.Second
	retryAfter       = 10 * time.Second
)

var errNoCredential = errors.New("the CA has not let this server answer for it yet")

func (c *credential) get() (*ocsp.Credential, error) {
	if have := c.current.Load(); have != nil {
		return have, nil
	}
	return nil, errNoCredential
}

// due reports whether another one is wanted: there is none, half of its life
// is over, or the clock says that it has not begun.
func (c *credential) due(now time.Time) bool {
	have := c.current.Load()
	return have == nil || now.Before(have.NotBefore) || now.After(have.NotBefore.Add(have.NotAfter.Sub(have.NotBefore)/2))
}

func (c *credentials) run(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			c.refresh(ctx)
		}
	}
}

// refresh looks after the credentials of all CAs that there are by now, and
// tells the responder of CAs that are new. It logs what fails.
func (c *credentials) refresh(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.issuing()
	for _, i := range list {
		if c.held[i.ID] == nil {
			if c.held == nil {
				c.held = map[int64]*credential{}
			}
			c.held[i.ID] = new(credential)
		}
		c.look(ctx, i, c.held[i.ID])
	}
	c.announce(ctx, list)
	c.noteExpiries(list)
}

func (c *credentials) noteExpiries(list []ca.Issuing) {
	ends := map[string]time.Time{}
	for _, i := range list {
		if have := c.held[i.ID].current.Load(); have != nil {
			ends[responderPrefix+i.Name] = have.NotAfter
		}
	}
	c.expiries.Store(&ends)
}

// responderPrefix begins the names of responders' certificates in metrics.
const responderPrefix = "responder-"

// look replaces the credential of a CA if that is due.
func (c *credentials) look(ctx context.Context, i ca.Issuing, h *credential) {
	now := c.now()
	if !h.due(now) || now.Before(h.again) && now.After(h.again.Add(-retryAfter)) {
		return
	}
	made, err := c.make(ctx, i)
	if err != nil {
		h.again = now.Add(retryAfter)
		if !h.failing && ctx.Err() == nil {
			c.log.WarnContext(ctx, "a CA did not let this server answer OCSP requests for it; it is tried again", "issuer", i.Name, "error", keys.Redact(err.Error()))
		}
		h.failing = true
		return
	}
	h.current.Store(made)
	h.failing, h.again = false, time.Time{}
}

func (c *credentials) make(ctx context.Context, i ca.Issuing) (*ocsp.Credential, error) {
	key := c.key
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
	}
	der, err := c.certify(ctx, i.Name, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return ocsp.NewCredential(i.Certificate, cert, key)
}

// announce tells the responder of the CAs, if they are not those that it
// knows.
func (c *credentials) announce(ctx context.Context, list []ca.Issuing) {
	certs := make([]*x509.Certificate, len(list))
	issuers := make([]ocsp.Issuer, len(list))
	for n, i := range list {
		certs[n] = i.Certificate
		issuers[n] = ocsp.Issuer{ID: i.ID, Certificate: i.Certificate, Genuine: func(s ocsp.Serial) bool { return i.Serials.Made(s) }, Credential: c.held[i.ID].get}
	}
	if slices.EqualFunc(certs, c.told, (*x509.Certificate).Equal) {
		return
	}
	if err := c.tell(issuers); err != nil {
		c.log.ErrorContext(ctx, "OCSP cannot be answered for these CAs", "error", err)
		return
	}
	c.told = certs
}

// responders lets keys answer for the CAs whose keys this server holds, with
// a leaf in the log for each.
type responders struct {
	authorities *ca.Authorities
	log         interface {
		// NoteResponder writes into the log that a CA let a key answer.
		NoteResponder(ctx context.Context, by, issuer string, serial []byte) error
	}
	forged *forged
	now    func() time.Time
}

// CertifyResponder implements api.Responders.
func (r responders) CertifyResponder(ctx context.Context, act access.Act, issuer string, key crypto.PublicKey) ([]byte, error) {
	if _, err := r.issuer(issuer); err != nil {
		return nil, err
	}
	if ec, ok := key.(*ecdsa.PublicKey); !ok || ec.Curve != elliptic.P256() && ec.Curve != elliptic.P384() {
		return nil, vetting.Errorf(vetting.Invalid, "a responder signs with a key on P-256 or P-384, and the request has another")
	}
	return r.certify(ctx, "operator:"+act.Operator, issuer, key)
}

// own lets this server's own key answer.
func (r responders) own(ctx context.Context, issuer string, key crypto.Signer) ([]byte, error) {
	return r.certify(ctx, "server", issuer, key.Public())
}

func (r responders) certify(ctx context.Context, by, issuer string, key crypto.PublicKey) ([]byte, error) {
	der, err := r.authorities.IssueResponder(issuer, key, r.now())
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if err := r.log.NoteResponder(ctx, by, issuer, cert.SerialNumber.Bytes()); err != nil {
		return nil, fmt.Errorf("write into the log that a responder was let answer for %s: %w", issuer, err)
	}
	return der, nil
}
