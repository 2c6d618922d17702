package server

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/ocsptest"
	"github.com/touchmark/touchmark/vetting"
)

// TestForgedIsEvidence: a question about a serial number that the CA never
// issued is kept once.
func TestForgedIsEvidence(t *testing.T) {
	w := opened(t)
	s := w.server
	genuine := w.enrol(v13, w.build("A-1", w.now().Add(time.Hour)), "simpleenroll", nil)
	forged := new(big.Int).Add(genuine.cert.SerialNumber, big.NewInt(1))
	device := s.authorities.Device.Certificate
	w.comes(s, device, genuine.cert, "good", 0)
	for range 2 {
		q := ocsptest.Question{CertIDs: []ocsptest.CertID{ocsptest.ID(crypto.SHA256, device, forged)}}
		resp, err := http.Post("http://"+s.Addrs()["status"]+ocsp.Path, "application/ocsp-request", bytes.NewReader(q.DER()))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	s.status.reporting.flush(t.Context())
	list, err := s.store.Evidence(t.Context(), vetting.EvidenceFilter{Kind: vetting.EvidenceForged}, vetting.Page{})
	if err != nil || len(list) != 1 || !strings.Contains(list[0].Text, fmt.Sprintf("%x", forged)) || !strings.Contains(list[0].Text, "device-ca") {
		t.Errorf("evidence %+v, %v", list, err)
	}
	act := access.Act{Operator: "node"}
	if _, err := s.responders.ReportForgeries(t.Context(), act, "device-ca", [][]byte{genuine.cert.SerialNumber.Bytes()}, 0); vetting.ProblemOf(err) != vetting.Invalid {
		t.Errorf("a genuine serial number reported as forged: %v", err)
	}
	if _, err := s.responders.ReportForgeries(t.Context(), act, "nobody", nil, 1); vetting.ProblemOf(err) != vetting.NotFound {
		t.Errorf("of no CA: %v", err)
	}
}

// shelf keeps evidence by mark.
type shelf map[string]int

func (s shelf) RecordEvidence(_ context.Context, _ access.Act, list []vetting.Evidence) error {
	for _, e := range list {
		s[string(e.Mark)]++
	}
	return nil
}

// TestForgedIsBounded: whoever tries serial numbers without end fills nothing.
func TestForgedIsBounded(t *testing.T) {
	kept, now := shelf{}, time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	f := &forged{store: kept, now: func() time.Time { return now }}
	tries := 0
	try := func(n int) (sum int) {
		t.Helper()
		for range n {
			tries++
			k, err := f.keep(t.Context(), access.Act{}, "device-ca", [][]byte{binary.BigEndian.AppendUint64(nil, uint64(tries))}, 0)
			if err != nil {
				t.Fatal(err)
			}
			sum += k
		}
		return sum
	}
	if n := try(1000); n != forgedPerDay || len(kept) != forgedPerDay+1 {
		t.Errorf("%d kept, as %d signs", n, len(kept))
	}
	now = now.Add(time.Hour)
	if n := try(1000); n != forgedPerDay/24 {
		t.Errorf("after an hour %d kept", n)
	}
	now = now.Add(-2 * time.Hour) // the clock was set back
	if n := try(1000); n != 0 {
		t.Errorf("with the clock set back %d kept", n)
	}
	now = now.Add(100 * 24 * time.Hour)
	if n := try(1000); n != forgedPerDay {
		t.Errorf("after long %d kept", n)
	}
	if n, err := f.keep(t.Context(), access.Act{}, "device-ca", nil, 0); n != 0 || err != nil {
		t.Errorf("nothing: %d, %v", n, err)
	}
}

// TestReportingWaits: what cannot be reported is reported later, and what is
// refused is not tried again.
func TestReportingWaits(t *testing.T) {
	met := []ocsp.Forgery{{Issuer: 0, Serial: "a"}, {Issuer: 7, Serial: "b"}}
	lost := int64(3)
	answer := errors.New("no connection")
	var told []string
	failures := 0
	r := &reporting{
		take:    func() ([]ocsp.Forgery, int64) { l, n := met, lost; met, lost = nil, 0; return l, n },
		issuing: func() []ca.Issuing { return []ca.Issuing{{Name: "device-ca"}, {ID: 7, Name: "acme"}} },
		report: func(_ context.Context, issuer string, serials [][]byte, more int64) error {
			told = append(told, fmt.Sprintf("%s %s %d", issuer, serials, more))
			return answer
		},
		failed: func(context.Context, error) { failures++ },
	}
	flush := func(want ...string) {
		t.Helper()
		told = nil
		r.flush(t.Context())
		slices.Sort(told)
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	}
	flush("acme [b] 0", "device-ca [a] 3")
	met = []ocsp.Forgery{{Issuer: 7, Serial: "c"}}
	flush("acme [b c] 0", "device-ca [a] 3")
	if failures != 1 {
		t.Errorf("%d failures in a row were told", failures)
	}
	answer = vetting.Errorf(vetting.Invalid, "it is genuine")
	flush("acme [b c] 0", "device-ca [a] 3")
	flush()
	met, answer = []ocsp.Forgery{{Serial: "d"}}, nil
	flush("device-ca [d] 0")
	flush()
}
