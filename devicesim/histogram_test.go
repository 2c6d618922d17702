package devicesim_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/devicesim"
)

func TestHistogram(t *testing.T) {
	h := new(devicesim.Histogram)
	if h.Quantile(0.5) != 0 || !strings.Contains(h.String(), "nothing") {
		t.Errorf("empty: %s\n%s", h.Quantile(0.5), h)
	}
	for i := 1; i <= 1000; i++ {
		h.Add(time.Duration(i) * time.Millisecond)
	}
	h.Add(0)
	h.Add(-time.Second)
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.95: 950 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		if got := h.Quantile(q); got < want*97/100 || got > want*120/100 {
			t.Errorf("quantile %v: %s, want about %s", q, got, want)
		}
	}
	for _, want := range []string{"█", "median", "longest 1s"} {
		if !strings.Contains(h.String(), want) {
			t.Errorf("no %q in\n%s", want, h)
		}
	}
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Count   int64
		Max     float64
		Unit    string
		Buckets []struct{ Count int64 }
	}
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, b := range back.Buckets {
		sum += b.Count
	}
	if back.Count != 1002 || sum != 1002 || back.Max != 1000 || back.Unit != "ms" {
		t.Errorf("%s", text)
	}
	huge := new(devicesim.Histogram)
	huge.Add(1 << 62)
	if huge.Quantile(0.5) <= 0 {
		t.Errorf("a very long duration: %s", huge.Quantile(0.5))
	}
}
