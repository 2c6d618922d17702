package server

import (
	"time"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/ocsp/offline/publish"
)

// offlineEvery is how often the server looks which offline status files there
// are and are due.
const offlineEvery = 5 * time.Second

// clockDifference is how much the clocks of two servers may differ.
const clockDifference = 5 * time.Minute

// offlineMargin is how much earlier a certificate's notBefore can be than its
// commit, by this server's clock: it is backdated, and the request that it is
// made in may take its time.
func offlineMargin(c *Config) time.Duration {
	return ca.Backdate + time.Duration(max(c.EST.RequestTimeout, c.API.RequestTimeout)) + time.Duration(c.DatabaseTimeout) + clockDifference
}

// newOffline makes the maker of offline status files.
func (s *Server) newOffline(store publish.Store) *publish.Maker {
	o := s.config.Status.Offline
	return publish.NewMaker(publish.Maker{
		Schedule:  publish.Schedule{Every: time.Duration(o.Every), BaseEvery: time.Duration(o.BaseEvery), Validity: time.Duration(o.Validity), Margin: offlineMargin(s.config)},
		Directory: &publish.Directory{Store: store},
		Issuers:   s.offlineIssuers,
		Log:       s.env.Log, Now: s.env.Now,
	})
}

func (s *Server) offlineIssuers() []publish.Issuer {
	var list []publish.Issuer
	for _, i := range s.authorities.Issuing() {
		list = append(list, publish.Issuer{ID: i.ID, Name: i.Name, Certificate: i.Certificate, Signer: i.Signer})
	}
	return list
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
