package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// LoadConfig reads a configuration file over the defaults and checks it.
// Every unknown key, and every value that cannot be read, is an error that
// names the line.
func LoadConfig(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w; `touchmark init DIR` makes one", err)
	}
	c, err := ParseConfig(path, text)
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(c.Dir) {
		c.Dir = filepath.Join(filepath.Dir(path), c.Dir)
	}
	return c, nil
}

// ParseConfig reads the text of a configuration file; name is what errors
// call it. Paths stay as they are.
func ParseConfig(name string, text []byte) (*Config, error) {
	c := Default()
	if err := decodeStrict(name, text, c); err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, prefixed(name, err)
	}
	return c, nil
}

// decodeStrict reads YAML into a struct. It refuses keys that the struct
// does not have and keys that come twice.
func decodeStrict(name string, text []byte, into any) error {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return located(name, err)
	}
	if len(file.Docs) > 1 {
		return fmt.Errorf("%s holds %d YAML documents: want one", name, len(file.Docs))
	}
	var unknown []error
	for _, doc := range file.Docs {
		ast.Walk(tags{&unknown}, doc)
		unknown = append(unknown, unknownKeys(doc.Body, reflect.TypeOf(into).Elem(), "")...)
	}
	if err := errors.Join(unknown...); err != nil {
		return prefixed(name, err)
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil
	}
	if err := yaml.NodeToValue(file.Docs[0].Body, into, yaml.Strict()); err != nil {
		return located(name, err)
	}
	return nil
}

// located puts the file's name and the line before a message of the YAML
// library.
func located(name string, err error) error {
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		return fmt.Errorf("%s:%d: %s", name, at.GetToken().Position.Line, at.GetMessage())
	}
	return fmt.Errorf("%s: %w", name, err)
}

// prefixed puts the file's name before each of several errors.
func prefixed(name string, err error) error {
	var many interface{ Unwrap() []error }
	if !errors.As(err, &many) {
		return fmt.Errorf("%s: %w", name, err)
	}
	var out []error
	for _, e := range many.Unwrap() {
		var line *lineError
		if errors.As(e, &line) {
			out = append(out, fmt.Errorf("%s:%w", name, e))
		} else {
			out = append(out, fmt.Errorf("%s: %w", name, e))
		}
	}
	return errors.Join(out...)
}

// lineError is something wrong in a line of a file.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return fmt.Sprintf("%d: %s", e.line, e.text) }

// tags lists the YAML tags in a file, which mean nothing here. The YAML library
// (1.19) panics at one without a value.
type tags struct{ errs *[]error }

func (t tags) Visit(n ast.Node) ast.Visitor {
	if tag, ok := n.(*ast.TagNode); ok {
		at := tag.GetToken()
		*t.errs = append(*t.errs, &lineError{at.Position.Line, fmt.Sprintf("the YAML tag %q: tags are not used here, take it out", at.Value)})
		return nil
	}
	return t
}

// unknownKeys lists the keys of a node that a struct type does not have, at
// any depth. On its way it drops sections without any key, which the YAML
// library would take for "reset the defaults of this section".
func unknownKeys(node ast.Node, t reflect.Type, path string) []error {
	if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(textUnmarshaler) {
		return nil
	}
	mapping, ok := node.(*ast.MappingNode)
	if !ok {
		return nil
	}
	var errs []error
	known := yamlFields(t)
	mapping.Values = slices.DeleteFunc(mapping.Values, func(v *ast.MappingValueNode) bool {
		key := v.Key.GetToken().Value
		field, ok := known[key]
		if !ok {
			errs = append(errs, &lineError{v.Key.GetToken().Position.Line, fmt.Sprintf("unknown key %q%s", path+key, hint(key, known))})
			return false
		}
		errs = append(errs, unknownKeys(v.Value, field.Type, path+key+".")...)
		return v.Value.Type() == ast.NullType
	})
	return errs
}

var textUnmarshaler = reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()

// yamlFields gives a struct's fields by their YAML keys, those of inlined
// structs among them.
func yamlFields(t reflect.Type) map[string]reflect.StructField {
	fields := map[string]reflect.StructField{}
	for f := range fieldsOf(t) {
		fields[yamlKey(f)] = f
	}
	return fields
}

// fieldsOf runs through a struct's fields in order, those of inlined structs
// in their place.
func fieldsOf(t reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			if strings.HasSuffix(f.Tag.Get("yaml"), ",inline") {
				for inner := range fieldsOf(f.Type) {
					inner.Index = append([]int{i}, inner.Index...)
					if !yield(inner) {
						return
					}
				}
				continue
			}
			if !yield(f) {
				return
			}
		}
	}
}

func yamlKey(f reflect.StructField) string {
	key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return key
}

// hint names the known key that looks most like the unknown one.
func hint(key string, known map[string]reflect.StructField) string {
	best, distance := "", len(key)/2+2
	for k := range known {
		if d := editDistance(key, k); d < distance || d == distance && k < best {
			best, distance = k, d
		}
	}
	if best == "" {
		return "; `touchmark config` lists the known ones"
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance is the number of letters to insert, delete or replace
// (Levenshtein). Swapping neighbours counts as two.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
