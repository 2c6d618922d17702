package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/touchmark/touchmark/internal/events/webhook"
)

// watchEvery is how often the log is looked at for what other servers added.
const watchEvery = 500 * time.Millisecond

func (s *Server) newDispatcher() (*webhook.Dispatcher, error) {
	targets, err := webhook.NewTargets(s.config.Events.AllowTargets)
	if err != nil {
		return nil, err
	}
	return &webhook.Dispatcher{
		Feed: s.feed, Store: s.store, Targets: targets, Observer: s.metrics.webhooks,
		Secrets: webhook.NewSecrets(s.authorities.Serials.Derive("webhook secrets")),
		Log:     s.env.Log, Now: s.env.Now, Contain: s.contained,
	}, nil
}

// webhookMetrics is what is counted of deliveries. Names of webhooks are
// labels: there are 64 at most.
type webhookMetrics struct {
	messages *prometheus.CounterVec
	events   *prometheus.CounterVec
	paused   *prometheus.CounterVec
	lag      *prometheus.GaugeVec
}

func newWebhookMetrics() webhookMetrics {
	return webhookMetrics{
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "touchmark_webhook_messages_total", Help: "Messages that were sent to webhooks, by result (delivered, failed).",
		}, []string{"webhook", "result"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "touchmark_webhook_events_total", Help: "Events that webhooks have taken.",
		}, []string{"webhook"}),
		paused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "touchmark_webhook_given_up_total", Help: "Webhooks that the server paused, after days of failures or because their target is gone.",
		}, []string{"webhook"}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "touchmark_webhook_lag_leaves", Help: "Leaves of the audit log that a webhook is behind, as far as this server delivers to it.",
		}, []string{"webhook"}),
	}
}

func (m webhookMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.messages, m.events, m.paused, m.lag}
}

func (m webhookMetrics) Delivered(name string, events int) {
	m.messages.WithLabelValues(name, "delivered").Inc()
	m.events.WithLabelValues(name).Add(float64(events))
}

func (m webhookMetrics) Failed(name string) { m.messages.WithLabelValues(name, "failed").Inc() }

func (m webhookMetrics) Paused(name string) { m.paused.WithLabelValues(name).Inc() }

func (m webhookMetrics) Lags(lags map[string]int64) {
	m.lag.Reset()
	for name, leaves := range lags {
		m.lag.WithLabelValues(name).Set(float64(leaves))
	}
}
