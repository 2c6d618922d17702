package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/crl"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// lists are the revocation lists: what is kept of them, what serves them, and
// on a server that makes them what does.
type lists struct {
	config    Status
	issuing   func() []ca.Issuing
	directory *crl.Directory
	handler   *crl.Handler
	maker     *crl.Maker // nil where none are made
	named     func(issuer string) (id int64, ok bool)
	inForce   certificatesInForce
	log       *slog.Logger
	now       func() time.Time
}

// certificatesInForce reads a CA's certificates that have not run out.
type certificatesInForce func(ctx context.Context, issuer int64, at time.Time, each func(der []byte, notAfter time.Time)) error

// newLists prepares the revocation lists, which are made of what the follower
// is told if the configuration says so.
func (s *Server) newLists(source ocsp.Source, kept crl.Store, inForce certificatesInForce, follower *ocsp.Follower) *lists {
	l := &lists{config: s.config.Status, issuing: s.authorities.Issuing, directory: &crl.Directory{Store: kept}, named: s.issuerID, inForce: inForce, log: s.env.Log, now: s.env.Now}
	l.handler = &crl.Handler{Directory: l.directory, Issuer: s.issuerID, MaxAge: l.maxAge, Log: s.env.Log, Now: s.env.Now}
	if l.config.CRL.Interval > 0 && s.reader == nil {
		revoked := new(crl.Revoked)
		follower.Sinks = append(follower.Sinks, revoked)
		l.maker = crl.NewMaker(crl.Maker{Schedule: l.config.schedule(), Revoked: revoked, Source: source, Directory: l.directory,
			Issuers: l.issuers, Known: follower.Known, Observer: s.metrics.lists, Log: s.env.Log})
	}
	s.metrics.registry.MustRegister(listCollector{l})
	return l
}

// listsEvery is how often it is looked whether a list is due, or whether
// another server has made one.
const listsEvery = time.Second

// run makes lists, or learns what others made, until ctx ends.
func (l *lists) run(ctx context.Context, ticks <-chan time.Time) {
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		}
		err := l.directory.Refresh(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			l.log.ErrorContext(ctx, "it could not be read which revocation lists there are; those that are known are served, and it is tried again", "error", err)
		}
		failing = err != nil
		if l.maker != nil {
			l.maker.Round(ctx)
		}
	}
}

func (l *lists) issuers() (list []crl.Issuer) {
	for _, i := range l.issuing() {
		list = append(list, crl.Issuer{ID: i.ID, Name: i.Name, Certificate: i.Certificate, Signer: i.Signer})
	}
	return list
}

// maxCaching bounds how long caches keep a list that may be made anew when
// somebody wants it.
const maxCaching = time.Hour

// maxAge is how long caches may keep a list: what is made anew after a change
// as long as that takes.
func (l *lists) maxAge(s crl.Scope) time.Duration {
	if delay := l.config.CRL.Delay; s != crl.Full && delay > 0 {
		return time.Duration(delay)
	}
	return min(time.Duration(l.config.CRL.Interval), maxCaching)
}

// check reports lists that run out, because none were made for long.
func (l *lists) check(context.Context) error {
	var late []string
	wanted, now := l.config.schedule(), l.now()
	for _, i := range l.issuing() {
		for _, k := range l.directory.Of(i.ID) {
			if now.Before(i.Certificate.NotAfter) && wanted.Wants(k.Scope) && k.Overdue(now) {
				late = append(late, fmt.Sprintf("%s of %s (until %s)", k.Scope, i.Name, k.NextUpdate.Format(time.RFC3339)))
			}
		}
	}
	switch n := len(late); {
	case n == 0:
		return nil
	case n > 3:
		late = append(late[:3], fmt.Sprintf("%d more", n-3))
	}
	return fmt.Errorf("revocation lists were not made in time and run out: %s; the server's log tells why", strings.Join(late, ", "))
}

// Lists implements api.CRLs.
func (l *lists) Lists(issuer string) ([]*crl.Kept, error) {
	id, ok := l.named(issuer)
	if !ok {
		return nil, vetting.Errorf(vetting.NotFound, "there is no issuing CA %s", issuer)
	}
	return l.directory.Of(id), nil
}

// ListURL implements api.CRLs.
func (l *lists) ListURL(issuer string, s crl.Scope) string {
	if l.config.URL == "" {
		return ""
	}
	return s.URL(l.config.URL, issuer)
}

// MakeLists implements api.CRLs.
func (l *lists) MakeLists(ctx context.Context, by, issuer string) error {
	if l.maker == nil {
		return vetting.Errorf(vetting.Conflict, "this server makes no revocation lists: set status.crl.interval, or ask another server")
	}
	for _, i := range l.issuers() {
		if i.Name != issuer {
			continue
		}
		err := l.maker.Make(ctx, by, i)
		var unable *crl.UnableError
		if errors.As(err, &unable) || errors.Is(err, crl.ErrNotReady) {
			return vetting.Errorf(vetting.Conflict, "%s", keys.Redact(err.Error()))
		}
		return err
	}
	return vetting.Errorf(vetting.NotFound, "there is no issuing CA %s", issuer)
}

