// Command testgate reads what `go test -json` prints and lets a run pass
// only if every test was run: a skipped test fails it as a failed one does,
// for a test that does not run here runs nowhere. It prints each package's
// line, and of the tests only what went wrong.
//
//	go test -json ./... | testgate
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	sum, err := read(os.Stdin, os.Stdout)
	if err == nil {
		err = sum.verdict()
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", sum.passed, len(sum.failed), len(sum.skipped))
	if err != nil {
		fmt.Fprintln(os.Stderr, "testgate:", err)
		os.Exit(1)
	}
}

// event is a line of `go test -json` (see `go doc test2json`).
type event struct {
	Action, Package, Test, Output, ImportPath string
	FailedBuild                               string
}

// summary counts tests and packages; broken are packages that failed outside
// of any test.
type summary struct {
	passed                  int
	failed, skipped, broken []string
}

func read(in io.Reader, out io.Writer) (sum summary, err error) {
	pending := map[string]*strings.Builder{} // output of tests that still run
	lines := bufio.NewReaderSize(in, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			sum.line(line, pending, out)
		}
		if errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
	}
}

func (s *summary) line(line []byte, pending map[string]*strings.Builder, out io.Writer) {
	var e event
	if json.Unmarshal(line, &e) != nil {
		out.Write(line) // what go itself prints beside the stream
		return
	}
	name := e.Package + "." + e.Test
	switch {
	case e.Action == "build-output":
		io.WriteString(out, e.Output)
	case e.Test == "":
		s.pkg(e, out)
	case e.Action == "output":
		if pending[name] == nil {
			pending[name] = new(strings.Builder)
		}
		pending[name].WriteString(e.Output)
	case e.Action == "pass":
		s.passed++
		delete(pending, name)
	case e.Action == "fail" || e.Action == "skip":
		if b := pending[name]; b != nil {
			io.WriteString(out, b.String())
			delete(pending, name)
		}
		if e.Action == "fail" {
			s.failed = append(s.failed, name)
		} else {
			s.skipped = append(s.skipped, name)
		}
	}
}

// pkg handles an event of a whole package.
func (s *summary) pkg(e event, out io.Writer) {
	switch {
	case e.Action == "output" && e.Output != "PASS\n":
		io.WriteString(out, e.Output)
	case e.Action == "fail":
		s.broken = append(s.broken, e.Package)
	}
}

func (s *summary) verdict() error {
	switch {
	case len(s.failed) > 0:
		return fmt.Errorf("failed: %s", strings.Join(s.failed, ", "))
	case len(s.broken) > 0:
		return fmt.Errorf("failed packages: %s", strings.Join(s.broken, ", "))
	case len(s.skipped) > 0:
		return fmt.Errorf("skipped, where every test must run: %s", strings.Join(s.skipped, ", "))
	case s.passed == 0:
		return errors.New("no test was run")
	}
	return nil
}
