package soak

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// sample is the server's process at one time.
type sample struct {
	at         time.Duration // since the load began
	age        time.Duration // of the process
	life       int
	resident   int64 // bytes
	goroutines int64 // beside one for each open connection, of which a crowd has many
	files      int64 // beside those
	database   int64 // bytes
	days       int64 // of devices, that have ended
}

// samples watches the server's process.
type samples struct {
	process *process
	visits  *ledger
	db      *sql.DB
	began   time.Time
	every   time.Duration
	life    time.Duration // of each process
	list    []sample
}

// watch takes samples for so long and until it is enough. The error is that of
// ctx.
func (s *samples) watch(ctx context.Context, d time.Duration, enough func() bool) error {
	end := time.Now().Add(d)
	next := time.NewTicker(s.every)
	defer next.Stop()
	for {
		select {
		case <-next.C:
			if one, err := s.take(ctx); err == nil { // it may be busy; the next will do
				s.list = append(s.list, one)
			}
			if !time.Now().Before(end) && enough() {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *samples) take(ctx context.Context) (sample, error) {
	pid, life, since := s.process.now()
	one := sample{at: time.Since(s.began), age: time.Since(since), life: life, days: s.visits.days()}
	var err error
	if one.resident, err = resident(pid); err != nil {
		return one, err
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return one, err
	}
	one.files = int64(len(open))
	var metrics bytes.Buffer
	if err := s.process.get(ctx, "/metrics", &metrics); err != nil {
		return one, err
	}
	connections := int64(metric(metrics.Bytes(), "touchmark_connections"))
	one.files -= connections
	one.goroutines = int64(metric(metrics.Bytes(), "go_goroutines")) - connections
	one.database, err = s.size(ctx)
	return one, err
}

// resident is a process's memory, in bytes.
func resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	kB, err := strconv.ParseInt(fields[0], 10, 64)
	return kB << 10, err
}

// metric is the sum of a metric's values, whatever their labels.
func metric(text []byte, name string) (sum float64) {
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		labels, value, _ := strings.Cut(lines.Text(), " ")
		if labels == name || strings.HasPrefix(labels, name+"{") {
			v, _ := strconv.ParseFloat(value, 64)
			sum += v
		}
	}
	return sum
}

// size is the database's, in bytes.
func (s *samples) size(ctx context.Context) (n int64, err error) {
	if s.process.file == "" {
		err = s.db.QueryRowContext(ctx, `SELECT pg_database_size(current_database())`).Scan(&n)
		return n, err
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if info, err := os.Stat(s.process.file + suffix); err == nil {
			n += info.Size()
		}
	}
	return n, nil
}

// plateau is what a process came to: medians of the second half of its life.
type plateau struct {
	life     int
	at       time.Duration
	resident int64
	most     int64 // ever resident
	sample   sample
}

func (s *samples) plateaus() (list []plateau) {
	byLife := map[int][]sample{}
	var lives []int
	for _, one := range s.list {
		if byLife[one.life] == nil {
			lives = append(lives, one.life)
		}
		byLife[one.life] = append(byLife[one.life], one)
	}
	for _, life := range lives {
		all := byLife[life]
		late := slices.DeleteFunc(slices.Clone(all), func(one sample) bool { return one.age < s.life/2 })
		if len(late) == 0 {
			continue
		}
		p := plateau{life: life, at: late[len(late)/2].at, sample: late[len(late)-1]}
		p.resident = middle(late, func(one sample) int64 { return one.resident })
		p.sample.goroutines = middle(late, func(one sample) int64 { return one.goroutines })
		p.sample.files = middle(late, func(one sample) int64 { return one.files })
		for _, one := range all {
			p.most = max(p.most, one.resident)
		}
		list = append(list, p)
	}
	return list
}

func middle[T any](list []T, of func(T) int64) int64 {
	v := make([]int64, len(list))
	for i, one := range list {
		v[i] = of(one)
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// tell prints the plateaus and the lines through them.
func (s *samples) tell(out io.Writer) {
	list := s.plateaus()
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "process\tat\tresident MB\tat most\tgoroutines*\topen files*\tdatabase MB\tdevices so far\t")
	for _, p := range list {
		fmt.Fprintf(w, "%d\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t\n", p.life, p.at.Round(time.Second), p.resident>>20, p.most>>20,
			p.sample.goroutines, p.sample.files, p.sample.database>>20, p.sample.days)
	}
	_ = w.Flush()
	fmt.Fprintln(out, "* beside one for each connection")
	if f := s.flatness(list); f != nil {
		fmt.Fprintln(out, f)
	}
}

// flatness compares the last processes with the first ones, at like age.
type flatness struct {
	first, last         plateau // medians
	across, within      float64 // MB an hour
	memory, idle, files bool    // not flat
}

// fewLives is how many processes it takes to say something of memory: of the
// first one the caches of a small database are not full.
const fewLives = 6

// flatness is nil if there were too few processes.
func (s *samples) flatness(list []plateau) *flatness {
	if len(list) < fewLives {
		return nil
	}
	third := len(list) / 3
	f := &flatness{first: typical(list[:third]), last: typical(list[len(list)-third:])}
	f.across = slope(list, func(p plateau) (int, time.Duration, int64) { return 0, p.at, p.resident })
	late := slices.DeleteFunc(slices.Clone(s.list), func(one sample) bool { return one.age < s.life/2 })
	f.within = slope(late, func(one sample) (int, time.Duration, int64) { return one.life, one.at, one.resident })
	f.memory = grew(f.first.resident, f.last.resident, 10<<20)
	f.idle = grew(f.first.sample.goroutines, f.last.sample.goroutines, 20)
	f.files = grew(f.first.sample.files, f.last.sample.files, 20)
	return f
}

// grew leaves a quarter, or slack, to chance.
func grew(first, last, slack int64) bool { return last > first+max(first/4, slack) }

func typical(list []plateau) (p plateau) {
	p.resident = middle(list, func(p plateau) int64 { return p.resident })
	p.sample.goroutines = middle(list, func(p plateau) int64 { return p.sample.goroutines })
	p.sample.files = middle(list, func(p plateau) int64 { return p.sample.files })
	return p
}

// slope is that of the line through memory over time (least squares), each
// group moved to its own mean, in MB an hour.
func slope[T any](list []T, of func(T) (group int, at time.Duration, bytes int64)) float64 {
	type mean struct{ n, x, y float64 }
	means := map[int]mean{}
	for _, one := range list {
		g, at, bytes := of(one)
		m := means[g]
		means[g] = mean{m.n + 1, m.x + at.Hours(), m.y + float64(bytes)/(1<<20)}
	}
	var xy, xx float64
	for _, one := range list {
		g, at, bytes := of(one)
		m := means[g]
		dx, dy := at.Hours()-m.x/m.n, float64(bytes)/(1<<20)-m.y/m.n
		xy, xx = xy+dx*dy, xx+dx*dx
	}
	if xx == 0 {
		return 0
	}
	return xy / xx
}

func (f *flatness) String() string {
	return fmt.Sprintf("first third of the processes: %d MB, %d goroutines, %d files; last third: %d MB, %d goroutines, %d files\n"+
		"memory from process to process: %+.1f MB an hour; within a process, in the second half of its life: %+.1f MB an hour",
		f.first.resident>>20, f.first.sample.goroutines, f.first.sample.files,
		f.last.resident>>20, f.last.sample.goroutines, f.last.sample.files, f.across, f.within)
}

// mostResident is what a server may take (bytes).
const mostResident = 200 << 20

// err is what grew.
func (s *samples) err() error {
	list := s.plateaus()
	var errs []error
	for _, p := range list {
		if p.most > mostResident {
			errs = append(errs, fmt.Errorf("process %d took %d MB of memory: at most %d were wanted", p.life, p.most>>20, mostResident>>20))
		}
	}
	f := s.flatness(list)
	if f == nil {
		return errors.Join(errs...)
	}
	for _, x := range []struct {
		grew bool
		what string
	}{{f.memory, "memory"}, {f.idle, "the number of goroutines"}, {f.files, "the number of open files"}} {
		if x.grew {
			errs = append(errs, fmt.Errorf("%s grew from process to process: %s", x.what, f))
		}
	}
	return errors.Join(errs...)
}
