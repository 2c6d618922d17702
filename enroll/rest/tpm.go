package rest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/attest"
	"github.com/touchmark/touchmark/enroll/httperr"
	"github.com/touchmark/touchmark/vetting"
)

// Enroller judges requests.
type Enroller interface {
	Enroll(ctx context.Context, r enroll.Request) (enroll.Outcome, error)
}

// Products finds a product by its name; a vetting.NotFound error if there is
// none.
type Products interface {
	Product(ctx context.Context, name string) (*vetting.Product, error)
}

// TPM is enrolment by a TPM, in the exchange of docs/tpm.md.
type TPM struct {
	Attestor *attest.Attestor
	// CA certifies AKs, for step's clients.
	CA       *attest.CA
	Enroller Enroller
	Products Products
	// CACerts are the CA certificates that go with an official one, as DER.
	CACerts func() [][]byte
}

// maxTPM bounds a message, in bytes.
const maxTPM = 32 << 10

// certified is the answer to a device that was let in.
type certified struct {
	Certificate []byte   `json:"certificate"`
	CAs         [][]byte `json:"cas"`
}

type tpmEnrolment struct {
	attest.Proof
	CSR []byte `json:"csr"`
}

func (t *TPM) routes(h *Handler, mux *http.ServeMux) {
	mux.HandleFunc("POST "+Prefix+"tpm/challenge", h.answering(t.challenge))
	mux.HandleFunc("GET "+Prefix+"tpm/ca", t.showCA)
	mux.HandleFunc("POST "+Prefix+"tpm/attest", h.answering(t.attest))
	mux.HandleFunc("POST "+Prefix+"tpm/secret", h.answering(t.secret))
	mux.HandleFunc("POST "+Prefix+"tpm/enrol", func(w http.ResponseWriter, r *http.Request) {
		if err := t.enrol(w, r, h); err != nil {
			h.fail(w, r, err)
		}
	})
}

// showCA gives the attestation CA's certificate, which whoever trusts its
// certificates needs.
func (t *TPM) showCA(w http.ResponseWriter, _ *http.Request) {
	text := t.CA.Vendor().Anchors
	w.Header().Set("Content-Type", "application/pem-certificate-chain")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = io.WriteString(w, text) // a client that is gone needs no answer
}

// attest and secret are the two messages to an attestation CA, in the form of
// step's clients, whose requests may have more fields than are looked at here.
func (t *TPM) attest(_ http.ResponseWriter, r *http.Request) (any, error) {
	var in attest.AttestRequest
	if err := readLooseJSON(r, &in); err != nil {
		return nil, err
	}
	return t.CA.Attest(r.Context(), in)
}

func (t *TPM) secret(_ http.ResponseWriter, r *http.Request) (any, error) {
	var in attest.SecretRequest
	if err := readLooseJSON(r, &in); err != nil {
		return nil, err
	}
	return t.CA.Secret(r.Context(), in)
}

func (t *TPM) challenge(_ http.ResponseWriter, r *http.Request) (any, error) {
	var hello attest.Hello
	if err := readJSON(r, &hello); err != nil {
		return nil, err
	}
	return t.Attestor.Challenge(r.Context(), hello)
}

func (t *TPM) enrol(w http.ResponseWriter, r *http.Request, h *Handler) error {
	var in tpmEnrolment
	if err := readJSON(r, &in); err != nil {
		return err
	}
	if err := t.checkProduct(r.Context(), in.Product); err != nil {
		return err
	}
	by, err := h.renewing(r)
	if err != nil {
		return err
	}
	request, err := t.Attestor.Request(r.Context(), &in.Proof, in.CSR,
		vetting.Claim{Label: in.Product, Transport: "est", Remote: httperr.Remote(r), Auth: by})
	if err != nil {
		return err
	}
	out, err := t.Enroller.Enroll(r.Context(), request)
	if err != nil {
		return err
	}
	switch out.Verdict {
	case vetting.Admitted:
		write(w, http.StatusOK, "application/json", certified{out.Certificate, t.CACerts()})
	case vetting.Held:
		httperr.SetRetryAfter(w.Header(), max(out.RetryAfter, time.Second))
		write(w, http.StatusAccepted, "application/json", map[string]string{"text": out.Text()})
	default:
		return httperr.New(http.StatusForbidden, "%s", out.Text())
	}
	return nil
}

// renewing is who speaks by an official certificate; nobody, if another
// certificate came or none: the TPM's word is enough for a first enrolment.
func (h *Handler) renewing(r *http.Request) (vetting.Auth, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return vetting.Auth{}, nil
	}
	c, err := h.Clients.Identify(r.Context(), r.TLS.PeerCertificates[0])
	if refused := new(enroll.AuthError); err != nil && !errors.As(err, &refused) {
		return vetting.Auth{}, err
	}
	if err != nil || c.Auth.Proof != vetting.ProofOfficial {
		return vetting.Auth{}, nil
	}
	return c.Auth, nil
}

func (t *TPM) checkProduct(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	_, err := t.Products.Product(ctx, name)
	if vetting.ProblemOf(err) == vetting.NotFound {
		return httperr.New(http.StatusNotFound, "there is no product of the name given: give a product's name, or none")
	}
	return err
}

// readJSON reads a bounded body, which must be said to be JSON.
func readJSON(r *http.Request, into any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return httperr.New(http.StatusUnsupportedMediaType, "the Content-Type is not application/json")
	}
	body, err := readBounded(r)
	if err != nil {
		return err
	}
	return enroll.DecodeJSON("the message", body, into)
}

// readLooseJSON reads a bounded body of a client that says nothing of its form.
func readLooseJSON(r *http.Request, into any) error {
	body, err := readBounded(r)
	if err == nil {
		if err = json.Unmarshal(body, into); err != nil {
			err = enroll.BadRequest("the message: %s", enroll.JSONFault(err))
		}
	}
	return err
}

func readBounded(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxTPM+1))
	switch {
	case len(body) > maxTPM:
		_, _ = io.CopyN(io.Discard, r.Body, 1<<20) // so that its sender comes to read the answer
		return nil, httperr.New(http.StatusRequestEntityTooLarge, "the message is larger than %d bytes", maxTPM)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, httperr.New(http.StatusRequestTimeout, "the message did not arrive in time: send it at once")
	case err != nil:
		return nil, enroll.BadRequest("the message did not arrive whole: %v", err)
	}
	return body, nil
}
