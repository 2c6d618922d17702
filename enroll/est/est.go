// Package est is the EST door (RFC 7030, RFC 8951): it turns HTTP requests
// into claims and outcomes into HTTP answers, and decides nothing.
//
// Served are /cacerts, /csrattrs, /simpleenroll, /simplereenroll and
// /serverkeygen, each also below a label that names a product; /fullcmc
// answers 501.
package est

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/httperr"
	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/vetting"
)

// Enroller judges requests.
type Enroller interface {
	Enroll(ctx context.Context, r enroll.Request) (enroll.Outcome, error)
}

// Identifier tells who a client certificate speaks for; enroll.Authenticator
// implements it.
type Identifier interface {
	Identify(ctx context.Context, cert *x509.Certificate, issuers ...*x509.Certificate) (enroll.Client, error)
}

// Activator notes the first authenticated use of an official certificate.
type Activator interface {
	Activate(ctx context.Context, serial string) error
}

// Products finds a product by the label that names it; a vetting.NotFound
// error if there is none.
type Products interface {
	Product(ctx context.Context, name string) (*vetting.Product, error)
}

// Forms tells what requests for a product should look like.
type Forms interface {
	RequestForm(p *vetting.Product) (enroll.RequestForm, error)
}

// Handler serves EST below /.well-known/est/.
type Handler struct {
	Enroller Enroller
	Clients  Identifier
	Active   Activator
	Products Products
	Forms    Forms
	// CACerts returns what /cacerts answers, as DER.
	CACerts func() [][]byte
	// Signatory signs, as the maker, private keys that are sent encrypted
	// (RFC 7030 §4.4.2).
	Signatory func() (cms.Signatory, error)
	Log       *slog.Logger
	Now       func() time.Time
}

// Prefix is where EST lives (RFC 7030 §3.2.2).
const Prefix = "/.well-known/est/"

// operation is one EST operation: its methods and what carries it out.
type operation struct {
	methods []string
	run     func(*Handler, *exchange) error
}

var (
	reads = []string{http.MethodGet, http.MethodHead}
	posts = []string{http.MethodPost}
)

var operations = map[string]operation{
	"cacerts":        {reads, (*Handler).cacerts},
	"csrattrs":       {reads, (*Handler).csrattrs},
	"simpleenroll":   {posts, (*Handler).simpleenroll},
	"simplereenroll": {posts, (*Handler).simplereenroll},
	"fullcmc":        {posts, (*Handler).notImplemented},
	"serverkeygen":   {posts, (*Handler).serverkeygen},
}

// exchange is one request with its answer.
type exchange struct {
	w       http.ResponseWriter
	r       *http.Request
	label   string
	product *vetting.Product // the label's; nil without one
	client  *enroll.Client   // nil without a client certificate and code

	credentials *credentials // nil without HTTP Basic
}

// ServeHTTP routes by the exact path: an optional label and an operation.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.serve(w, r); err != nil {
		h.fail(w, r, err)
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) error {
	label, name, err := split(r.URL.EscapedPath())
	if err != nil {
		return err
	}
	op, ok := operations[name]
	if !ok {
		return httperr.New(http.StatusNotFound, "there is no EST operation %q here; known are cacerts, csrattrs, simpleenroll, simplereenroll and serverkeygen, after an optional label that names the product", name)
	}
	if !slices.Contains(op.methods, r.Method) {
		allowed := strings.Join(op.methods, ", ")
		w.Header().Set("Allow", allowed)
		return httperr.New(http.StatusMethodNotAllowed, "/%s takes %s, not %s", name, allowed, r.Method)
	}
	x := &exchange{w: w, r: r, label: label}
	if label != "" {
		if x.product, err = h.Products.Product(r.Context(), label); err != nil {
			if vetting.ProblemOf(err) == vetting.NotFound {
				return httperr.New(http.StatusNotFound, "there is no product %q: the label in the path must be a product's name, or be left out", label)
			}
			return err
		}
	}
	return op.run(h, x)
}

// split takes /.well-known/est/[label/]operation apart.
func split(path string) (label, op string, err error) {
	rest, ok := strings.CutPrefix(path, Prefix)
	if !ok {
		return "", "", httperr.New(http.StatusNotFound, "EST is served below %s", Prefix)
	}
	if label, op, ok = strings.Cut(rest, "/"); !ok {
		return "", rest, nil
	}
	if label == "" || strings.Contains(op, "/") {
		return "", "", httperr.New(http.StatusNotFound, "the path %s has not the form %s[label/]operation", path, Prefix)
	}
	return label, op, nil
}

// identify tells who the client is, from its certificate if it sent one.
func (h *Handler) identify(x *exchange) error {
	if x.r.TLS == nil || len(x.r.TLS.PeerCertificates) == 0 {
		return nil
	}
	c, err := h.Clients.Identify(x.r.Context(), x.r.TLS.PeerCertificates[0], x.r.TLS.PeerCertificates[1:]...)
	if err != nil {
		return err
	}
	x.client = &c
	return nil
}

func (h *Handler) cacerts(x *exchange) error {
	if err := h.use(x); err != nil {
		return err
	}
	body, err := certsOnly(h.CACerts()...)
	if err != nil {
		return err
	}
	x.answer("application/pkcs7-mime", body)
	return nil
}

// use notes that an official certificate was used: any authenticated use
// activates it. A client certificate that does not count is no obstacle
// here, for /cacerts and /csrattrs need none (RFC 7030 §4.1.2, §4.5).
func (h *Handler) use(x *exchange) error {
	err := h.identify(x)
	if auth := new(enroll.AuthError); errors.As(err, &auth) || err == nil && x.client == nil {
		return nil
	}
	if err != nil || x.client.Auth.Proof != vetting.ProofOfficial || x.client.Expired {
		return err
	}
	err = h.Active.Activate(x.r.Context(), x.client.Auth.Certificate)
	if vetting.ProblemOf(err) == vetting.NotFound {
		return nil
	}
	return err
}

func (h *Handler) notImplemented(x *exchange) error {
	return httperr.New(http.StatusNotImplemented, "%s is not implemented: enrol with /simpleenroll, renew with /simplereenroll", x.r.URL.Path)
}

// fail is the one place where errors become answers: text/plain that a
// person on the line can act on (RFC 8951 §5).
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	a := httperr.To(r, err, h.Log, h.Now())
	httperr.SetRetryAfter(w.Header(), a.RetryAfter)
	plain(w, a.Status, a.Text)
}

func plain(w http.ResponseWriter, status int, text string) {
	body := text + "\n"
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // a client that is gone needs no answer
}
