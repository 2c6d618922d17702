package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/touchmark/touchmark/ocsp/offline/publish"
)

// offlineCollector tells of the offline status files that this server serves.
type offlineCollector struct{ *publish.Maker }

func offlineDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("touchmark_offline_"+name, help, append([]string{"issuer"}, labels...), nil)
}

var (
	offlineAge   = offlineDesc("age_seconds", "Time since the newest base and delta of an issuing CA were made; none of a kind that there is not.", "kind")
	offlineBytes = offlineDesc("bytes", "Their length.", "kind")
	offlineLeft  = offlineDesc("next_update_seconds", "Time until nobody may use the newest offline file of an issuing CA any more.")
)

// Describe implements prometheus.Collector.
func (c offlineCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{offlineAge, offlineBytes, offlineLeft} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c offlineCollector) Collect(ch chan<- prometheus.Metric) {
	now := c.Now()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, i := range c.Issuers() {
		files := c.Directory.Files(i.ID)
		for _, f := range files {
			kind := f.Header.Kind.String()
			gauge(offlineAge, now.Sub(f.Header.ThisUpdate).Seconds(), i.Name, kind)
			gauge(offlineBytes, float64(len(f.Bytes)), i.Name, kind)
		}
		if len(files) > 0 {
			gauge(offlineLeft, files[len(files)-1].Header.NextUpdate.Sub(now).Seconds(), i.Name)
		}
	}
}
