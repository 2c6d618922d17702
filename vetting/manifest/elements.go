package manifest

import (
	"bufio"
	"errors"
	"io"
)

// elements reads the objects of a JSON array one after the other, without
// keeping more than one.
type elements struct {
	r     *bufio.Reader
	line  int64
	begun bool
}

func newElements(r io.Reader) *elements { return &elements{r: bufio.NewReaderSize(r, 64<<10), line: 1} }

// next returns the text of the next object and the line it begins on; it is
// valid until the next call. io.EOF says that the array ended.
func (e *elements) next() (text []byte, line int64, err error) {
	c, err := e.skip()
	switch {
	case err != nil:
		return nil, e.line, e.broken(err)
	case !e.begun && c != '[':
		return nil, e.line, &badFile{[]string{"the file is no JSON array"}}
	case !e.begun:
		c, err = e.skip()
	case c == ',':
		if c, err = e.skip(); c == ']' {
			return nil, e.line, &badFile{[]string{"the array ends with a comma"}}
		}
	case c != ']':
		return nil, e.line, &badFile{[]string{"there is no comma between two elements"}}
	}
	e.begun = true
	switch {
	case err != nil:
		return nil, e.line, e.broken(err)
	case c == ']':
		return nil, e.line, e.end()
	case c != '{':
		return nil, e.line, &badFile{[]string{"an element of the array is no object"}}
	}
	line = e.line
	text, err = e.object()
	return text, line, err
}

// skip returns the next byte that is no white space.
func (e *elements) skip() (byte, error) {
	for {
		c, err := e.r.ReadByte()
		if err != nil {
			return 0, err
		}
		switch c {
		case '\n':
			e.line++
		case ' ', '\t', '\r':
		default:
			return c, nil
		}
	}
}

// object reads from after an opening brace to the one that closes it. One that
// is too long or too deep is skipped.
func (e *elements) object() ([]byte, error) {
	text := []byte{'{'}
	depth, deepest, inString, escaped := 1, 1, false, false
	for depth > 0 {
		c, err := e.r.ReadByte()
		if err != nil {
			return nil, e.broken(err)
		}
		if len(text) <= MaxLine {
			text = append(text, c)
		}
		switch {
		case c == '\n':
			e.line++
		case escaped:
			escaped = false
		case inString:
			escaped, inString = c == '\\', c != '"'
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	switch {
	case len(text) > MaxLine:
		return nil, bad("the element is longer than %d bytes", MaxLine)
	case deepest > MaxDepth:
		return nil, bad("the element is nested more than %d deep", MaxDepth)
	}
	return text, nil
}

// end wants nothing after the array.
func (e *elements) end() error {
	_, err := e.skip()
	if err == nil {
		return &badFile{[]string{"something follows the array"}}
	}
	return err
}

// broken tells a file that ends too early from one that cannot be read.
func (e *elements) broken(err error) error {
	if errors.Is(err, io.EOF) {
		return &badFile{[]string{"the file ends within the array"}}
	}
	return err
}
