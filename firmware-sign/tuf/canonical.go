package tuf

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// quote escapes what canonical JSON escapes, and nothing else.
var quote = strings.NewReplacer(`"`, `\"`, `\`, `\\`)

// appendCanonical appends canonical JSON (OLPC's, which §4.2 wants): members
// sorted, no white space, whole numbers, strings as they are.
func appendCanonical(out []byte, value any) (_ []byte, err error) {
	switch v := value.(type) {
	case string:
		return append(append(append(out, '"'), quote.Replace(v)...), '"'), nil
	case bool:
		return strconv.AppendBool(out, v), nil
	case int64:
		return strconv.AppendInt(out, v, 10), nil
	case []any:
		out = append(out, '[')
		for n, element := range v {
			if n > 0 {
				out = append(out, ',')
			}
			if out, err = appendCanonical(out, element); err != nil {
				return nil, err
			}
		}
		return append(out, ']'), nil
	case map[string]any:
		out = append(out, '{')
		for n, name := range slices.Sorted(maps.Keys(v)) {
			if n > 0 {
				out = append(out, ',')
			}
			out = append(append(append(out, '"'), quote.Replace(name)...), `":`...)
			if out, err = appendCanonical(out, v[name]); err != nil {
				return nil, err
			}
		}
		return append(out, '}'), nil
	}
	return nil, fmt.Errorf("a value of type %T has no canonical JSON", value)
}
