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

	"github.com/touchmark/touchmark/bench/soak"
)

func main() {
	units := flag.Int("units", 3000, "devices in each run")
	runs := flag.Int("runs", 3, "runs; the median counts")
	clients := flag.Int("clients", 64, "clients at the same time")
	postgres := flag.String("postgres", os.Getenv("TOUCHMARK_TEST_POSTGRES"), "a PostgreSQL to make databases in; empty leaves it out")
	records := flag.Int("records", 100_000, "records in the manifest that is imported; 0 leaves that out")
	only := flag.String("only", "", "measure only this: enrol, renew, mqtt, acme, doors, overload, rules, verify, import, bulk, growth, crl, beside-crl, filter, firmware, wrap, licences, ocsp or agent; or soak, which is not measured otherwise")
	fill := flag.Int("fill", 50_000, "devices that the database is filled with to measure growth; 0 leaves that out")
	revoked := flag.Int("revoked", 1_000_000, "certificates on the revocation lists that are made; 0 leaves that out")
	issued := flag.Int("issued", 10_000_000, "certificates that the offline filter knows; 0 leaves that out")
	image := flag.Int("image", 1024, "MiB of the firmware image that is signed; 0 leaves that out")
	statuses := flag.Int("statuses", 1_000_000, "revoked certificates that an OCSP responder loads; 0 leaves that out")
	minutes := flag.Float64("minutes", 30, "how long the soak is")
	restart := flag.Duration("restart", 3*time.Minute, "how long the server's process lives in the soak")
	profile := flag.String("cpuprofile", "", "write a CPU profile of the last run of --profiled to this file")
	profiled := flag.String("profiled", "first", "what --cpuprofile looks at: first (enrolments), rig, renew, verify, import, acme, acme-smallstep, ocsp, ocsp-signed or overload (the server's process)")
	serve := flag.String("serve", "", "only serve the data directory of this name until standard input ends: the part that overload starts as a process")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{units: *units, runs: *runs, clients: *clients, postgres: *postgres, profile: *profile, profiled: *profiled,
		records: *records, only: *only, fill: *fill, revoked: *revoked, issued: *issued, statuses: *statuses, image: *image,
		lives: max(1, int(*minutes*float64(time.Minute)/float64(*restart))), life: *restart}
	run := b.run
	switch {
	case *serve != "":
		run = func(ctx context.Context) error { return b.serveFor(ctx, *serve) }
	case b.only == "soak":
		run = b.soak
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	units, runs, clients int
	records, fill        int
	revoked, issued      int
	statuses             int
	image                int // MiB
	only                 string
	postgres             string
	profile, profiled    string
	lives                int // of the server's process, in the soak
	life                 time.Duration
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

// soak lets a server work for long: on PostgreSQL if one was named, else on
// SQLite.
func (b *bench) soak(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "touchmark-soak")
	if err != nil {
		return err
	}
	p := soak.Plan{Dir: dir, Database: "sqlite:touchmark.db", Lives: b.lives, Life: b.life, Share: 0.5,
		Measure: min(10*time.Second, b.life/10), Batch: 250, PerOrder: 2000, Out: os.Stdout}
	if b.postgres != "" {
		made, drop, err := b.database(ctx)
		if err != nil {
			return err
		}
		defer drop()
		p.Database = made
	}
	if p.Program, err = soak.Build(ctx, dir); err != nil {
		return err
	}
	if err := soak.Run(ctx, p); err != nil {
		return fmt.Errorf("%w\n(everything is left in %s)", err, dir)
	}
	return os.RemoveAll(dir)
}

// row is a line of the table.
type row struct {
	name         string
	figure, base []float64 // per second, one a run
	limit        string
	wanted       float64
}

func (r *row) add(figure, base float64) {
	r.figure, r.base = append(r.figure, figure), append(r.base, base)
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
	var t table
	for _, part := range []struct {
		name    string
		measure func(context.Context, string, *table) error
	}{{"enrol", b.enrolments}, {"renew", b.renewals}, {"mqtt", b.messages}, {"acme", b.attestations}, {"doors", b.idleDoors}, {"overload", b.overload}, {"rules", b.rules}, {"verify", b.verifications}, {"import", b.imports}, {"bulk", b.bulk}, {"growth", b.growth}, {"crl", b.crls}, {"beside-crl", b.besideCRL}, {"filter", b.filters}, {"firmware", b.firmware}, {"wrap", b.wraps}, {"licences", b.licences}, {"ocsp", b.answers}, {"agent", b.agents}} {
		for _, db := range databases {
			if b.only == "" || b.only == part.name {
				if err := part.measure(ctx, db, &t); err != nil {
					return err
				}
			}
		}
	}
	return t.print()
}

// table is what was measured: rows of ratios, and sentences for what is none.
type table struct {
	rows  []row
	notes []string
}

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func (t *table) print() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\tper second\tlimit\tper second\tratio\twanted")
	for _, r := range t.rows {
		fmt.Fprintf(w, "%s\t%.0f\t%s\t%.0f\t%.2f\t%.2f\n", r.name, median(r.figure), r.limit, median(r.base), r.ratio(), r.wanted)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Println()
	for _, s := range t.notes {
		fmt.Println(s)
	}
	return nil
}

// enrolments measures what devices and rigs get.
func (b *bench) enrolments(ctx context.Context, db string, t *table) error {
	wanted := map[string]float64{"sqlite": 0.70, "postgres": 0.60}
	first := row{name: "first enrolments over EST, " + db, limit: "mutual TLS handshakes with a fixed reply", wanted: wanted[db]}
	rig := row{name: "enrolments through one RA, " + db, limit: "CSR check and x509.CreateCertificate", wanted: 0.50}
	for range b.runs {
		m, err := b.measure(ctx, db)
		if err != nil {
			return err
		}
		first.add(m.enrol.rate, m.handshake.rate)
		rig.add(m.rig.rate, m.bare)
		median, late := m.enrol.quantile(0.5), m.enrol.quantile(0.99)
		t.note("latency of a first enrolment, %s: median %s, 99%% %s, ratio %.1f (wanted at most 5)", db,
			median.Round(time.Millisecond), late.Round(time.Millisecond), float64(late)/float64(median))
	}
	t.rows = append(t.rows, first, rig)
	return nil
}

// imports measures what sites get that hand in manifests.
func (b *bench) imports(ctx context.Context, db string, t *table) error {
	if b.records == 0 {
		return nil
	}
	r := row{name: fmt.Sprintf("import of %d records, %s", b.records, db), limit: "bulk insert of the same rows", wanted: 0.30}
	for range b.runs {
		m, err := b.measureImport(ctx, db)
		if err != nil {
			return err
		}
		r.add(m.rate, m.bare)
		t.note("memory while %d records are imported, %s: at most %d MB", b.records, db, m.memory>>20)
		each := func(cpu time.Duration, written int64) string {
			return fmt.Sprintf("%.1f µs of this process's processor time and %.0f bytes sent to the disk", cpu.Seconds()/float64(b.records)*1e6, float64(written)/float64(b.records))
		}
		t.note("each record, %s: %s; inserted without Touchmark %s", db, each(m.cpu, m.written), each(m.bareCPU, m.bareWritten))
	}
	t.rows = append(t.rows, r)
	return nil
}