// Partitions implements api.CRLs.
func (l *lists) Partitions(ctx context.Context, issuer string) ([]*api.CRLPartitions, error) {
	id, ok := l.named(issuer)
	if !ok {
		return nil, vetting.Errorf(vetting.NotFound, "there is no issuing CA %s", issuer)
	}
	var list []*api.CRLPartitions
	of := map[int]*api.CRLPartitions{}
	for _, n := range l.directory.Divisions(id) {
		of[n] = &api.CRLPartitions{Issuer: issuer, Partitions: n, Current: n == l.config.Partitions && l.config.URL != ""}
		list = append(list, of[n])
	}
	err := l.inForce(ctx, id, l.now(), func(der []byte, notAfter time.Time) {
		if p := of[crl.NamedBy(der, issuer)]; p != nil {
			p.Certificates++
			if p.Until == nil || p.Until.Before(notAfter) {
				p.Until = &notAfter
			}
		}
	})
	return list, err
}

// EndPartitions implements api.CRLs.
func (l *lists) EndPartitions(ctx context.Context, by, issuer string, n int) (ended int, err error) {
	id, ok := l.named(issuer)
	switch {
	case !ok || !slices.Contains(l.directory.Divisions(id), n):
		return 0, vetting.Errorf(vetting.NotFound, "there are no revocation lists of %d partitions of %s", n, issuer)
	case n == l.config.Partitions && l.config.URL != "":
		return 0, vetting.Errorf(vetting.Conflict, "certificates are divided into %d partitions at present: set status.partitions to another number on all servers first", n)
	}
	if ended, err = l.directory.Store.EndCRLs(ctx, by, fmt.Sprintf("%s: all of %d", issuer, n), id, n); err != nil {
		return ended, err
	}
	return ended, l.directory.Refresh(ctx)
}

// listMetrics is what is counted of the making of lists.
type listMetrics struct {
	made   *prometheus.HistogramVec
	failed *prometheus.CounterVec
}

func newListMetrics() listMetrics {
	return listMetrics{
		made: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "touchmark_crl_make_seconds", Help: "Time to make and keep a revocation list, by CA and kind (full, delta, partition).",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60},
		}, []string{"issuer", "list"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "touchmark_crl_failures_total", Help: "Attempts to make revocation lists of a CA that failed.",
		}, []string{"issuer"}),
	}
}

func (m listMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.made, m.failed}
}

func (m listMetrics) Made(issuer string, s crl.Scope, took time.Duration) {
	m.made.WithLabelValues(issuer, kindOf(s)).Observe(took.Seconds())
}

func (m listMetrics) Failed(issuer string) { m.failed.WithLabelValues(issuer).Inc() }

// kindOf keeps partitions together: there may be thousands.
func kindOf(s crl.Scope) string {
	if s.Partitions > 0 {
		return "partition"
	}
	return s.String()
}

var (
	listAge     = listDesc("age_seconds", "Seconds since the thisUpdate of the oldest revocation list of a CA and kind (full, delta, partition).")
	listLeft    = listDesc("next_update_seconds", "Seconds until the first nextUpdate of a CA's revocation lists of a kind; negative afterwards.")
	listEntries = listDesc("entries", "Certificates on a CA's revocation lists of a kind.")
	listBytes   = listDesc("bytes", "Length of a CA's revocation lists of a kind.")
)

func listDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("touchmark_crl_"+name, help, []string{"issuer", "list"}, nil)
}

// listCollector tells of the lists that are kept.
type listCollector struct{ *lists }

func (c listCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{listAge, listLeft, listEntries, listBytes} {
		ch <- d
	}
}

func (c listCollector) Collect(ch chan<- prometheus.Metric) {
	now := c.now()
	for _, i := range c.issuing() {
		kinds := map[string]*kindOfList{}
		for _, k := range c.directory.Of(i.ID) {
			kind := kinds[kindOf(k.Scope)]
			if kind == nil {
				kind = &kindOfList{oldest: k.ThisUpdate, first: k.NextUpdate}
				kinds[kindOf(k.Scope)] = kind
			}
			kind.add(k)
		}
		for name, kind := range kinds {
			tell := func(d *prometheus.Desc, v float64) {
				ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, i.Name, name)
			}
			tell(listAge, now.Sub(kind.oldest).Seconds())
			tell(listLeft, kind.first.Sub(now).Seconds())
			tell(listEntries, float64(kind.entries))
			tell(listBytes, float64(kind.bytes))
		}
	}
}

// kindOfList sums up the lists of a CA and kind.
type kindOfList struct {
	oldest, first  time.Time
	entries, bytes int64
}

func (l *kindOfList) add(k *crl.Kept) {
	if k.ThisUpdate.Before(l.oldest) {
		l.oldest = k.ThisUpdate
	}
	if k.NextUpdate.Before(l.first) {
		l.first = k.NextUpdate
	}
	l.entries, l.bytes = l.entries+int64(k.Entries), l.bytes+k.Size
}
