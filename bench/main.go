// Command bench measures Touchmark against the limits of the machine it runs
// on. Every row is a ratio: what Touchmark reaches, over what a bare program
// with the same cryptography reaches in the same run. `make bench` runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"slices"
	"text/tabwriter"
	"time"
)

func main() {
	units := flag.Int("units", 3000, "devices in each run")
	runs := flag.Int("runs", 3, "runs; the median counts")
	clients := flag.Int("clients", 64, "clients at the same time")
	postgres := flag.String("postgres", os.Getenv("TOUCHMARK_TEST_POSTGRES"), "a PostgreSQL to make databases in; empty leaves it out")
	profile := flag.String("cpuprofile", "", "write a CPU profile of the last run of --profiled to this file")
	profiled := flag.String("profiled", "first", "what --cpuprofile looks at: first (enrolments) or rig")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{units: *units, runs: *runs, clients: *clients, postgres: *postgres, profile: *profile, profiled: *profiled}
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	units, runs, clients int
	postgres             string
	profile, profiled    string
}

// watched runs one phase, and profiles it if it is the one asked for.
func (b *bench) watched(phase string, run func() (*load, error)) (*load, error) {
	if b.profile == "" || b.profiled != phase {
		return run()
	}
	f, err := os.Create(b.profile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	defer pprof.StopCPUProfile()
	return run()
}

// row is a line of the table.
type row struct {
	name         string
	figure, base []float64 // per second, one a run
	limit        string
	wanted       float64
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// ratio is the median of the runs' ratios: each pair was measured next to
// each other.
func (r row) ratio() float64 {
	ratios := make([]float64, len(r.figure))
	for i := range ratios {
		ratios[i] = r.figure[i] / r.base[i]
	}
	return median(ratios)
}

func (b *bench) run(ctx context.Context) error {
	fmt.Printf("%s, %d cores, %d devices, %d clients, median of %d runs\n\n", runtime.Version(), runtime.NumCPU(), b.units, b.clients, b.runs)
	databases := []string{"sqlite"}
	if b.postgres != "" {
		databases = append(databases, "postgres")
	}
	wanted := map[string]float64{"sqlite": 0.70, "postgres": 0.60}
	var rows []row
	var spread []string
	for _, db := range databases {
		first := row{name: "first enrolments over EST, " + db, limit: "mutual TLS handshakes with a fixed reply", wanted: wanted[db]}
		rig := row{name: "enrolments through one RA, " + db, limit: "CSR check and x509.CreateCertificate", wanted: 0.50}
		for range b.runs {
			m, err := b.measure(ctx, db)
			if err != nil {
				return err
			}
			first.figure, first.base = append(first.figure, m.enrol.rate), append(first.base, m.handshake.rate)
			rig.figure, rig.base = append(rig.figure, m.rig.rate), append(rig.base, m.bare)
			spread = append(spread, fmt.Sprintf("%s: median %s, 99%% %s, ratio %.1f (wanted at most 5)", db,
				m.enrol.quantile(0.5).Round(time.Millisecond), m.enrol.quantile(0.99).Round(time.Millisecond),
				float64(m.enrol.quantile(0.99))/float64(m.enrol.quantile(0.5))))
		}
		rows = append(rows, first, rig)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tper second\tlimit\tper second\tratio\twanted")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%.0f\t%s\t%.0f\t%.2f\t%.2f\n", r.name, median(r.figure), r.limit, median(r.base), r.ratio(), r.wanted)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Printf("\nlatency of a first enrolment at %d clients\n", b.clients)
	for _, s := range spread {
		fmt.Println(" ", s)
	}
	return nil
}
