package server

import (
	"time"

	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/crl"
)

// CRL says which revocation lists are made, and when.
type CRL struct {
	// Interval is how often each list is made anew, whether anything was
	// revoked or not. 0s makes none.
	Interval Duration `yaml:"interval"`
	// Validity is the time from a list's thisUpdate to its nextUpdate, at
	// least twice the interval: clients go on with the list they have while
	// no new one can be made or fetched.
	Validity Duration `yaml:"validity"`
	// Full has lists made of all certificates that a CA revoked, besides
	// those of partitions.
	Full bool `yaml:"full"`
	// DeltaInterval is how often a list of what changed since the full one is
	// made anew. 0s makes none.
	DeltaInterval Duration `yaml:"delta_interval"`
	// DeltaValidity is the time from thisUpdate to nextUpdate of such a list,
	// at least twice delta_interval.
	DeltaValidity Duration `yaml:"delta_validity"`
	// Delay is how long after a certificate's status changed its partition
	// and the delta are made anew at the latest; HTTP caches may keep them as
	// long. 0s leaves it to the intervals.
	Delay Duration `yaml:"delay"`
	// FormerURLs are what status.url was before: lists of partitions must
	// name every place that certificates say they are at.
	FormerURLs []string `yaml:"former_urls"`
}

func (c CRL) check(bad func(string, ...any)) {
	if c.Interval != 0 {
		atLeast("status.crl.interval", c.Interval, time.Minute, bad)
	}
	if most := ocsp.Retention / 2; time.Duration(c.Interval) > most {
		bad("status.crl.interval is %s: want at most %s, so that a certificate is on a list once after its end", c.Interval, most)
	}
	if c.Validity < 2*c.Interval {
		bad("status.crl.validity is %s: want at least twice status.crl.interval, which is %s", c.Validity, c.Interval)
	}
	if c.DeltaInterval != 0 {
		atLeast("status.crl.delta_interval", c.DeltaInterval, time.Minute, bad)
	}
	if c.DeltaValidity < 2*c.DeltaInterval {
		bad("status.crl.delta_validity is %s: want at least twice status.crl.delta_interval, which is %s", c.DeltaValidity, c.DeltaInterval)
	}
	if c.Delay != 0 {
		atLeast("status.crl.delay", c.Delay, time.Second, bad)
	}
	for _, u := range c.FormerURLs {
		checkStatusURL("status.crl.former_urls", u, bad)
	}
}

// schedule is what a maker is told.
func (s Status) schedule() crl.Schedule {
	c := s.CRL
	out := crl.Schedule{Interval: time.Duration(c.Interval), Validity: time.Duration(c.Validity), Full: c.Full, Delay: time.Duration(c.Delay),
		DeltaInterval: time.Duration(c.DeltaInterval), DeltaValidity: time.Duration(c.DeltaValidity), Partitions: s.Partitions}
	if s.URL != "" {
		out.URLs = append([]string{s.URL}, c.FormerURLs...)
	}
	return out
}

func defaultCRL() CRL {
	return CRL{Interval: Duration(24 * time.Hour), Validity: Duration(96 * time.Hour), Full: true,
		DeltaInterval: Duration(time.Hour), DeltaValidity: Duration(6 * time.Hour), Delay: Duration(time.Minute), FormerURLs: []string{}}
}
