package main

import (
	"bufio"
	"cmp"
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
	"github.com/touchmark/touchmark/vetting/scan"
)

func (a *app) rigRun() *cobra.Command {
	s := &session{app: a, started: time.Now()}
	c := &cobra.Command{
		Use: "run", Short: "Work through a shift: scan, see the verdict, pass or fail", Args: cobra.NoArgs,
		Long: `run reads a line at a time, from a barcode scanner, a keyboard or a pipe. A serial number registers that unit and shows the verdict. What is
said next is about that unit, until another is scanned. The label of an enrolment code belongs to the unit in front of the rig too, so scan
the unit first; the code is not shown again.

  pass [NOTE]            it passed its test; if it is not admitted yet, it is registered again
  fail NOTE              it failed its test, and why
  replace SERIAL NOTE    it failed too late: the unit SERIAL takes its place, and is registered
  code CODE              register it with the enrolment code that is printed on its label
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
	tally   sessionTally

	unit     api.Unit // in front of the rig; its serial number is good as a file's name
	code     string   // on its enrolment label; never shown
	admitted bool
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
		fmt.Fprintf(s.out, "\n%s> ", s.unit.Serial)
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
	case "code":
		return s.enrolBy(ctx, rest)
	case "again":
		if s.unit.Serial == "" {
			return errNoUnit
		}
		return s.register(ctx)
	}
	label, err := scan.Parse(line)
	switch {
	case errors.Is(err, scan.ErrEnrolmentCode):
		return s.enrolBy(ctx, line)
	case err != nil:
		return fmt.Errorf("that is neither a unit nor one of pass, fail, replace, code, again, quit: %w", err)
	}
	return s.scan(ctx, label)
}

var errNoUnit = errors.New("no unit was scanned yet: scan its serial number first")

func (s *session) scan(ctx context.Context, l scan.Label) error {
	if l.Serial == "" {
		return errors.New("the label has no serial number, by which the unit's request is found: scan the one that has it")
	}
	if err := s.ours(l.Product); err != nil {
		return err
	}
	s.unit = api.Unit{Product: cmp.Or(s.product, l.Product), Serial: l.Serial, MAC: l.MAC, UID: l.UID}
	s.code, s.admitted = "", false
	s.tally.Units++
	return s.register(ctx)
}

// enrolBy registers a unit with the code on its enrolment label: the one
// that the label is for, or else the one in front of the rig.
func (s *session) enrolBy(ctx context.Context, label string) error {
	e, err := scan.ParseEnrolment(label)
	if err != nil {
		return err
	}
	if err := s.ours(e.Product); err != nil {
		return err
	}
	switch {
	case e.Serial != "" && e.Serial != s.unit.Serial:
		s.unit, s.admitted = api.Unit{Serial: e.Serial}, false
		s.tally.Units++
	case s.unit.Serial == "":
		return errNoUnit
	case e.Serial == "" && s.admitted:
		return errors.New("this unit is admitted and needs no code: scan the next unit before its label")
	}
	s.unit.Product = cmp.Or(s.product, s.unit.Product, e.Product)
	s.code = e.Code.Label()
	return s.register(ctx)
}

// ours refuses the label of another product than the rig is told to expect.
func (s *session) ours(product string) error {
	if s.product != "" && product != "" && product != s.product {
		return fmt.Errorf("the label is for the product %s, but these should be %s", product, s.product)
	}
	return nil
}

func (s *session) register(ctx context.Context) error {
	csr, err := s.request(ctx)
	if err != nil {
		return fmt.Errorf("the request of unit %s: %w", s.unit.Serial, err)
	}
	in := api.RegistrationInput{Unit: s.unit, CSR: csr, Code: s.code}
	_, res, err := register(ctx, s.client, in, 0)
	if err != nil {
		return err
	}
	*s.counter(res.Verdict)++
	s.admitted = res.Verdict == vetting.Admitted
	var failed error
	if s.admitted && s.outDir != "" {
		failed = os.WriteFile(filepath.Join(s.outDir, s.unit.Serial+".crt"), []byte(res.Certificate), 0o644)
	}
	s.tell(sessionEvent{Unit: s.unit.Serial, Verdict: res}, func(w io.Writer) {
		s.banner(w, string(res.Verdict))
		for _, r := range res.Reasons {
			fmt.Fprintln(w, text(r.Text))
		}
	})
	if failed != nil {
		return fmt.Errorf("unit %s is admitted, but its certificate could not be written; mend that and say again: %w", s.unit.Serial, failed)
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
		return s.readText(filepath.Join(s.csrDir, s.unit.Serial+".csr"))
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", s.csrCommand)
	cmd.Env = append(os.Environ(), "TOUCHMARK_SERIAL="+s.unit.Serial)
	cmd.Stderr = s.err
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", s.csrCommand, err)
	}
	return string(out), nil
}

func (s *session) tested(ctx context.Context, passed bool, note string) error {
	if s.unit.Serial == "" {
		return errNoUnit
	}
	in := api.TestResultInput{Unit: s.unit, Passed: passed, Station: s.station, Note: note}
	res := new(api.TestResultAnswer)
	if err := s.client.api(ctx, http.MethodPost, "/test-results", in, res); err != nil {
		return err
	}
	word, counter := "failed", &s.tally.Failed
	if passed {
		word, counter = "passed", &s.tally.Passed
	}
	*counter++
	s.tell(sessionEvent{Unit: s.unit.Serial, Test: res}, func(w io.Writer) {
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
	if s.unit.Serial == "" {
		return errNoUnit
	}
	word, note, _ := strings.Cut(rest, " ")
	by, err := scan.Parse(word)
	if note = strings.TrimSpace(note); err != nil || by.Serial == "" || note == "" {
		return errors.New("say which unit takes its place, and why: replace SERIAL NOTE")
	}
	in := api.ReplacementInput{Unit: s.unit, By: api.Unit{Product: s.unit.Product, Serial: by.Serial, MAC: by.MAC, UID: by.UID}, Note: note}
	res := new(api.Replacement)
	if err := s.client.api(ctx, http.MethodPost, "/replacements", in, res); err != nil {
		return err
	}
	s.tally.Replaced++
	s.tell(sessionEvent{Unit: s.unit.Serial, Replacement: res}, func(w io.Writer) {
		s.banner(w, "replaced by "+by.Serial)
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
	s.tell(sessionEvent{Unit: s.unit.Serial, Error: err.Error()}, func(w io.Writer) {
		s.banner(w, "error")
		fmt.Fprintln(w, text(err.Error()))
	})
}

// colours of verdicts on a terminal: green, yellow, red behind black.
var colours = map[string]string{"admitted": "42", "passed": "42", "held": "43", "refused": "41", "failed": "41", "error": "41"}

// banner says a word about the unit, to be read from two steps away.
func (s *session) banner(w io.Writer, word string) {
	title := fmt.Sprintf("  %s  %s  ", strings.ToUpper(word), s.unit.Serial)
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
