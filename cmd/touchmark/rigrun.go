package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) rigRun() *cobra.Command {
	s := &session{app: a, started: time.Now()}
	c := &cobra.Command{
		Use: "run", Short: "Work through a shift: scan, see the verdict, pass or fail", Args: cobra.NoArgs,
		Long: `run reads a line at a time, from a barcode scanner, a keyboard or a pipe. A serial number registers that unit and shows the verdict. What is
said next is about that unit, until another is scanned:

  pass [NOTE]            it passed its test; if it is not admitted yet, it is registered again
  fail NOTE              it failed its test, and why
  replace SERIAL NOTE    it failed too late: the unit SERIAL takes its place, and is registered
  again                  register it again, after something was mended
  quit                   end; so does the end of the input

A serial number that is one of these words is written serial:pass. The unit's PKCS#10 request is the file SERIAL.csr in --csr-dir, or what
--csr-command writes, a shell command that finds the serial number in TOUCHMARK_SERIAL. A certificate is written to SERIAL.crt in --out-dir.

With --json each line's answer is one line of JSON. The exit status is 0 if everything that was said could be carried out, whatever
the verdicts, and 1 if something could not.`,
		Example: "  touchmark --dir rig-7 rig run --csr-dir requests --out-dir certificates --station FCT-2",
	}
	f := c.Flags()
	f.StringVar(&s.csrDir, "csr-dir", "", "the `directory` with the units' requests, SERIAL.csr")
	f.StringVar(&s.csrCommand, "csr-command", "", "a shell `command` that writes the request of the unit TOUCHMARK_SERIAL in PEM or base64")
	f.StringVar(&s.outDir, "out-dir", "", "the `directory` for the units' certificates, SERIAL.crt; without it none are written")
	f.StringVar(&s.product, "product", "", "what the units should be; needed if products share serial numbers")
	f.StringVar(&s.station, "station", "", "where the units are tested")
	c.MarkFlagsOneRequired("csr-dir", "csr-command")
	c.MarkFlagsMutuallyExclusive("csr-dir", "csr-command")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if s.client, err = a.client(); err != nil {
			return err
		}
		return s.run(cmd.Context())
	}
	return a.jsonFlag(c)
}

// session is a technician's shift at a rig.
type session struct {
	*app
	client                     *client
	csrDir, csrCommand, outDir string
	product, station           string

	started time.Time
	unit    string // the serial number of the unit in front of the rig
	tally   sessionTally
}

// sessionTally counts what was said and answered. A unit that was held and
// then admitted counts as both.
type sessionTally struct {
	Units    int `json:"units"`
	Admitted int `json:"admitted"`
	Held     int `json:"held"`
	Refused  int `json:"refused"`
	Passed   int `json:"passed"`
	Failed   int `json:"failed"`
	Replaced int `json:"replaced"`
	Errors   int `json:"errors"`
}

// sessionEvent is the answer to one line, as JSON.
type sessionEvent struct {
	Unit        string                  `json:"unit,omitempty"`
	Verdict     *api.RegistrationResult `json:"registration,omitempty"`
	Test        *api.TestResultAnswer   `json:"test,omitempty"`
	Replacement *api.Replacement        `json:"replacement,omitempty"`
	Error       string                  `json:"error,omitempty"`
	Summary     *sessionTally           `json:"summary,omitempty"`
}

// maxLine bounds a line of input, in bytes.
const maxLine = 4 << 10

func (s *session) run(ctx context.Context) error {
	lines := bufio.NewScanner(s.in)
	lines.Buffer(nil, maxLine)
	s.prompt()
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.EqualFold(line, "quit") {
			break
		}
		if line != "" {
			if err := s.obey(ctx, line); err != nil {
				s.tally.Errors++
				s.fail(err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		s.prompt()
	}
	s.summary()
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the next line: %w", err)
	}
	if s.tally.Errors > 0 {
		return errFound
	}
	return nil
}

func (s *session) prompt() {
	if terminal(s.in) && !s.json {
		fmt.Fprintf(s.out, "\n%s> ", s.unit)
	}
}

// obey carries out one line.
func (s *session) obey(ctx context.Context, line string) error {
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToLower(word) {
	case "pass":
		return s.tested(ctx, true, rest)
	case "fail":
		return s.tested(ctx, false, rest)
	case "replace":
		return s.replace(ctx, rest)
	case "again":
		if s.unit == "" {
			return errNoUnit
		}
		return s.register(ctx)
	}
	serial, ok := serialOf(line)
	if !ok {
		return fmt.Errorf("%q is neither a serial number nor one of pass, fail, replace, again, quit", line)
	}
	return s.scan(ctx, serial)
}

// serialOf reads a serial number, which then is good as a file's name, too.
func serialOf(word string) (string, bool) {
	id, err := vetting.Identity{Serial: strings.TrimPrefix(word, "serial:")}.Normalize()
	return id.Serial, err == nil && id.Serial != ""
}

var errNoUnit = errors.New("no unit was scanned yet: scan its serial number first")

func (s *session) scan(ctx context.Context, serial string) error {
	s.unit = serial
	s.tally.Units++
	return s.register(ctx)
}

func (s *session) register(ctx context.Context) error {
	csr, err := s.request(ctx)
	if err != nil {
		return fmt.Errorf("the request of unit %s: %w", s.unit, err)
	}
	in := api.RegistrationInput{Unit: api.Unit{Product: s.product, Serial: s.unit}, CSR: csr}
	_, res, err := register(ctx, s.client, in, 0)
	if err != nil {
		return err
	}
	*s.counter(res.Verdict)++
	var failed error
	if res.Verdict == vetting.Admitted && s.outDir != "" {
		failed = os.WriteFile(filepath.Join(s.outDir, s.unit+".crt"), []byte(res.Certificate), 0o644)
	}
	s.tell(sessionEvent{Unit: s.unit, Verdict: res}, func(w io.Writer) {
		s.banner(w, string(res.Verdict))
		for _, r := range res.Reasons {
			fmt.Fprintln(w, text(r.Text))
		}
	})
	if failed != nil {
		return fmt.Errorf("unit %s is admitted, but its certificate could not be written; mend that and say again: %w", s.unit, failed)
	}
	return nil
}

func (s *session) counter(v vetting.Outcome) *int {
	switch v {
	case vetting.Admitted:
		return &s.tally.Admitted
	case vetting.Held:
		return &s.tally.Held
	}
	return &s.tally.Refused
}

// request gets the unit's PKCS#10 request.
func (s *session) request(ctx context.Context) (string, error) {
	if s.csrCommand == "" {
		return s.readText(filepath.Join(s.csrDir, s.unit+".csr"))
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", s.csrCommand)
	cmd.Env = append(os.Environ(), "TOUCHMARK_SERIAL="+s.unit)
	cmd.Stderr = s.err
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.csrCommand, err)
	}
	return string(out), nil
}

