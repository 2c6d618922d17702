// Package api is the operators' REST API, version 1, below /api/v1.
//
// Operators authenticate with TLS client certificates. Every route names the
// permission that it needs, and its handler sees the store through the
// operator's [scope.View] only, so that neither check can be forgotten.
// Errors are problem details (RFC 9457). The OpenAPI 3.1 document is made
// from the handlers and served at /api/v1/openapi.json.
package api

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/server/api/scope"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/manifest"
)

// Base is the path below which every route lies.
const Base = "/api/v1"

// Authorities tells whose certificates speak for operators. An error says
// what is wrong with the certificate, in words for its holder; nothing else
// makes one.
type Authorities interface {
	// VerifyOperator accepts what the operator CA issued, within its validity.
	VerifyOperator(cert *x509.Certificate, at time.Time) error
	// VerifyFactory accepts what the factory CA issued, within its validity.
	VerifyFactory(cert *x509.Certificate, at time.Time) error
	// OperatorChain is the DER of what leads from an operator's certificate to
	// the root, without the root.
	OperatorChain(cert *x509.Certificate) [][]byte
}

// Enroller judges a device's request and carries the verdict out.
// [enroll.Enroller] is one.
type Enroller interface {
	Enroll(context.Context, enroll.Request) (enroll.Outcome, error)
}

// OperatorIssuer gives operators their certificates. Whether the operator
// exists is not its business: a certificate opens nothing before its key is
// in the store, and nothing after the operator was revoked.
type OperatorIssuer interface {
	// IssueOperator makes a certificate on the request's key: by the present
	// factory CA for the roles of a site, by the present operator CA for the
	// others. Nothing else in the request counts.
	IssueOperator(csr *x509.CertificateRequest, op *access.Operator) (*access.Certificate, error)
}

// VoucherSigner signs vouchers, each with a key of its own. ca.VoucherSigner
// is one.
type VoucherSigner interface {
	// SignVoucher gives the voucher as a CMS SignedData (RFC 8366 §5.4).
	SignVoucher(*vetting.Voucher) (der []byte, err error)
}

// ProfileChecker tries a product's profile. An error is a finding, in words
// for the planner.
type ProfileChecker interface {
	CheckProfile(context.Context, *vetting.Product) error
}

// IssuingCAs are the CAs below the root, as this server has them.
type IssuingCAs interface {
	// Founding is the one that was there for a purpose from the beginning.
	Founding(vetting.Purpose) *vetting.IssuingCA
	// CheckIssuingCA reads a certificate for an issuing CA of a name. It
	// refuses, as a *vetting.Error with Invalid, one with which this server
	// could not issue: not below the root, or without its key.
	CheckIssuingCA(ctx context.Context, name string, der []byte) (*vetting.IssuingCA, error)
	// Refresh has the server use what was created or renewed.
	Refresh(context.Context) error
	// Unable tells, by name, which of them cannot sign here, and why.
	Unable() map[string]error
}

// Importer takes manifests in. [manifest.Importer] is one.
type Importer interface {
	// Receive reads a manifest to its end, then asks for its signatures, and
	// keeps it if every line is good and every signature verifies; otherwise
	// nothing is kept. The same file for the same order again gives the
	// manifest that is there already. The error is a *manifest.LineErrors or
	// a *vetting.Error if the manifest is to blame, and that of body if
	// reading it failed.
	Receive(ctx context.Context, act access.Act, order string, format vetting.ManifestFormat, body io.Reader, sigs manifest.Signatures) (*vetting.Manifest, error)
	// AddSignature verifies and adds one signature.
	AddSignature(ctx context.Context, act access.Act, id int64, sig []byte) (*vetting.Manifest, error)
	// Resume begins to load what was accepted otherwise.
	Resume(ctx context.Context) error
}

// Prover proves that a leaf is in the audit log. The error is
// [audit.ErrNotPublished] as long as no checkpoint covers the leaf.
type Prover interface {
	Prove(ctx context.Context, leaf int64) (*audit.Proof, error)
}

