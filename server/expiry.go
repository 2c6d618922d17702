package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// expiries are the ends of the certificates without which the server could
// do nothing.
func (s *Server) expiries() map[string]time.Time {
	m := s.authorities.Expiries()
	m["server"] = s.certificate.NotAfter()
	return m
}

// allExpiries are those and the ends of the issuing CAs, of a root roll-over,
// of the TUF root, and of the certificates that let this server answer OCSP requests.
func (s *Server) allExpiries() map[string]time.Time {
	m := s.expiries()
	maps.Copy(m, s.authorities.FurtherExpiries())
	s.addResponders(m)
	if s.tuf != nil {
		if _, ends, ok := s.tuf.root(); ok {
			m["tuf-root"] = ends
		}
	}
	return m
}

// addResponders adds the ends of the certificates that let this server answer
// OCSP requests.
func (s *Server) addResponders(m map[string]time.Time) {
	if ends := s.status.credentials.expiries.Load(); ends != nil {
		maps.Copy(m, *ends)
	}
}

// expiring reports the CAs, and the TUF root, that run out soon.
func (s *Server) expiring(context.Context) error {
	ends := s.authorities.Soon(s.env.Now(), endsSoon)
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(ends)) {
		texts = append(texts, fmt.Sprintf("%s runs out at %s", name, ends[name].Format(time.RFC3339)))
	}
	if len(texts) > 0 {
		texts = []string{strings.Join(texts, "; ") + ": sign it anew, with `touchmark ca request`"}
	}
	if text := s.tuf.rootExpiring(endsSoon); text != "" {
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return nil
	}
	return errors.New(strings.Join(texts, "; "))
}

// endsSoon is when a CA's end is urgent.
const endsSoon = 90 * 24 * time.Hour

// clock reports a clock that was set to before this Touchmark was founded.
// No certificate's time could be judged, and each that was issued would be
// dated wrongly.
func (s *Server) clock(context.Context) error {
	now, founded := s.env.Now(), s.authorities.Device.Certificate.NotBefore
	if now.Before(founded) {
		return fmt.Errorf("the clock says %s, but the device CA was made after that, at %s: set the clock", now.UTC().Format(time.RFC3339), founded.Format(time.RFC3339))
	}
	return nil
}