func (s *session) tested(ctx context.Context, passed bool, note string) error {
	if s.unit == "" {
		return errNoUnit
	}
	in := api.TestResultInput{Unit: api.Unit{Product: s.product, Serial: s.unit}, Passed: passed, Station: s.station, Note: note}
	res := new(api.TestResultAnswer)
	if err := s.client.api(ctx, http.MethodPost, "/test-results", in, res); err != nil {
		return err
	}
	word, counter := "failed", &s.tally.Failed
	if passed {
		word, counter = "passed", &s.tally.Passed
	}
	*counter++
	s.tell(sessionEvent{Unit: s.unit, Test: res}, func(w io.Writer) {
		s.banner(w, word)
		if next := advice(res); next != "" && res.Next != api.NextRegister {
			fmt.Fprintln(w, "Next: "+next)
		}
	})
	if res.Next == api.NextRegister {
		return s.register(ctx)
	}
	return nil
}

func (s *session) replace(ctx context.Context, rest string) error {
	if s.unit == "" {
		return errNoUnit
	}
	word, note, _ := strings.Cut(rest, " ")
	by, ok := serialOf(word)
	if note = strings.TrimSpace(note); !ok || note == "" {
		return errors.New("say which unit takes its place, and why: replace SERIAL NOTE")
	}
	in := api.ReplacementInput{Unit: api.Unit{Product: s.product, Serial: s.unit}, By: api.Unit{Product: s.product, Serial: by}, Note: note}
	res := new(api.Replacement)
	if err := s.client.api(ctx, http.MethodPost, "/replacements", in, res); err != nil {
		return err
	}
	s.tally.Replaced++
	s.tell(sessionEvent{Unit: s.unit, Replacement: res}, func(w io.Writer) {
		s.banner(w, "replaced by "+by)
		fmt.Fprintln(w, "It is scrapped for good: keep it apart.")
	})
	return s.scan(ctx, by)
}

// tell answers one line.
func (s *session) tell(e sessionEvent, people func(io.Writer)) {
	if !s.json {
		people(s.out)
		return
	}
	line, err := json.Marshal(e)
	if err != nil { // cannot happen: it came as JSON
		panic(fmt.Sprintf("rig run: %v", err))
	}
	fmt.Fprintf(s.out, "%s\n", line)
}

func (s *session) fail(err error) {
	s.tell(sessionEvent{Unit: s.unit, Error: err.Error()}, func(w io.Writer) {
		s.banner(w, "error")
		fmt.Fprintln(w, text(err.Error()))
	})
}

// colours of verdicts on a terminal: green, yellow, red behind black.
var colours = map[string]string{"admitted": "42", "passed": "42", "held": "43", "refused": "41", "failed": "41", "error": "41"}

// banner says a word about the unit, to be read from two steps away.
func (s *session) banner(w io.Writer, word string) {
	title := fmt.Sprintf("  %s  %s  ", strings.ToUpper(word), s.unit)
	rule := strings.Repeat("=", max(48, len(title)))
	on, off := "", ""
	if code := colours[word]; code != "" && terminal(s.out) {
		on, off = "\x1b[30;"+code+"m", "\x1b[0m"
	}
	fmt.Fprintf(w, "%s\n%s%-*s%s\n%s\n", rule, on, len(rule), title, off, rule)
}

func (s *session) summary() {
	t := s.tally
	s.tell(sessionEvent{Summary: &t}, func(w io.Writer) {
		fmt.Fprintf(w, "\n%s scanned in %s: admitted %d, held %d, refused %d; passed %d, failed %d, replaced %d; errors %d\n",
			counted(int64(t.Units), "unit", "units"), time.Since(s.started).Round(time.Second), t.Admitted, t.Held, t.Refused, t.Passed, t.Failed, t.Replaced, t.Errors)
	})
}
