package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// bar is a line on a terminal that tells how far something is. On anything
// but a terminal it writes nothing.
type bar struct {
	w     io.Writer
	live  bool
	what  string
	last  time.Time
	width int
}

func (a *app) bar(what string) *bar { return &bar{w: a.err, live: terminal(a.err), what: what} }

// barEvery limits how often the line is written anew.
const barEvery = 100 * time.Millisecond

// set tells how far it is; a total of 0 is unknown.
func (b *bar) set(done, total int64) {
	now := time.Now()
	if !b.live || now.Sub(b.last) < barEvery && done < total {
		return
	}
	b.last = now
	line := fmt.Sprintf("%s  %s", b.what, count(done))
	if total > 0 {
		const cells = 30
		full := int(min(done, total) * cells / total)
		line = fmt.Sprintf("%s  [%s%s] %3d %%  %s of %s", b.what, strings.Repeat("#", full), strings.Repeat(".", cells-full),
			min(done, total)*100/total, count(done), count(total))
	}
	b.write(line)
}

func (b *bar) write(line string) {
	n := len([]rune(line))
	fmt.Fprintf(b.w, "\r%s%s", line, strings.Repeat(" ", max(0, b.width-n)))
	b.width = n
}

// done wipes the line.
func (b *bar) done() {
	if b.live && b.width > 0 {
		b.write("")
		fmt.Fprint(b.w, "\r")
	}
	b.width = 0
}

// count writes a number with thousands apart.
func count(n int64) string {
	s := fmt.Sprint(n)
	var b strings.Builder
	for i, r := range s {
		if i > 0 && (len(s)-i)%3 == 0 && r != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// counted is a number with what it counts.
func counted(n int64, one, many string) string {
	if n == 1 {
		many = one
	}
	return count(n) + " " + many
}

// countedReader tells a bar how much was read.
type countedReader struct {
	io.ReadCloser
	bar         *bar
	done, total int64
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.done += int64(n)
	r.bar.set(r.done, r.total)
	return n, err
}
