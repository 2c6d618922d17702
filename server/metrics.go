package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

// metrics is what the server counts, on a registry of its own.
type metrics struct {
	registry      *prometheus.Registry
	registrations *prometheus.CounterVec
	enroll        *prometheus.HistogramVec
	batch         prometheus.Histogram
	commit        prometheus.Histogram
	requests      *prometheus.CounterVec
	request_      *prometheus.HistogramVec
	panics        prometheus.Counter
	shed          *prometheus.CounterVec
	refused       *prometheus.CounterVec
	acmeRefused   *prometheus.CounterVec
	timestamps    *prometheus.CounterVec
	licences      *prometheus.CounterVec
	working       *prometheus.GaugeVec
	connections   connectionCollector
	checkpoint    prometheus.Gauge
	published     prometheus.Gauge
	unpublished   prometheus.Counter
	streams       prometheus.Gauge
	webhooks      webhookMetrics
	lists         listMetrics
	tally         tally
}

func newMetrics(expiries func() map[string]time.Time, now func() time.Time) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		registrations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "touchmark_registrations_total",
			Help: "Requests for a certificate by verdict (admitted, held, refused, bad-request, error), first reason, and door (est, acme, mqtt, api).",
		}, []string{"verdict", "reason", "door"}),
		enroll: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "touchmark_enroll_seconds", Help: "Time from a parsed request to its durable verdict.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"verdict", "door"}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "touchmark_commit_batch_size", Help: "Changes that shared one database transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 9),
		}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "touchmark_commit_seconds", Help: "Time of one shared database transaction.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "touchmark_http_requests_total", Help: "HTTP requests by door, method and status.",
		}, []string{"door", "method", "code"}),
		request_: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "touchmark_http_request_seconds", Help: "Time of an HTTP request.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"door"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "touchmark_panics_total", Help: "Requests, connections and background work that failed by a defect of the program.",
		}),
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "touchmark_shed_total", Help: "What was turned away because it was too much, by door and by the bound that it met.",
		}, []string{"door", "bound"}),
		acmeRefused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "touchmark_acme_problems_total", Help: "Requests, challenges and orders over ACME that came to nothing, by the type of the problem (RFC 8555 §6.7).",
		}, []string{"problem"}),
		timestamps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "touchmark_timestamps_total", Help: "Queries for time stamps (RFC 3161) by result: granted, refused, error.",
		}, []string{"result"}),
		licences: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "touchmark_licences_total", Help: "Chips for which a site asked for a licence or confirmed one, by result: given, repeated, programmed, or why it was refused.",
		}, []string{"result"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "touchmark_mqtt_refused_total", Help: "Messages over MQTT that were refused before they were judged, by reason (topic, oversized, unsigned, re-addressed, malformed, reply-topic, stale, repeated).",
		}, []string{"reason"}),
		working: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "touchmark_requests_in_progress", Help: "HTTP requests that are being worked on, by door.",
		}, []string{"door"}),
		connections: connectionCollector{of: map[string]*door{}},
		checkpoint: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "touchmark_log_checkpoint_size", Help: "Leaves that the newest published checkpoint of the audit log covers.",
		}),
		published: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "touchmark_log_published_timestamp_seconds", Help: "When publishing the audit log last succeeded, as Unix time.",
		}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "touchmark_event_streams", Help: "Streams of events that are open.",
		}),
		webhooks: newWebhookMetrics(),
		lists:    newListMetrics(),
		unpublished: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "touchmark_log_publish_failures_total", Help: "Attempts to publish a checkpoint that failed.",
		}),
	}
	m.registry.MustRegister(
		m.registrations, m.enroll, m.batch, m.commit, m.requests, m.request_, m.panics, m.shed, m.refused, m.acmeRefused, m.licences, m.timestamps, m.working, m.connections, m.checkpoint, m.published, m.unpublished, m.streams,
		&m.tally, expiryCollector{expiries, now}, newBuildInfo(),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.registry.MustRegister(append(m.webhooks.collectors(), m.lists.collectors()...)...)
	return m
}

func newBuildInfo() prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "touchmark_build_info", Help: "1, with what the program was built from as labels."}, []string{"goversion"})
	g.WithLabelValues(goVersion()).Set(1)
	return g
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// doorRequests counts one door's requests. It keeps the counters that it has
// found once: to find one costs as much as an OCSP answer.
type doorRequests struct {
	door    string
	metrics *metrics
	seconds prometheus.Observer
	found   sync.Map // of prometheus.Counter, by doorRequest
}

type doorRequest struct {
	method string
	code   int
}

func (m *metrics) requestsOf(door string) *doorRequests {
	return &doorRequests{door: door, metrics: m, seconds: m.request_.WithLabelValues(door)}
}

func (d *doorRequests) note(method string, code int, took time.Duration) {
	key := doorRequest{methodLabel(method), code}
	c, ok := d.found.Load(key)
	if !ok {
		c, _ = d.found.LoadOrStore(key, d.metrics.requests.WithLabelValues(d.door, key.method, codeLabel(code)))
	}
	c.(prometheus.Counter).Inc()
	d.seconds.Observe(took.Seconds())
}