// Config is what the API works with. All of it is needed but where a default
// is named.
type Config struct {
	Store       scope.Store
	Authorities Authorities
	Enroller    Enroller
	Operators   OperatorIssuer
	Tokens      TokenVerifier
	Vouchers    VoucherSigner
	Profiles    ProfileChecker
	IssuingCAs  IssuingCAs
	Responders  Responders
	Firmware    Firmware
	TUF         TUF
	Offline     OfflineFiles
	CRLs        CRLs
	Examiner    Examiner
	// Observing says what observations show.
	Observing vetting.ObservationRules
	Manifests Importer
	// Licenser gives licences to chips, LicenceKeys makes the keys for that.
	Licenser    Licenser
	LicenceKeys LicenceKeyMaker
	Prover      Prover
	// EST tells the host and port that devices enrol at, for labels.
	EST func() string
	// ACME tells the URL of the ACME directory, AccountKeys the secret of an
	// account key.
	ACME        func() string
	AccountKeys func(id int64) []byte
	Feed        Feed
	Webhooks    Webhooks
	Streams     Streams
	Log         *slog.Logger
	// Now is the clock that certificates are checked by.
	Now func() time.Time
	// MaxManifest bounds the upload of a manifest, signatures included, in
	// bytes; 0 means [DefaultMaxManifest].
	MaxManifest int64
	// Stall is how long an upload may pause before it is given up; 0 means
	// [DefaultStall]. It replaces the server's own time limits on requests
	// while a manifest is being received.
	Stall time.Duration
}

// Defaults of [Config].
const (
	DefaultMaxManifest = 512 << 20
	DefaultStall       = time.Minute
)

// API serves the operators' API. It is an [http.Handler] for everything below
// [Base]; other paths get 404.
type API struct {
	config Config
	gate   scope.Gate
	mux    *http.ServeMux
	huma   huma.API
	routes []Route
	spec   []byte
	open   atomic.Int64 // streams
}

// New makes the API.
func New(c Config) *API {
	if c.MaxManifest == 0 {
		c.MaxManifest = DefaultMaxManifest
	}
	if c.Stall == 0 {
		c.Stall = DefaultStall
	}
	if c.Streams.Heartbeat == 0 {
		c.Streams.Heartbeat = DefaultHeartbeat
	}
	if c.Streams.Stall == 0 {
		c.Streams.Stall = DefaultStreamStall
	}
	a := &API{config: c, gate: scope.NewGate(c.Store), mux: http.NewServeMux()}
	a.config.Store = nil // from here on only through the gate
	a.huma = humago.NewWithPrefix(a.mux, Base, humaConfig())
	a.products()
	a.trials()
	a.ruleVersions()
	a.sites()
	a.orders()
	a.openings()
	a.raises()
	a.proposals()
	a.approvalPolicy()
	a.manifests()
	a.manifestApprovals()
	a.registrations()
	a.rigs()
	a.devices()
	a.verification()
	a.challenges()
	a.observations()
	a.evidence()
	a.certificates()
	a.jobs()
	a.owners()
	a.issuers()
	a.responders()
	a.firmware()
	a.tuf()
	a.offlineFiles()
	a.crls()
	a.crlPartitions()
	a.codes()
	a.accountKeys()
	a.licences()
	a.licenceKeys()
	a.events()
	a.webhooks()
	a.operators()
	a.workloads()
	a.mux.HandleFunc(anyRoute, a.noRoute)
	a.finishSpec()
	return a
}

// OpenAPI gives the OpenAPI 3.1 document of the API as indented JSON, the
// same bytes that the server serves. An error is a programming error.
func OpenAPI() ([]byte, error) { return New(Config{}).OpenAPI() }

// OpenAPI gives the OpenAPI 3.1 document as it is served.
func (a *API) OpenAPI() ([]byte, error) { return a.spec, nil }

// Routes lists every authenticated route and the permission it needs.
func (a *API) Routes() []Route { return append([]Route(nil), a.routes...) }

func (a *API) finishSpec() {
	a.describe()
	b, err := json.MarshalIndent(a.huma.OpenAPI(), "", "  ")
	if err != nil { // a programming error: the document is ours
		panic(fmt.Sprintf("api: OpenAPI document: %v", err))
	}
	a.spec = append(b, '\n')
	a.mux.HandleFunc("GET "+Base+"/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		w.Header().Set("Cache-Control", "no-cache")
		w.Write(a.spec)
	})
}

// humaConfig is huma's configuration without its extras: no documentation
// pages, which would load scripts from elsewhere, and no schema links.
func humaConfig() huma.Config {
	format := huma.Format{
		// The encoder's default escapes <, > and &: no answer can be taken
		// for HTML, whatever stands in it.
		Marshal:   func(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) },
		Unmarshal: unmarshal,
	}
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "Touchmark operators' API",
				Version:     "1",
				Description: overview,
				License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Servers: []*huma.Server{{URL: Base}},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					clientCertificate: {Type: "mutualTLS", Description: "A certificate of the operator CA, or of the factory CA for site operators and rigs, whose key belongs to an operator that was not revoked."},
				},
			},
			Security: []map[string][]string{{clientCertificate: {}}},
			Tags:     tags,
		},
		Formats:                      map[string]huma.Format{"application/json": format, "json": format},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{problemsOnly},
	}
}

const clientCertificate = "clientCertificate"
