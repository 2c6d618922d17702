package devicesim

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
)

// Histogram counts durations in buckets that grow by a quarter of an octave,
// so that every figure is right to about 10 %. The zero value is empty.
type Histogram struct {
	counts [128]int64
	total  int64
	max    time.Duration
}

const bucketsPerOctave = 4

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
	h.max = max(h.max, d)
}

func bucket(d time.Duration) int {
	if d <= time.Microsecond {
		return 0
	}
	return min(int(bucketsPerOctave*math.Log2(float64(d)/float64(time.Microsecond))), 127)
}

func upper(bucket int) time.Duration {
	return time.Duration(float64(time.Microsecond) * math.Exp2(float64(bucket+1)/bucketsPerOctave))
}

// Quantile is the duration that the given share did not exceed, 0 if empty.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank, seen := int64(math.Ceil(q*float64(h.total))), int64(0)
	for i, n := range h.counts {
		if seen += n; n > 0 && seen >= rank {
			return min(upper(i), h.max)
		}
	}
	return 0
}

// MarshalJSON gives the count, the quantiles and the buckets that are not
// empty, in milliseconds.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	type bucket struct {
		UpTo  float64 `json:"upTo"`
		Count int64   `json:"count"`
	}
	buckets := []bucket{}
	for i, n := range h.counts {
		if n > 0 {
			buckets = append(buckets, bucket{milliseconds(upper(i)), n})
		}
	}
	return json.Marshal(struct {
		Count   int64    `json:"count"`
		P50     float64  `json:"p50"`
		P95     float64  `json:"p95"`
		P99     float64  `json:"p99"`
		Max     float64  `json:"max"`
		Unit    string   `json:"unit"`
		Buckets []bucket `json:"buckets"`
	}{h.total, milliseconds(h.Quantile(0.5)), milliseconds(h.Quantile(0.95)), milliseconds(h.Quantile(0.99)), milliseconds(h.max), "ms", buckets})
}

// String draws the histogram as bars, a line for each doubling.
func (h *Histogram) String() string {
	if h.total == 0 {
		return "  nothing measured\n"
	}
	var b strings.Builder
	var most int64
	var lines [len(h.counts) / bucketsPerOctave]int64
	for i, n := range h.counts {
		lines[i/bucketsPerOctave] += n
		most = max(most, lines[i/bucketsPerOctave])
	}
	for i, n := range lines {
		if n > 0 {
			bar := strings.Repeat("█", max(1, int(40*n/most)))
			fmt.Fprintf(&b, "  up to %8s %6d %s\n", round(upper(i*bucketsPerOctave+bucketsPerOctave-1)), n, bar)
		}
	}
	fmt.Fprintf(&b, "  median %s, 95 %% %s, 99 %% %s, longest %s\n", round(h.Quantile(0.5)), round(h.Quantile(0.95)), round(h.Quantile(0.99)), round(h.max))
	return b.String()
}

// round keeps about three digits.
func round(d time.Duration) time.Duration {
	for unit := time.Second; unit > 1; unit /= 10 {
		if d >= 100*unit {
			return d.Round(unit)
		}
	}
	return d
}
