package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/timestamp"
	"github.com/touchmark/touchmark/firmware-sign/tuf/repository"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/crl"
	"github.com/touchmark/touchmark/ocsp/offline/publish"
)

// status is what the server knows and tells of certificates.
type status struct {
	revoked   *ocsp.Set
	follower  *ocsp.Follower
	responder *ocsp.Responder
	forgeries *ocsp.Forgeries
	news      chan struct{} // filled when this server's store has changes

	credentials *credentials
	reporting   *reporting
	lists       *lists
}

// newStatus prepares to tell what the database has. certify gets credentials,
// and report is told of forged serial numbers.
func (s *Server) newStatus(source *store.Store, certify certifier, report reporter) *status {
	c := s.config.Status
	st := &status{revoked: new(ocsp.Set), forgeries: new(ocsp.Forgeries), news: make(chan struct{}, 1)}
	st.follower = &ocsp.Follower{Source: source, Sinks: []ocsp.Sink{st.revoked}, Log: s.env.Log, Now: s.env.Now}
	st.responder = ocsp.New(ocsp.Config{
		Revoked: st.revoked, Known: st.follower.Known, MaxStale: time.Duration(c.MaxStale), Validity: time.Duration(c.Validity),
		CacheBytes: int(c.Cache), Forged: st.forgeries, Shared: s.shared(), Log: s.env.Log, Now: s.env.Now,
	})
	st.credentials = &credentials{
		key: s.authorities.Own(ca.ResponderKeyName), issuing: s.authorities.Issuing, certify: certify, tell: st.responder.SetIssuers, log: s.env.Log, now: s.env.Now,
	}
	st.reporting = &reporting{take: st.forgeries.Take, issuing: s.authorities.Issuing, report: report,
		failed: func(ctx context.Context, err error) {
			s.env.Log.ErrorContext(ctx, "forged certificates that somebody asked about could not be kept as evidence; it is tried again", "error", err)
		}}
	st.lists = s.newLists(source, source, source.CertificatesInForce, st.follower)
	s.metrics.registry.MustRegister(statusCollector{st})
	return st
}

// follow keeps up with what becomes of certificates.
func (st *status) follow(ctx context.Context, ticks <-chan time.Time) {
	st.follower.Run(ctx, ticks, st.news)
}

// told has the changes of this server's store followed at once; those of
// others are seen with the next tick.
func (st *status) told() {
	select {
	case st.news <- struct{}{}:
	default: // somebody said so already
	}
}

// check reports that what is told of certificates is too old to be told.
func (st *status) check(context.Context) error {
	known, ok := st.follower.Known()
	switch age := st.responder.Now().Sub(known); {
	case !ok:
		return errors.New("what became of certificates is still being read; who asks is told to try later")
	case age > st.responder.MaxStale:
		return fmt.Errorf("what became of certificates could not be read for %s; who asks is told to try later", age.Round(time.Second))
	}
	return nil
}

// statusHandler serves who asks about certificates. Paths of OCSP hold
// whatever base64 makes of a request, so they must not come by a mux, which
// cleans them.
func (s *Server) statusHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+cacertsPrefix, caCertificates(s.authorities.Issuing, s.authorities.Cross()))
	if s.timestamp != nil && s.config.Timestamp.Open {
		mux.Handle(timestamp.Path, s.timestamp)
	}
	if s.tuf != nil {
		mux.Handle(repository.Prefix, s.tuf.handler())
	}
	mux.Handle(publish.Prefix, &publish.Handler{Directory: s.offline.Directory, Issuer: s.issuerID})
	limit := time.Duration(s.config.Status.RequestTimeout)
	published, lists := within(limit, mux), within(limit, s.status.lists.handler)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch rest, ok := strings.CutPrefix(r.URL.Path, ocsp.Path); {
		case ok && (rest == "" || rest[0] == '/'):
			s.status.responder.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, crl.Prefix):
			lists.ServeHTTP(w, r)
		default:
			published.ServeHTTP(w, r)
		}
	})
}
