package server

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/ocsp/offline"
	"github.com/touchmark/touchmark/ocsp/offline/publish"
	"github.com/touchmark/touchmark/vetting"
)

// offlineEvery is how often the server looks which offline status files there
// are and are due.
const offlineEvery = 5 * time.Second

// offlineLags is which part of the time between two files a server may wait
// for another to make the next.
const offlineLags = 48

// clockDifference is how much the clocks of two servers may differ.
const clockDifference = 5 * time.Minute

// offlineMargin is how much earlier a certificate's notBefore can be than its
// commit, by this server's clock: it is backdated, and the request that it is
// made in may take its time.
func offlineMargin(c *Config) time.Duration {
	return ca.Backdate + time.Duration(max(c.EST.RequestTimeout, c.MQTT.RequestTimeout, c.API.RequestTimeout)) + time.Duration(c.DatabaseTimeout) + clockDifference
}

// newOffline makes the maker of offline status files.
func (s *Server) newOffline(store publish.Store) *publish.Maker {
	o := s.config.Status.Offline
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "touchmark_offline_failures_total", Help: "Attempts to make an offline status file of an issuing CA that failed.",
	}, []string{"issuer"})
	m := publish.NewMaker(publish.Maker{
		Schedule: publish.Schedule{Every: time.Duration(o.Every), BaseEvery: time.Duration(o.BaseEvery), Validity: time.Duration(o.Validity), Margin: offlineMargin(s.config),
			Lag: rand.N(time.Duration(o.Every)/offlineLags + 1)},
		Directory: &publish.Directory{Store: store},
		Issuers:   s.offlineIssuers,
		Failed:    func(issuer string) { failures.WithLabelValues(issuer).Inc() },
		Log:       s.env.Log, Now: s.env.Now,
	})
	s.metrics.registry.MustRegister(offlineCollector{m}, failures)
	return m
}

func (s *Server) offlineIssuers() []publish.Issuer {
	var list []publish.Issuer
	for _, i := range s.authorities.Issuing() {
		list = append(list, publish.Issuer{ID: i.ID, Name: i.Name, Certificate: i.Certificate, Signer: i.Signer})
	}
	return list
}

// offlineFiles are the offline status files as the API has them.
type offlineFiles struct {
	maker    *publish.Maker
	issuerID func(name string) (id int64, ok bool)
}

func (o offlineFiles) OfflineFiles(issuer string) (list []*publish.File, err error) {
	id, ok := o.issuerID(issuer)
	if !ok {
		return nil, vetting.Errorf(vetting.NotFound, "there is no issuing CA %q", issuer)
	}
	return o.maker.Directory.Files(id), nil
}

func (o offlineFiles) WantOfflineFile(by, issuer string, kind offline.Kind) (after int64, err error) {
	after, err = o.maker.Want(by, issuer, kind)
	switch {
	case errors.Is(err, publish.ErrNoIssuer):
		return 0, vetting.Errorf(vetting.NotFound, "there is no issuing CA %q", issuer)
	case err != nil:
		return 0, vetting.Errorf(vetting.Conflict, "no offline status of %s is made: %v", issuer, err)
	}
	return after, nil
}

// issuerID finds a CA that issues to devices by its name.
func (s *Server) issuerID(name string) (id int64, ok bool) {
	for _, i := range s.authorities.Issuing() {
		if i.Name == name {
			return i.ID, true
		}
	}
	return 0, false
}
