package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// unmarshal is json.Unmarshal, but for objects that name a field twice. Go's
// decoder takes the last of them and ignores case, so of two spellings of one
// name a validator may look at the one and the program use the other.
func unmarshal(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return err
	}
	return namedOnce(json.NewDecoder(bytes.NewReader(data)))
}

// namedOnce reads one value, which is known to be well-formed.
func namedOnce(dec *json.Decoder) error {
	dec.UseNumber()
	start, err := dec.Token()
	if err != nil {
		return err
	}
	if delim, ok := start.(json.Delim); !ok || (delim != '{' && delim != '[') {
		return nil
	}
	var seen map[string]string
	if start == json.Delim('{') {
		seen = map[string]string{}
	}
	for dec.More() {
		if seen != nil {
			name, err := dec.Token()
			if err != nil {
				return err
			}
			text, _ := name.(string)
			if before, twice := seen[fold(text)]; twice {
				return fmt.Errorf("the JSON names the field %q twice (%q): name it once", before, text)
			}
			seen[fold(text)] = text
		}
		if err := namedOnce(dec); err != nil {
			return err
		}
	}
	_, err = dec.Token() // the closing delimiter
	return err
}

// fold gives names that differ in case only, as encoding/json sees it, the
// same form: each rune becomes the least of those it folds to.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, s)
}
