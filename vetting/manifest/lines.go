package manifest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

var byteOrderMark = []byte("\xEF\xBB\xBF")

// lineReader reads lines of bounded length.
type lineReader struct {
	r    *bufio.Reader
	line int64 // number of the line read last, from 1
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, MaxLine+2)} // the line and CR LF
}

// badLine is a line that cannot be used, as opposed to a failure to read.
type badLine struct{ text string }

func (e *badLine) Error() string { return e.text }

func bad(format string, args ...any) error { return &badLine{fmt.Sprintf(format, args...)} }

// next returns the next line without its end; it is valid until the next
// call. A *badLine says that the line was skipped, io.EOF that there is none.
func (l *lineReader) next() ([]byte, error) {
	b, err := l.r.ReadSlice('\n')
	if len(b) == 0 && err != nil {
		return nil, err
	}
	l.line++
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, l.skip()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if l.line == 1 {
		b = bytes.TrimPrefix(b, byteOrderMark)
	}
	return l.checked(b)
}

func (l *lineReader) checked(b []byte) ([]byte, error) {
	switch {
	case len(b) > MaxLine:
		return nil, tooLong()
	case l.line == 1 && (bytes.HasPrefix(b, []byte("\xFF\xFE")) || bytes.HasPrefix(b, []byte("\xFE\xFF"))):
		return nil, bad("the file is UTF-16: save it as UTF-8")
	case !utf8.Valid(b):
		return nil, bad("the line is not UTF-8")
	case bytes.IndexByte(b, 0) >= 0:
		return nil, bad("the line holds a NUL byte")
	}
	return b, nil
}

// skip reads past the end of a line that is too long.
func (l *lineReader) skip() error {
	for {
		switch _, err := l.r.ReadSlice('\n'); {
		case errors.Is(err, bufio.ErrBufferFull):
		case err == nil || errors.Is(err, io.EOF):
			return tooLong()
		default:
			return err
		}
	}
}

func tooLong() error { return bad("the line is longer than %d bytes", MaxLine) }
