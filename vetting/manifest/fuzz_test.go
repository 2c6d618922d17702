package manifest

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/touchmark/touchmark/vetting"
)

// checkReading holds a reader to its promises on any bytes: places grow, good
// records are normalized, errors are listed in order and name lines of the
// file, and what was read can be written and read again.
func checkReading(t *testing.T, data []byte, format vetting.ManifestFormat) []vetting.Record {
	t.Helper()
	var records []vetting.Record
	var row, line int64
	lines := int64(bytes.Count(data, []byte("\n"))) + 1
	var b bytes.Buffer
	w := NewWriter(&b)
	err := Read(bytes.NewReader(data), format, Rules{}, func(r, l int64, rec vetting.Record) error {
		if r <= row || l <= line || l > lines {
			t.Fatalf("row %d on line %d after row %d on line %d, of %d lines", r, l, row, line, lines)
		}
		row, line = r, l
		again := rec
		if err := again.Check(); err != nil || !reflect.DeepEqual(again, rec) || rec.Serial == "" {
			t.Fatalf("record %+v is not normal: %v", rec, err)
		}
		records = append(records, rec)
		return w.Write(rec)
	})
	var le *LineErrors
	switch {
	case errors.As(err, &le):
		if !slices.IsSortedFunc(le.List, func(a, b LineError) int { return int(a.Line - b.Line) }) {
			t.Fatal("the list is not in order")
		}
		for _, l := range le.List {
			if l.Line < 1 || l.Line > lines || l.Text == "" || len(l.Text) > maxText+len("…") || !utf8.ValidString(l.Text) {
				t.Fatalf("finding %+v", l)
			}
		}
	case err != nil:
		t.Fatalf("not a finding: %v", err)
	case len(records) == 0:
		t.Fatal("no record and no error")
	}
	var again []vetting.Record
	if len(records) > 0 {
		if err := Read(&b, vetting.FormatJSONLines, Rules{}, func(_, _ int64, rec vetting.Record) error {
			again = append(again, rec)
			return nil
		}); err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if !reflect.DeepEqual(again, records) {
			t.Fatalf("read %+v, read again %+v", records, again)
		}
	}
	return records
}

func FuzzReadJSONLines(f *testing.F) {
	f.Add(file(3))
	f.Add([]byte(`{"serial":"A-1","mac":"00-11-22-33-44-55","uid":"FF","tests":{"a":[1,2]},"time":"2026-11-21T00:00:00Z"}` + "\r\n\n{\"serial\":17}\nx"))
	f.Add([]byte("\xEF\xBB\xBF{\"serial\":\"\\u0041\"}"))
	f.Add([]byte(`{"serial":"A","tests":[[[[[["` + "\xff" + `"]]]]]]}`))
	f.Fuzz(func(t *testing.T, data []byte) { checkReading(t, data, vetting.FormatJSONLines) })
}

// FuzzPlainObject: what the quick reader takes, it takes as the thorough one
// does; and it takes what this package writes.
func FuzzPlainObject(f *testing.F) {
	for _, line := range []string{
		`{"serial":"A-1","mac":"00-11-22-33-44-55","tests":{"a":[1,2,"}\"]"]},"time":"2026-11-21T00:00:00Z"}`,
		` { "serial" : "Ä" , "tests" : [ ] } `, `{"serial":"A","serial":"B"}`, `{"serial":"A"}}`, `{"serial":"A",}`, `{"serial":"\u0041"}`,
		`{"tests":{"a":1}x}`, `{"tests":{"a":]}`, `{"tests":"a"}`, `{"tests":17}`, `{"serial":17}`, `{}`, `{"":""}`, `{"Serial":"A"}`,
		`{"tests":` + strings.Repeat("[", MaxDepth-1) + strings.Repeat("]", MaxDepth-1) + `}`,
		`{"tests":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + `}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if !utf8.Valid(line) {
			return // the reader of lines refuses it
		}
		var quick, thorough row
		if plainObject(line, &quick) {
			if err := parseObject(line, &thorough); err != nil || quick != thorough {
				t.Fatalf("%q gives %+v, but thoroughly %+v, %v", line, quick, thorough, err)
			}
		}
		var b bytes.Buffer
		rec := vetting.Record{Identity: vetting.Identity{Serial: "A-1", MAC: "00:11:22:33:44:55"}}
		rec.Made.Tests = line
		if json.Valid(line) && (line[0] == '{' || line[0] == '[') && checkJSON(line) == nil && NewWriter(&b).Write(rec) == nil {
			if quick = (row{}); !plainObject(b.Bytes(), &quick) && strings.Count(b.String(), "[")+strings.Count(b.String(), "{") < MaxDepth {
				t.Fatalf("%s is not taken", b.String())
			}
		}
	})
}

func FuzzReadCSV(f *testing.F) {
	f.Add([]byte("serial,mac,tests\nA-1,001122334455,\"{\"\"a\"\":1}\"\n\"A-2\",,\n"))
	f.Add([]byte("serial,line\r\nA-1,\"x\r\ny\"\r\n\r\nA-2,\"a\"b\n"))
	f.Add([]byte("serial,seriel\n\""))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkReading(t, data, vetting.FormatCSV)
		// What encoding/csv understands is split the same way here.
		if !utf8.Valid(data) || bytes.ContainsAny(data, "\r\x00") || bytes.HasPrefix(data, byteOrderMark) || len(data) > MaxLine {
			return
		}
		theirs, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
		if err != nil {
			return
		}
		s := &csvSource{lines: newLineReader(bytes.NewReader(data))}
		var ours [][]string
		for {
			b, _, err := s.record()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			fields, err := splitCSV(b)
			if err != nil {
				t.Fatalf("%q: %v", b, err)
			}
			ours = append(ours, fields)
		}
		theirs = slices.DeleteFunc(theirs, func(r []string) bool { return strings.TrimSpace(strings.Join(r, "")) == "" && len(r) == 1 })
		ours = slices.DeleteFunc(ours, func(r []string) bool { return strings.TrimSpace(strings.Join(r, "")) == "" && len(r) == 1 })
		if len(ours)+len(theirs) > 0 && !reflect.DeepEqual(ours, theirs) {
			t.Fatalf("split as %q, encoding/csv splits as %q", ours, theirs)
		}
	})
}

// FuzzCensus: any two equal identifiers are found, and no others.
func FuzzCensus(f *testing.F) {
	f.Add([]byte{1, 2, 3, 2, 250, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var b bytes.Buffer
		count := map[byte]int{}
		var extra int64
		for _, c := range data {
			b.WriteString(`{"serial":"S` + string('A'+rune(c%16)) + string('A'+rune(c/16)) + "\"}\n")
			if count[c]++; count[c] > 1 {
				extra++
			}
		}
		_, err := Check(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, vetting.FormatJSONLines, Rules{})
		var le *LineErrors
		switch {
		case len(data) == 0:
		case extra == 0 && err != nil:
			t.Fatal(err)
		case extra > 0 && (!errors.As(err, &le) || le.Total != extra):
			t.Fatalf("%v, want %d findings", err, extra)
		}
	})
}
