package server

import (
	"crypto/x509"
	"fmt"
	"os"

	"github.com/touchmark/touchmark/internal/egress"
	"github.com/touchmark/touchmark/internal/idtoken"
)

// openTokens makes what verifies the tokens of builds.
func (s *Server) openTokens() error {
	allowed, err := egress.Parse(s.config.Workloads.Allow)
	if err != nil {
		return fmt.Errorf("workloads.allow: %w", err)
	}
	var roots *x509.CertPool
	if s.config.Workloads.CA != "" {
		path := s.config.inDir(s.config.Workloads.CA)
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("workloads.ca: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(text) {
			return fmt.Errorf("workloads.ca: %s holds no certificate in PEM", path)
		}
	}
	s.tokens = &idtoken.Verifier{HTTP: idtoken.NewClient(allowed, roots), Now: s.env.Now}
	return nil
}
