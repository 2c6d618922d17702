package manifest

import "encoding/json"

// plainObject reads a JSON object of the form that programs write: names and
// strings without backslashes, no value but strings, objects and arrays. It
// is a tenth of the work of encoding/json, which a million lines notice. It
// reports whether the line was of that form and has no fault; anything else
// is parseObject's, whose word counts.
func plainObject(b []byte, w *row) bool {
	s := plain{text: string(b)} // once: the values are parts of it
	if !s.take('{') {
		return false
	}
	for {
		name, ok := s.quoted()
		if !ok || !s.take(':') {
			return false
		}
		value, ok := s.value(name)
		if !ok || w.set(name, value) != nil {
			return false
		}
		switch {
		case s.take(','):
		case s.take('}'):
			s.space()
			return s.at == len(s.text)
		default:
			return false
		}
	}
}

// plain is a place in a line.
type plain struct {
	text string
	at   int
}

func (s *plain) space() {
	for s.at < len(s.text) && (s.text[s.at] == ' ' || s.text[s.at] == '\t' || s.text[s.at] == '\r' || s.text[s.at] == '\n') {
		s.at++
	}
}

func (s *plain) take(c byte) bool {
	s.space()
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

// quoted is a string without escapes. That it is UTF-8 was checked with the
// line.
func (s *plain) quoted() (string, bool) {
	if !s.take('"') {
		return "", false
	}
	for i := s.at; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			text := s.text[s.at:i]
			s.at = i + 1
			return text, true
		case c == '\\' || c < ' ':
			return "", false
		}
	}
	return "", false
}

// value is what stands in a field: test results as they are written, text
// for all others.
func (s *plain) value(name string) (string, bool) {
	if name != "tests" {
		return s.quoted()
	}
	s.space()
	from := s.at
	if !s.skip() {
		return "", false
	}
	value := s.text[from:s.at]
	return value, json.Valid([]byte(value))
}

// skip goes past an object or an array, to the bracket that closes it.
func (s *plain) skip() bool {
	depth := 1 // the record itself
	inString := false
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case inString && c == '\\':
			s.at++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return false
			}
		case c == '}' || c == ']':
			if depth--; depth == 1 {
				s.at++
				return true
			}
		}
		if depth == 1 { // neither an object nor an array
			return false
		}
	}
	return false
}
