package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// check is one condition of being ready.
type check struct {
	name string
	try  func(context.Context) error
}

// health answers whether the process lives and whether it can work.
type health struct {
	checks []check
	// warnings are told, but leave the server ready: it can do without.
	warnings []check
	stopping atomic.Bool
}

// checkTime bounds one check, so that a probe gets its answer.
const checkTime = 2 * time.Second

// checkOK is what a check that is met says.
const checkOK = "ok"

// report is the body of /readyz.
type report struct {
	Ready  bool              `json:"ready"`
	Checks map[string]string `json:"checks"`
}

func (h *health) report(ctx context.Context) report {
	r := report{Ready: true, Checks: map[string]string{}}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	for _, c := range h.checks {
		r.note(ctx, c)
		r.Ready = r.Ready && r.Checks[c.name] == checkOK
	}
	for _, c := range h.warnings {
		r.note(ctx, c)
	}
	if h.stopping.Load() {
		r.Ready, r.Checks["process"] = false, "stopping"
	}
	return r
}

func (r *report) note(ctx context.Context, c check) {
	r.Checks[c.name] = checkOK
	if err := c.try(ctx); err != nil {
		r.Checks[c.name] = err.Error()
	}
}

var readyDesc = prometheus.NewDesc("touchmark_ready", "1 for each check of /readyz that is met, 0 for each that is not.", []string{"check"}, nil)

// Describe implements prometheus.Collector.
func (h *health) Describe(ch chan<- *prometheus.Desc) { ch <- readyDesc }

// Collect implements prometheus.Collector.
func (h *health) Collect(ch chan<- prometheus.Metric) {
	for name, state := range h.report(context.Background()).Checks {
		met := 0.0
		if state == checkOK {
			met = 1
		}
		ch <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, met, name)
	}
}

// opsHandler serves the supervision's door.
func opsHandler(h *health, m *metrics) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		report := h.report(r.Context())
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !report.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		json.NewEncoder(w).Encode(report)
	})
	mux.Handle("GET /metrics", m.handler())
	return mux
}

// validity fails when the time of a certificate is over.
func validity(expiries func() map[string]time.Time, now func() time.Time) func(context.Context) error {
	return func(context.Context) error {
		var errs []error
		for name, at := range expiries() {
			if now().After(at) {
				errs = append(errs, fmt.Errorf("the certificate of %s ran out at %s", name, at.Format(time.RFC3339)))
			}
		}
		return errors.Join(errs...)
	}
}
