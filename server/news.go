package server

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/touchmark/touchmark/internal/cluster"
	"github.com/touchmark/touchmark/ocsp"
)

// openNews prepares to tell other servers what is new, and to share answers
// with them, if there is a Redis.
func (s *Server) openNews() (err error) {
	c := s.config.Redis
	if c.URL == "" {
		return nil
	}
	o := cluster.Options{URL: c.URL, PasswordFile: s.config.inDir(c.PasswordFile), CA: s.config.inDir(c.CA), Name: s.authorities.Name()}
	if s.news, err = cluster.Open(o); err != nil || !c.Answers {
		return err
	}
	if s.answers, err = cluster.OpenAnswers(o, s.authorities.Serials.Derive("OCSP answers that nodes share")); err != nil {
		return err
	}
	s.metrics.registry.MustRegister(answerCollector{&s.answers.Counts})
	return nil
}

// shared are the answers of all servers, if there is a Redis.
func (s *Server) shared() ocsp.Shared {
	if s.answers == nil {
		return nil
	}
	return s.answers
}

// hearNews listens to other servers, and tells them.
func (s *Server) hearNews(work context.Context) {
	if s.news == nil {
		return
	}
	s.working.Go(func() { s.contained(func() { s.news.Listen(work, s.status.told) }) })
	s.working.Go(func() { s.contained(func() { s.news.Speak(work) }) })
	if s.answers != nil {
		s.working.Go(func() { s.contained(func() { s.answers.Run(work) }) })
	}
}

// changed is called when this server's store has told of certificates.
func (s *Server) changed() {
	s.status.told()
	if s.news != nil {
		s.news.Tell()
	}
}

func (s *Server) newsCheck() []check {
	if s.news == nil {
		return nil
	}
	return []check{{"redis", s.news.Ping}}
}

func (s *Server) closeNews() error {
	var errs []error
	if s.news != nil {
		errs = append(errs, s.news.Close())
	}
	if s.answers != nil {
		errs = append(errs, s.answers.Close())
	}
	return errors.Join(errs...)
}

// answerCollector tells what sharing answers brings.
type answerCollector struct{ counts *cluster.AnswerCounts }

var (
	sharedAsksDesc = prometheus.NewDesc("touchmark_ocsp_shared_asks_total", "OCSP answers that Redis was asked for, by result: hit, miss, refused (no server has put it there), failed (not answered in time), skipped (not asked: away or slow).", []string{"result"}, nil)
	sharedPutsDesc = prometheus.NewDesc("touchmark_ocsp_shared_puts_total", "OCSP answers that were to be kept in Redis, by result: put, lost.", []string{"result"}, nil)
)

// Describe implements prometheus.Collector.
func (c answerCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- sharedAsksDesc
	ch <- sharedPutsDesc
}

// Collect implements prometheus.Collector.
func (c answerCollector) Collect(ch chan<- prometheus.Metric) {
	for _, of := range []struct {
		desc  *prometheus.Desc
		label string
		count *atomic.Int64
	}{
		{sharedAsksDesc, "hit", &c.counts.Hits}, {sharedAsksDesc, "miss", &c.counts.Misses}, {sharedAsksDesc, "refused", &c.counts.Refused},
		{sharedAsksDesc, "failed", &c.counts.Failed}, {sharedAsksDesc, "skipped", &c.counts.Skipped},
		{sharedPutsDesc, "put", &c.counts.Put}, {sharedPutsDesc, "lost", &c.counts.Lost},
	} {
		ch <- prometheus.MustNewConstMetric(of.desc, prometheus.CounterValue, float64(of.count.Load()), of.label)
	}
}
