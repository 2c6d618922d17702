package devicesim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Report sums up how the units of a fleet ended.
type Report struct {
	Units    int            `json:"units"`
	Verdicts map[string]int `json:"verdicts"` // units by "admitted", "held", "refused", "failed"
	// Again is how many units needed more than one attempt, Attempts all
	// attempts together.
	Again    int `json:"again"`
	Attempts int `json:"attempts"`
	// Reasons are what those that were not admitted were told, most frequent
	// first.
	Reasons []Reason `json:"reasons"`
	// Latency is of the units that were admitted at their first attempt:
	// from the connection to the certificate, kept and in use.
	Latency *Histogram `json:"latency"`
}

// Reason is what a number of units were told.
type Reason struct {
	Verdict string `json:"verdict"`
	Units   int    `json:"units"`
	// Text is what one of them was told. Names and numbers differ from unit
	// to unit; texts that differ in nothing else count as the same reason.
	Text string `json:"text"`
}

// Summarize makes the report of a fleet.
func Summarize(results []Result) *Report {
	rep := &Report{Units: len(results), Verdicts: map[string]int{}, Reasons: []Reason{}, Latency: new(Histogram)}
	place := map[string]int{} // in Reasons
	for _, r := range results {
		rep.Verdicts[r.Verdict]++
		rep.Attempts += r.Attempts
		if r.Attempts > 1 {
			rep.Again++
		}
		if r.Verdict == "admitted" {
			if r.Attempts == 1 {
				rep.Latency.Add(r.Took)
			}
			continue
		}
		key := r.Verdict + " " + pattern(r.Text)
		i, known := place[key]
		if !known {
			i = len(rep.Reasons)
			place[key] = i
			rep.Reasons = append(rep.Reasons, Reason{Verdict: r.Verdict, Text: r.Text})
		}
		rep.Reasons[i].Units++
	}
	slices.SortStableFunc(rep.Reasons, func(a, b Reason) int { return b.Units - a.Units })
	return rep
}

// pattern blanks out the words of a text that hold a digit.
func pattern(text string) string {
	words := strings.Fields(text)
	for i, w := range words {
		if strings.ContainsAny(w, "0123456789") {
			words[i] = "#"
		}
	}
	return strings.Join(words, " ")
}

// String is the report for a person.
func (r *Report) String() string {
	var b strings.Builder
	for _, reason := range r.Reasons {
		fmt.Fprintf(&b, "%d %s: %s\n", reason.Units, reason.Verdict, strings.TrimSpace(reason.Text))
	}
	fmt.Fprintf(&b, "admitted %d, held %d, refused %d, failed %d\n", r.Verdicts["admitted"], r.Verdicts["held"], r.Verdicts["refused"], r.Verdicts["failed"])
	if r.Again > 0 {
		fmt.Fprintf(&b, "%d units did not get through at once and came again, %d attempts in all\n", r.Again, r.Attempts)
	}
	b.WriteString(r.Latency.String())
	return b.String()
}

// milliseconds with three digits after the point, for JSON.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}
