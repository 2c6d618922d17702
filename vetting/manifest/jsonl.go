package manifest

import (
	"bytes"
	"encoding/json"
)

// jsonSource reads JSON Lines.
type jsonSource struct{ lines *lineReader }

func (s *jsonSource) next(w *row) (int64, error) {
	for {
		b, err := s.lines.next()
		if err != nil {
			return s.lines.line, err
		}
		if blank(b) {
			continue
		}
		if plainObject(b, w) {
			return s.lines.line, nil
		}
		*w = row{}
		return s.lines.line, parseObject(b, w)
	}
}

// parseObject reads one JSON object. Unlike json.Unmarshal it takes names
// exactly as they are written and refuses repeated ones: what was signed must
// have one meaning.
func parseObject(b []byte, w *row) error {
	if err := checkJSON(b); err != nil {
		return bad("not a JSON value: %v", err)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return bad("not a JSON object: each line must be one {…}")
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return bad("not a JSON object: %v", err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return bad("not a JSON object: %v", err)
		}
		if err := setJSON(w, t.(string), value); err != nil {
			return err
		}
	}
	return nil
}

func setJSON(w *row, name string, value json.RawMessage) error {
	if name == "tests" {
		return w.set(name, string(value))
	}
	var s string
	if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &s) != nil {
		if column(name) < 0 {
			return w.set(name, "") // which says that there is no such field
		}
		return bad("%s must be a JSON string, not %s", name, value)
	}
	return w.set(name, s)
}

// checkJSON checks one JSON value and its depth, which bounds the parser's
// recursion.
func checkJSON(b []byte) error {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return bad("it is nested more than %d deep", MaxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	var value json.RawMessage
	return json.Unmarshal(b, &value)
}
