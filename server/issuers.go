package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/vetting"
)

// issuersEvery is how often the issuing CAs are read, which other servers
// may have created or renewed.
const issuersEvery = time.Second

// probeEvery is after how many of these times the CAs' keys are tried, though
// nothing is known against them: those in an HSM may be gone.
const probeEvery = 3

// issuing is this server's authorities with the issuing CAs of the database.
type issuing struct {
	authorities *ca.Authorities
	source      interface {
		IssuingCAs(context.Context) ([]*vetting.IssuingCA, error)
	}
	now func() time.Time
}

func (i issuing) Refresh(ctx context.Context) error {
	list, err := i.source.IssuingCAs(ctx)
	if err != nil {
		return err
	}
	return i.authorities.Learn(ctx, list)
}

func (i issuing) Founding(p vetting.Purpose) *vetting.IssuingCA { return i.authorities.Founding(p) }

func (i issuing) CheckIssuingCA(ctx context.Context, name string, der []byte) (*vetting.IssuingCA, error) {
	return i.authorities.CheckIssuingCA(ctx, name, der, i.now())
}

func (i issuing) Unable() map[string]error { return i.authorities.Unable(i.now()) }

// checkDefault reports that the CA which issues to most devices cannot sign
// here: another server may be able to.
func (i issuing) checkDefault(context.Context) error {
	name := i.authorities.Default()
	if err := i.Unable()[name]; err != nil {
		return fmt.Errorf("%s cannot sign: %w; devices get no certificates from this server", name, err)
	}
	return nil
}

// check reports the other CAs that should sign and cannot.
func (i issuing) check(context.Context) error {
	unable := i.Unable()
	delete(unable, i.authorities.Default())
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(unable)) {
		if i.authorities.Issues(name) {
			texts = append(texts, fmt.Sprintf("%s cannot sign: %v", name, unable[name]))
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return fmt.Errorf("%s; who should have certificates of them gets none, all others do", strings.Join(texts, "; "))
}

// learnIssuers follows the issuing CAs, and whether they can sign, until ctx
// ends.
func (s *Server) learnIssuers(ctx context.Context, ticks <-chan time.Time) {
	failing := false
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			s.authorities.Probe(n%probeEvery == 0)
			err := s.issuing.Refresh(ctx)
			if err != nil && !failing && ctx.Err() == nil {
				s.env.Log.ErrorContext(ctx, "the issuing CAs could not be read; those that are known stay in use, and it is tried again", "error", err)
			}
			failing = err != nil
		}
	}
}
