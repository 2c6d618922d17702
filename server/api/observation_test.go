package api_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

func observation(change map[string]any) map[string]any {
	o := map[string]any{"certificate": "0A:11", "event": "connect", "at": today.Format(time.RFC3339), "address": "192.0.2.7:4711"}
	for k, v := range change {
		o[k] = v
	}
	return o
}

func TestReportObservations(t *testing.T) {
	w := newWorld(t)
	forged := newAuthority(t, "factory CA").issue(t, "x", newKey(t), today.AddDate(1, 0, 0)).Certificate[0]
	n := decode[vetting.Observed](t, w.as("reporter", "POST", "/observations", map[string]any{"observations": []any{
		observation(nil),
		observation(map[string]any{"event": "disconnect", "address": "::ffff:192.0.2.8"}),
		observation(map[string]any{"certificate": base64.StdEncoding.EncodeToString(forged), "place": map[string]any{"lat": -90, "long": 180}}),
	}}), 200)
	if n.Taken != 3 {
		t.Errorf("%+v", n)
	}
	got := w.store.observed
	if o := got[0]; o.Certificate != "0a11" || o.Origin != "" || o.Event != vetting.ObservedConnect || !o.At.Equal(today) || o.Address.String() != "192.0.2.7" || o.Source != "reporter" {
		t.Errorf("the first is %+v", o)
	}
	if got[1].Address.String() != "192.0.2.8" || got[2].Origin != vetting.OriginForged || *got[2].Place != (vetting.Place{Lat: -90, Long: 180}) {
		t.Errorf("the others are %+v", got[1:])
	}
}

// TestBadObservations: a batch with something absurd in it is refused as a
// whole, and each bad entry is named.
func TestBadObservations(t *testing.T) {
	w := newWorld(t)
	bad := []map[string]any{
		{"at": today.Add(time.Hour).Format(time.RFC3339)}, {"at": today.AddDate(0, 0, -31).Format(time.RFC3339)},
		{"place": map[string]any{"lat": 91, "long": 0}}, {"place": map[string]any{"lat": 0, "long": -181}},
		{"address": "here"}, {"event": "ping"}, {"certificate": "xyz"}, {"certificate": strings.Repeat("A", 70)},
	}
	list := []any{observation(nil)}
	for _, change := range bad {
		list = append(list, observation(change))
	}
	p := refused(t, w.as("reporter", "POST", "/observations", map[string]any{"observations": list}), 422, "8 of 9", "index 1", "none was taken")
	if len(p.Errors) != len(bad) || len(w.store.observed) != 0 {
		t.Fatalf("%d errors, %d taken: %+v", len(p.Errors), len(w.store.observed), p.Errors)
	}
	for i, e := range p.Errors {
		if want := fmt.Sprintf("body.observations[%d]", i+1); e.Location != want || e.Message == "" {
			t.Errorf("error %d is %+v", i, e)
		}
	}
	many := make([]any, 1001)
	for i := range many {
		many[i] = observation(nil)
	}
	refused(t, w.as("reporter", "POST", "/observations", map[string]any{"observations": many}), 422, "1000")
	refused(t, w.as("reporter", "POST", "/observations", map[string]any{"observations": []any{}}), 422)
	refused(t, w.as("reporter", "POST", "/observations", map[string]any{"source": "a b", "observations": []any{observation(nil)}}), 422, "source")
	decode[vetting.Observed](t, w.as("reporter", "POST", "/observations", map[string]any{"source": "gate-1", "observations": many[:1000]}), 200)
}

// TestReporterLearnsNothing: a broker's certificate opens nothing else.
func TestReporterLearnsNothing(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/devices", "/devices/11", "/evidence", "/orders", "/certificates/" + nearCert} {
		refused(t, w.as("reporter", "GET", path, nil), 403, "reporter")
	}
	refused(t, w.as("reporter", "POST", "/verify", map[string]any{"serial": "S-near"}), 403)
}
