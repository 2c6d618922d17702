package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// csvSource reads CSV (RFC 4180). It is stricter and more sparing than
// encoding/csv, which keeps an unclosed quotation of any length in memory.
type csvSource struct {
	lines   *lineReader
	columns []string // of the header; nil before it was read
	buf     []byte
}

func (s *csvSource) next(w *row) (int64, error) {
	if s.columns == nil {
		if line, err := s.header(); err != nil {
			return line, err
		}
	}
	b, line, err := s.record()
	if err != nil {
		return line, err
	}
	fields, err := splitCSV(b)
	if err != nil {
		return line, err
	}
	if len(fields) != len(s.columns) {
		return line, bad("the record has %d fields, the header %d", len(fields), len(s.columns))
	}
	for i, f := range fields {
		if err := w.set(s.columns[i], f); err != nil {
			return line, err
		}
	}
	return line, nil
}

// header reads the column names. Without them no line means anything, so
// every defect is one of the file.
func (s *csvSource) header() (int64, error) {
	b, line, err := s.record()
	var fields []string
	if err == nil {
		fields, err = splitCSV(b)
	}
	var broken *badLine
	if errors.As(err, &broken) {
		return line, &badFile{[]string{"the header cannot be read: " + broken.text}}
	} else if err != nil {
		return line, err
	}
	var findings []string
	for i, name := range fields {
		if column(name) < 0 {
			findings = append(findings, fmt.Sprintf("the header: %v", unknown(name)))
		} else if slices.Contains(fields[:i], name) {
			findings = append(findings, fmt.Sprintf("the header names %q twice", name))
		}
	}
	if len(findings) == 0 && !slices.Contains(fields, "serial") {
		findings = []string{`the header does not name the column "serial"`}
	}
	if len(findings) > 0 {
		return line, &badFile{findings}
	}
	s.columns = fields
	return line, nil
}

// record returns the next record, which goes on over line ends as long as a
// quotation is open, and the line it begins on.
func (s *csvSource) record() ([]byte, int64, error) {
	b, err := s.lines.next()
	for err == nil && blank(b) {
		b, err = s.lines.next()
	}
	first := s.lines.line
	if err != nil || bytes.Count(b, quote)%2 == 0 {
		return b, first, err
	}
	s.buf = append(s.buf[:0], b...)
	for {
		b, err := s.lines.next()
		if errors.Is(err, io.EOF) {
			return nil, first, bad("a quotation that begins here is not closed before the end of the file")
		}
		if err != nil {
			return nil, first, err
		}
		if len(s.buf)+1+len(b) > MaxLine {
			return nil, first, bad("a quotation that begins here is not closed within %d bytes (up to line %d)", MaxLine, s.lines.line)
		}
		s.buf = append(append(s.buf, '\n'), b...)
		if bytes.Count(b, quote)%2 != 0 {
			return s.buf, first, nil
		}
	}
}

var quote = []byte{'"'}

// splitCSV splits one record into its fields (RFC 4180 §2).
func splitCSV(b []byte) (fields []string, err error) {
	rest := string(b)
	for {
		var field string
		if strings.HasPrefix(rest, `"`) {
			if field, rest, err = quoted(rest[1:]); err != nil {
				return nil, err
			}
		} else {
			end := strings.IndexByte(rest, ',')
			if end < 0 {
				end = len(rest)
			}
			field, rest = rest[:end], rest[end:]
			if strings.Contains(field, `"`) {
				return nil, bad("field %d holds a quotation mark but does not begin with one: enclose it in quotation marks and double those inside (RFC 4180 §2)", len(fields)+1)
			}
		}
		fields = append(fields, field)
		switch {
		case rest == "":
			return fields, nil
		case rest[0] != ',':
			return nil, bad("field %d goes on after its closing quotation mark (RFC 4180 §2)", len(fields))
		}
		rest = rest[1:]
	}
}

// quoted reads a field up to its closing quotation mark.
func quoted(s string) (field, rest string, err error) {
	var b strings.Builder
	for {
		end := strings.IndexByte(s, '"')
		if end < 0 {
			return "", "", bad("a quotation is not closed")
		}
		b.WriteString(s[:end])
		if s = s[end+1:]; !strings.HasPrefix(s, `"`) {
			return b.String(), s, nil
		}
		b.WriteByte('"')
		s = s[1:]
	}
}