// panicked notes a defect that ended something, but not the process.
func (m *metrics) panicked(log *slog.Logger, p any, where ...any) {
	m.panics.Inc()
	log.Error("a defect of the program was contained", append(where, "panic", p, "stack", string(debug.Stack()))...)
}

// connectionCollector tells how full the doors are.
type connectionCollector struct{ of map[string]*door }

var connectionsDesc = prometheus.NewDesc("touchmark_connections", "Open connections by door.", []string{"door"}, nil)

func (c connectionCollector) Describe(ch chan<- *prometheus.Desc) { ch <- connectionsDesc }

func (c connectionCollector) Collect(ch chan<- prometheus.Metric) {
	for name, d := range c.of {
		if d.keeper != nil {
			ch <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(d.keeper.count()), name)
		}
	}
}

// observeCommit is store.Options.Observe.
func (m *metrics) observeCommit(batch int, took time.Duration) {
	m.batch.Observe(float64(batch))
	m.commit.Observe(took.Seconds())
}

// enroller is the pipeline as the doors use it.
type enroller interface {
	Enroll(context.Context, enroll.Request) (enroll.Outcome, error)
}

// licensed is licensing.Desk.Count.
func (m *metrics) licensed(result string, chips int) {
	m.licences.WithLabelValues(result).Add(float64(chips))
}

// countedEnroller counts verdicts on their way out.
type countedEnroller struct {
	enroller
	metrics *metrics
}

func (c countedEnroller) Enroll(ctx context.Context, r enroll.Request) (enroll.Outcome, error) {
	begin := time.Now() // a measurement; the injected clock has no say in it
	out, err := c.enroller.Enroll(ctx, r)
	verdict, reason := label(out, err)
	c.metrics.registrations.WithLabelValues(verdict, reason, r.Claim.Transport).Inc()
	c.metrics.enroll.WithLabelValues(verdict, r.Claim.Transport).Observe(time.Since(begin).Seconds())
	return out, err
}

// label names an outcome. Reasons are codes of package vetting, so their
// number is bounded.
func label(out enroll.Outcome, err error) (verdict, reason string) {
	var bad *enroll.RequestError
	switch {
	case errors.As(err, &bad):
		return "bad-request", ""
	case err != nil:
		return "error", ""
	case len(out.Reasons) == 0:
		return string(out.Verdict), ""
	}
	return string(out.Verdict), string(out.Reasons[0].Code)
}

// expiryCollector tells how long certificates last.
type expiryCollector struct {
	expiries func() map[string]time.Time
	now      func() time.Time
}

var expiryDesc = prometheus.NewDesc("touchmark_certificate_expiry_seconds", "Seconds until the certificate of a CA or of the server itself runs out; negative afterwards.", []string{"name"}, nil)

func (c expiryCollector) Describe(ch chan<- *prometheus.Desc) { ch <- expiryDesc }

func (c expiryCollector) Collect(ch chan<- prometheus.Metric) {
	for name, at := range c.expiries() {
		ch <- prometheus.MustNewConstMetric(expiryDesc, prometheus.GaugeValue, at.Sub(c.now()).Seconds(), name)
	}
}

// tally shows the newest count of what the database holds. A scrape never
// waits for counting.
type tally struct{ newest atomic.Pointer[vetting.Tally] }

var (
	devicesDesc  = prometheus.NewDesc("touchmark_devices", "Devices by state.", []string{"state"}, nil)
	keptDesc     = prometheus.NewDesc("touchmark_registrations", "Registrations kept in the database, by verdict.", []string{"verdict"}, nil)
	evidenceDesc = prometheus.NewDesc("touchmark_evidence", "Signs of counterfeit or misuse kept in the database, by kind.", []string{"kind"}, nil)
	ordersDesc   = prometheus.NewDesc("touchmark_open_orders", "Production orders that are open.", nil, nil)
	jobsDesc     = prometheus.NewDesc("touchmark_jobs", "Bulk jobs by state.", []string{"state"}, nil)
	offersDesc   = prometheus.NewDesc("touchmark_transfers_offered", "Transfers to another owner that wait to be accepted.", nil, nil)
)

func (t *tally) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{devicesDesc, keptDesc, evidenceDesc, ordersDesc, jobsDesc, offersDesc} {
		ch <- d
	}
}

func (t *tally) Collect(ch chan<- prometheus.Metric) {
	n := t.newest.Load()
	if n == nil {
		return
	}
	collect(ch, devicesDesc, n.Devices)
	collect(ch, keptDesc, n.Registrations)
	collect(ch, evidenceDesc, n.Evidence)
	collect(ch, jobsDesc, n.Jobs)
	ch <- prometheus.MustNewConstMetric(ordersDesc, prometheus.GaugeValue, float64(n.OpenOrders))
	ch <- prometheus.MustNewConstMetric(offersDesc, prometheus.GaugeValue, float64(n.Offers))
}

func collect[K ~string](ch chan<- prometheus.Metric, d *prometheus.Desc, counts map[K]int64) {
	for k, n := range counts {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), string(k))
	}
}
