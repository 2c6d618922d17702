package server

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// statusCollector tells what is known and told of certificates.
type statusCollector struct{ *status }

var (
	ocspToldDesc    = prometheus.NewDesc("touchmark_ocsp_certificates_total", "Certificates that were told about over OCSP, by status: good, revoked, unknown, and forged for those that were never issued.", []string{"status"}, nil)
	ocspErrorsDesc  = prometheus.NewDesc("touchmark_ocsp_errors_total", "OCSP requests that were answered with an error: malformed-request, try-later.", []string{"error"}, nil)
	ocspAnswersDesc = prometheus.NewDesc("touchmark_ocsp_answers_total", "OCSP answers by where they came from: cache, shared (another server signed it), signed.", []string{"from"}, nil)
	ocspCacheDesc   = prometheus.NewDesc("touchmark_ocsp_cache_bytes", "Memory of signed OCSP answers.", nil, nil)
	revokedDesc     = prometheus.NewDesc("touchmark_status_revoked", "Certificates that are known to be revoked, superseded or on hold.", nil, nil)
	revokedSizeDesc = prometheus.NewDesc("touchmark_status_revoked_bytes", "Memory of those.", nil, nil)
	statusAgeDesc   = prometheus.NewDesc("touchmark_status_age_seconds", "Time since what became of certificates was last read whole from the database; none before it was read once.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{ocspToldDesc, ocspErrorsDesc, ocspAnswersDesc, ocspCacheDesc, revokedDesc, revokedSizeDesc, statusAgeDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c statusCollector) Collect(ch chan<- prometheus.Metric) {
	n := &c.responder.Counts
	for _, of := range []struct {
		desc  *prometheus.Desc
		label string
		count *atomic.Int64
	}{
		{ocspToldDesc, "good", &n.Good}, {ocspToldDesc, "revoked", &n.Revoked}, {ocspToldDesc, "unknown", &n.Unknown}, {ocspToldDesc, "forged", &n.Forged},
		{ocspErrorsDesc, "malformed-request", &n.Malformed}, {ocspErrorsDesc, "try-later", &n.TryLater},
		{ocspAnswersDesc, "cache", &n.Cached}, {ocspAnswersDesc, "shared", &n.Shared}, {ocspAnswersDesc, "signed", &n.Signed},
	} {
		ch <- prometheus.MustNewConstMetric(of.desc, prometheus.CounterValue, float64(of.count.Load()), of.label)
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	_, bytes := c.responder.CacheSize()
	gauge(ocspCacheDesc, float64(bytes))
	gauge(revokedDesc, float64(c.revoked.Len()))
	gauge(revokedSizeDesc, float64(c.revoked.Bytes()))
	if known, ok := c.follower.Known(); ok {
		gauge(statusAgeDesc, c.responder.Now().Sub(known).Seconds())
	}
}
