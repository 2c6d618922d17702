package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/vetting"
)

func checkText(text string, rules Rules) (int64, int, error) {
	opened := 0
	n, err := Check(func() (io.ReadCloser, error) {
		opened++
		return io.NopCloser(strings.NewReader(text)), nil
	}, vetting.FormatJSONLines, rules)
	return n, opened, err
}

func TestDuplicatesAreListedWithBothLines(t *testing.T) {
	key := strings.Repeat("ab", 32)
	text := `{"serial":"A-1","mac":"00:11:22:33:44:55","uid":"FF","bootstrapKey":"` + key + `"}
{"serial":"A-2","mac":"00:11:22:33:44:66"}

{"serial":"A-1"}
broken
{"serial":"A-3","mac":"0011.2233.4455"}
{"serial":"A-4","uid":"ff"}
{"serial":"A-5","bootstrapKey":"` + strings.ToUpper(key) + `"}
{"serial":"A-1","uid":"f:f"}
{"serial":"a-1","uid":"00:11:22:33:44:55"}
`
	_, opened, err := checkText(text, Rules{})
	match(t, findings(t, err), []string{
		`4: serial "A-1" is on line 1`, "5: not a JSON value", `6: mac "00:11:22:33:44:55" is on line 1`,
		`7: uid "ff" is on line 1`, "8: bootstrap key " + key + " is on line 1", `9: serial "A-1" is on line 1`, `9: uid "ff" is on line 1`,
	})
	if opened != 2 {
		t.Errorf("the file was read %d times", opened)
	}
}

func TestAFileWithoutDuplicatesIsReadOnce(t *testing.T) {
	n, opened, err := checkText(string(file(1000)), Rules{})
	if n != 1000 || opened != 1 || err != nil {
		t.Fatalf("%d records, read %d times, %v", n, opened, err)
	}
}

func TestACollisionAccusesNobody(t *testing.T) {
	c := newCensus()
	one, two := vetting.Record{Identity: vetting.Identity{Serial: "A-1"}}, vetting.Record{Identity: vetting.Identity{Serial: "A-2"}}
	c.add(&one)
	c.add(&two)
	// Make every hash of the first pass look as if it had occurred twice.
	for b := range c.hashes[0] {
		c.hashes[0][b] = append(c.hashes[0][b], c.hashes[0][b]...)
	}
	s := c.suspects()
	if s.none() {
		t.Fatal("no suspects")
	}
	var errs LineErrors
	in := bytes.NewReader([]byte("{\"serial\":\"A-1\"}\n{\"serial\":\"A-2\"}\n"))
	if err := c.confirm(in, vetting.FormatJSONLines, s, &errs); err != nil || errs.Total != 0 {
		t.Fatalf("%v, %v", err, &errs)
	}
}

func TestManyDuplicatesAreBoundedAndCounted(t *testing.T) {
	n := MaxListed + 100
	var b strings.Builder
	for range 2 {
		for i := range n {
			fmt.Fprintf(&b, "{\"serial\":\"%d\"}\n", i)
		}
	}
	_, _, err := checkText(b.String(), Rules{})
	var le *LineErrors
	if !errors.As(err, &le) || le.Total != int64(n) || len(le.List) != MaxListed {
		t.Fatalf("%v", err)
	}
	for _, l := range le.List {
		if l.Line <= int64(n) {
			t.Fatalf("line %d is the first of its serial: %s", l.Line, l.Text)
		}
	}
}
