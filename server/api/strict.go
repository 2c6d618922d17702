package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// unmarshal is json.Unmarshal, but for objects that name a field twice. Go's
// decoder takes the last of them and ignores case, so of two spellings of one
// name a validator may look at the one and the program use the other.
func unmarshal(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return err
	}
	return namedOnce(data)
}

// namedOnce looks through well-formed JSON. A decoder's tokens would do as
// well, but took longer than all else that is done to a small request.
func namedOnce(data []byte) error {
	if bytes.IndexByte(data, ',') < 0 {
		return nil // no object has two fields
	}
	var open []map[string]string // of each object the names so far; nil for an array
	name := false                // whether a string that comes now is a name
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{':
			open, name = append(open, map[string]string{}), true
		case '[':
			open, name = append(open, nil), false
		case '}', ']':
			open, name = open[:len(open)-1], false
		case ',':
			name = len(open) > 0 && open[len(open)-1] != nil
		case '"':
			end := i + 1
			for ; data[end] != '"'; end++ {
				if data[end] == '\\' {
					end++
				}
			}
			if name {
				if err := addName(open[len(open)-1], data[i:end+1]); err != nil {
					return err
				}
			}
			i, name = end, false
		}
	}
	return nil
}

// addName adds a field's name, a JSON string, to those of its object.
func addName(names map[string]string, quoted []byte) error {
	text := string(quoted[1 : len(quoted)-1])
	if strings.ContainsRune(text, '\\') || !utf8.ValidString(text) {
		if err := json.Unmarshal(quoted, &text); err != nil {
			return err
		}
	}
	folded := fold(text)
	if before, twice := names[folded]; twice {
		return fmt.Errorf("the JSON names the field %q twice (%q): name it once", before, text)
	}
	names[folded] = text
	return nil
}

// fold gives names that differ in case only, as encoding/json sees it, the
// same form: each rune becomes the least of those it folds to, and an ASCII
// letter a small one.
func fold(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf || 'A' <= r && r <= 'Z' }) < 0 {
		return s
	}
	return strings.Map(foldRune, s)
}

func foldRune(r rune) rune {
	for {
		next := unicode.SimpleFold(r)
		if next <= r {
			if 'A' <= next && next <= 'Z' {
				next += 'a' - 'A'
			}
			return next
		}
		r = next
	}
}
