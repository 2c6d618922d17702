package server

import (
	_ "embed"
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// The manual is the comments on the structs, as they stand.
var (
	//go:embed config.go
	configSource string
	//go:embed doorconfig.go
	doorConfigSource string
	//go:embed crlconfig.go
	crlConfigSource string
)

// Sample is a configuration file that explains every key. Values that differ
// from the defaults are set; the defaults stand in comments.
func Sample(c *Config) string {
	var b strings.Builder
	b.WriteString("# Configuration of a Touchmark server. Unknown keys are refused.\n" +
		"# `touchmark serve --check` tries a change without starting anything.\n")
	w := sampleWriter{out: &b, docs: fieldDocs()}
	w.section(reflect.ValueOf(*c), reflect.ValueOf(*Default()), 0)
	return b.String()
}

type sampleWriter struct {
	out  *strings.Builder
	docs map[string]string // "Type.Field" → comment
}

func (w sampleWriter) section(v, standard reflect.Value, depth int) {
	indent := strings.Repeat("  ", depth)
	for f := range fieldsOf(v.Type()) {
		value, usual := v.FieldByIndex(f.Index), standard.FieldByIndex(f.Index)
		key := yamlKey(f)
		w.out.WriteByte('\n')
		for line := range strings.SplitSeq(w.doc(v.Type(), f), "\n") {
			fmt.Fprintf(w.out, "%s# %s\n", indent, line)
		}
		if value.Kind() == reflect.Struct {
			fmt.Fprintf(w.out, "%s%s:\n", indent, key)
			w.section(value, usual, depth+1)
			continue
		}
		off := ""
		if required := usual.Kind() == reflect.String && usual.Len() == 0; !required && reflect.DeepEqual(value.Interface(), usual.Interface()) {
			off = "#"
		}
		fmt.Fprintf(w.out, "%s%s%s: %s\n", indent, off, key, yamlValue(value))
	}
}

// doc is a field's comment with the Go name at its beginning replaced by the
// key.
func (w sampleWriter) doc(owner reflect.Type, f reflect.StructField) string {
	t := owner
	for _, i := range f.Index[:len(f.Index)-1] {
		t = t.Field(i).Type
	}
	text := w.docs[t.Name()+"."+f.Name]
	if rest, ok := strings.CutPrefix(text, f.Name+" "); ok {
		return yamlKey(f) + " " + rest
	}
	return text
}

// fieldDocs reads the comments of the configuration's structs.
func fieldDocs() map[string]string {
	docs := map[string]string{}
	for _, source := range []string{configSource, doorConfigSource, crlConfigSource} {
		file, err := goparser.ParseFile(token.NewFileSet(), "", source, goparser.ParseComments)
		if err != nil { // a programming error: this very file was compiled
			panic(err)
		}
		ast.Inspect(file, func(n ast.Node) bool { return noteDocs(docs, n) })
	}
	return docs
}

// noteDocs takes down the comments of a struct's fields; it reports whether
// to look into the node.
func noteDocs(docs map[string]string, n ast.Node) bool {
	spec, ok := n.(*ast.TypeSpec)
	if !ok {
		return true
	}
	if s, ok := spec.Type.(*ast.StructType); ok {
		for _, f := range s.Fields.List {
			for _, name := range f.Names {
				docs[spec.Name.Name+"."+name.Name] = strings.TrimSpace(f.Doc.Text())
			}
		}
		return false
	}
	return true
}

// yamlValue writes a value on one line.
func yamlValue(v reflect.Value) string {
	if s, ok := v.Interface().(fmt.Stringer); ok {
		if _, level := s.(slog.Level); level {
			return strings.ToLower(s.String())
		}
		return s.String()
	}
	switch v.Kind() {
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = yamlValue(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Map:
		var items []string
		for _, k := range v.MapKeys() {
			items = append(items, k.String()+": "+strconv.Quote(v.MapIndex(k).String()))
		}
		slices.Sort(items)
		return "{" + strings.Join(items, ", ") + "}"
	case reflect.String:
		return strconv.Quote(v.String())
	default:
		return fmt.Sprint(v.Interface())
	}
}
