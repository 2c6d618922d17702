package ca

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	zcrypto "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
)

// standards are the rules that device certificates keep. Those of browsers
// and public CAs (CA/Browser Forum, root programs) are left out: they forbid
// what devices need, such as names without DNS and lifetimes of decades.
var standards = lint.SourceList{lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC8813}

// lintCertificate fails with every rule that a certificate breaks, by the
// lint's name.
func lintCertificate(der []byte) error {
	cert, err := zcrypto.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("a strict parser refuses it: %w", err)
	}
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: standards})
	if err != nil {
		return err
	}
	var found []string
	for name, result := range zlint.LintCertificateEx(cert, registry).Results {
		if result.Status >= lint.Error {
			finding := name
			if l := registry.CertificateLints().ByName(name); l != nil {
				finding += " (" + l.Description + "; " + l.Citation + ")"
			}
			if result.Details != "" {
				finding += ": " + result.Details
			}
			found = append(found, finding)
		}
	}
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	return errors.New(strings.Join(found, "; "))
}
