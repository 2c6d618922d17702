package api

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/touchmark/touchmark/internal/access"
)

// Route is one authenticated operation and the permission it needs.
type Route struct {
	Method     string
	Path       string // below Base, with {parameters}
	ID         string // the OpenAPI operationId
	Permission access.Permission
}

// AnyOperator, as a route's permission, lets every operator in that was not
// revoked.
const AnyOperator access.Permission = "be an operator"

// permissions are those that a route may name.
var permissions = []access.Permission{
	AnyOperator, access.ManageOperators, access.PlanProduction, access.ReadProduction,
	access.HandInManifests, access.ReadManifests, access.RegisterDevices, access.Decide,
	access.ReadDevices, access.ManageDevices, access.ScrapRecords, access.TestDevices, access.MakeCodes, access.ReadCodes, access.ReadAudit,
	access.VerifyDevices, access.ReadParticulars, access.ClearEvidence, access.ReportObservations, access.ManageWebhooks,
	access.ManageOwners, access.TransferDevices, access.ReadOwners, access.ManageIssuers, access.AnswerStatus,
	access.Approve, access.ReadProposals, access.LicenseChips, access.ReadLicences, access.ManageLicenceKeys, access.ManageFirmwareKeys, access.SignFirmware, access.ReadReleases,
}

// operation describes a route for people and for the machinery.
type operation struct {
	id, method, path string
	tag              string
	summary          string
	description      string
	status           int   // of success; 0 means 200
	errors           []int // besides those that follow from the rest
	maxBody          int64 // bytes; 0 means DefaultMaxBody
	streams          bool  // the handler reads the body itself
	// instead, unless nil, may answer a request in another form; it reports
	// whether it has.
	instead func(*call) bool
}

// DefaultMaxBody bounds the bodies of requests, in bytes, where a route does
// not say otherwise.
const DefaultMaxBody = 64 << 10

func (o operation) hasBody() bool { return o.method != http.MethodGet }

func (o operation) limit() int64 {
	if o.maxBody == 0 {
		return DefaultMaxBody
	}
	return o.maxBody
}

// register adds a route. It cannot be called without naming the permission
// that the route needs, and the handler gets nothing to work with but the
// call of an operator who has it.
func register[I, O any](a *API, needs access.Permission, o operation, handle func(context.Context, *call, *I) (*O, error)) {
	if !slices.Contains(permissions, needs) {
		panic(fmt.Sprintf("api: route %s names the unknown permission %q", o.id, needs))
	}
	a.routes = append(a.routes, Route{o.method, o.path, o.id, needs})
	op := huma.Operation{
		OperationID:   o.id,
		Method:        o.method,
		Path:          o.path,
		Tags:          []string{o.tag},
		Summary:       o.summary,
		Description:   describeNeeds(o.description, needs),
		DefaultStatus: o.status,
		MaxBodyBytes:  -1, // the guard has read it
		// Nor is there any more to wait for: a limit on reading that strikes
		// while the handler works would only break the handler off.
		BodyReadTimeout: -1,
		Middlewares:     huma.Middlewares{a.guard(needs, o)},
		Responses:       a.errorResponses(o),
		Extensions:      map[string]any{"x-touchmark-permission": string(needs)},
	}
	if o.method == http.MethodPost {
		op.Parameters = []*huma.Param{idempotencyParam()}
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		if p := checkText(in); p != nil {
			return nil, p
		}
		out, err := handle(ctx, callOf(ctx), in)
		if err != nil {
			return nil, a.problemOf(ctx, err)
		}
		return out, nil
	})
}

// errorResponses documents the errors that a route may answer with.
func (a *API) errorResponses(o operation) map[string]*huma.Response {
	codes := append([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusInternalServerError}, o.errors...)
	if strings.Contains(o.path, "{") {
		codes = append(codes, http.StatusNotFound)
	}
	if o.hasBody() {
		codes = append(codes, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusConflict)
	}
	schema := a.huma.OpenAPI().Components.Schemas.Schema(problemGoType, true, "")
	responses := map[string]*huma.Response{}
	for _, code := range codes {
		responses[strconv.Itoa(code)] = &huma.Response{
			Description: errorMeanings[code],
			Content:     map[string]*huma.MediaType{problemType: {Schema: schema}},
		}
	}
	return responses
}

// guard lets a request through to its handler: the operator is authenticated
// and holds the permission, the body is within its limit and read.
func (a *API) guard(needs access.Permission, o operation) func(huma.Context, func(huma.Context)) {
	return func(hc huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(hc)
		c, err := a.admit(w, r, needs, o)
		if err != nil {
			a.problemOf(r.Context(), err).write(w)
			return
		}
		if o.instead != nil && o.instead(c) {
			return
		}
		next(huma.WithValue(hc, callKey{}, c))
	}
}

// ServeHTTP answers any request with JSON, whatever it asks for.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	tracked := &tracker{ResponseWriter: w}
	defer a.recover(tracked, r)
	if r.URL.Path != path.Clean(r.URL.Path) { // the mux would redirect
		a.noRoute(tracked, r)
		return
	}
	a.mux.ServeHTTP(tracked, r)
}

// anyRoute is the pattern of what no route matches.
const anyRoute = "/"

// noRoute answers what no route matches: 405 if another method would.
func (a *API) noRoute(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := a.mux.Handler(other); pattern != anyRoute {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 || r.URL.Path != path.Clean(r.URL.Path) {
		problem(http.StatusNotFound, "there is nothing at %s; %s/openapi.json lists what there is", r.URL.Path, Base).write(w)
		return
	}
	list := strings.Join(allowed, ", ")
	problem(http.StatusMethodNotAllowed, "%s is not possible at %s; possible are %s", r.Method, r.URL.Path, list).with("Allow", list).write(w)
}

// recover answers a panic with 500 if nothing was answered yet.
func (a *API) recover(w *tracker, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler || w.started {
		panic(v)
	}
	a.unknown(r.Context(), fmt.Errorf("panic in %s %s: %v\n%s", r.Method, r.URL.Path, v, debug.Stack())).write(w)
}

// tracker notes whether the answer has begun.
type tracker struct {
	http.ResponseWriter
	started bool
}

func (t *tracker) WriteHeader(status int) {
	t.started = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracker) Write(b []byte) (int, error) {
	t.started = true
	return t.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (t *tracker) Unwrap() http.ResponseWriter { return t.ResponseWriter }
