package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/enroll/acme"
	"github.com/touchmark/touchmark/enroll/acme/challenge"
	"github.com/touchmark/touchmark/internal/egress"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid"
)

// acmeDoor adds the door for ACME clients, if it is to be open.
func (s *Server) acmeDoor(pipeline enroller) error {
	c := s.config.ACME
	if c.Listen == "" {
		return nil
	}
	allowed, err := egress.Parse(c.Servers.Allow)
	if err != nil {
		return fmt.Errorf("acme.servers.allow: %w", err)
	}
	d := door{name: "acme", addr: c.Listen, limits: c.Limits, tls: TLSConfig(s.certificate.Get)}
	d.tls.ClientAuth = tls.NoClientCert // an account's key signs the requests
	reach := challenge.Reach{Allowed: allowed, Resolver: c.Servers.Resolver, HTTPPort: c.Servers.HTTPPort, TLSPort: c.Servers.TLSPort, Log: s.env.Log}
	s.door(d, s.acmeHandler(pipeline, reach), time.Duration(c.RequestTimeout))
	return nil
}

func (s *Server) acmeHandler(pipeline enroller, reach challenge.Reach) *acme.Handler {
	c := s.config.ACME
	return (&acme.Handler{
		Enroller:    pipeline,
		Keeper:      s.store,
		AccountKeys: s.store,
		Lives:       s.store,
		Revoker:     s.store,
		Validator:   &challenge.Validator{Vendors: &vendorid.Book{Products: s.store, Vendors: vendorid.ByAttestation(s.attestationCA.Vendor()), Now: s.env.Now}, Reach: reach},
		Servers:     s.store,
		Witness:     attestations{s.store, newRates[vetting.Identity](1)},
		CACerts:     s.authorities.CACerts,
		Secret:      s.acmeSecret(),
		URL:         c.URL,
		Terms:       c.Terms,
		Website:     c.Website,
		Bound:       c.Bound,
		Log:         s.env.Log,
		Now:         s.env.Now,
		Refused:     func(problem string) { s.metrics.acmeRefused.WithLabelValues(problem).Inc() },
	}).Ready()
}

// acmeSecret is what servers that share the device CA share for ACME.
func (s *Server) acmeSecret() acme.Secret { return s.authorities.Serials.Derive("ACME") }

// attestations keeps bad attestations as evidence about the devices that are
// known; what is about strangers would let anybody fill the database.
type attestations struct {
	store *store.Store
	rates *rates[vetting.Identity]
}

// mostNamed is how many devices of several products may bear one name.
const mostNamed = 8

// BadAttestation implements acme.Witness.
func (a attestations) BadAttestation(ctx context.Context, id vetting.Identity, text string) error {
	if _, ok := a.rates.take(id); !ok {
		return nil // it was counted often enough
	}
	devices, err := a.store.Devices(ctx, vetting.DeviceFilter{Identity: id}, vetting.Page{Limit: mostNamed})
	if err != nil || len(devices) == 0 {
		return err
	}
	var list []vetting.Evidence
	for _, d := range devices {
		list = append(list, vetting.BadAttestation(d.ID, text))
	}
	return a.store.WitnessEvidence(ctx, list)
}

// forgetOrders forgets orders for certificates that are of no more use.
func (s *Server) forgetOrders(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			if _, err := s.store.ForgetCertificateOrders(ctx, s.env.Now().Add(-ordersKept)); err != nil && ctx.Err() == nil {
				s.env.Log.ErrorContext(ctx, "old orders of ACME were not forgotten; it is tried again", "error", err)
			}
		}
	}
}

// ordersKept is how long an order can be looked at after it expired.
const ordersKept = 30 * 24 * time.Hour
