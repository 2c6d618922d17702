package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// print writes the API's JSON, indented, or lets people have their view.
func (a *app) print(raw []byte, people func(w io.Writer)) error {
	if a.json {
		var b bytes.Buffer
		if err := json.Indent(&b, bytes.TrimSpace(raw), "", "  "); err != nil {
			return fmt.Errorf("the server's answer is no JSON: %w", err)
		}
		b.WriteByte('\n')
		_, err := b.WriteTo(a.out)
		return err
	}
	return tabbed(a.out, people)
}

// tabbed aligns what people see.
func tabbed(out io.Writer, people func(w io.Writer)) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	people(w)
	return w.Flush()
}

// show prints one object.
func show[T any](a *app, raw []byte, people func(w io.Writer, v *T)) error {
	v, err := answered[T](raw)
	if err != nil {
		return err
	}
	return a.print(raw, func(w io.Writer) { people(w, v) })
}

// answered reads an answer of the server.
func answered[T any](raw []byte) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("the server's answer is not what this program knows: %w", err)
	}
	return v, nil
}

// objectCommand makes a command that prints what a call answers.
func objectCommand[T any](a *app, c *cobra.Command, do func(ctx context.Context, c *client, args []string) ([]byte, error), people func(io.Writer, *T)) *cobra.Command {
	c.RunE = func(cmd *cobra.Command, args []string) error {
		api, err := a.client()
		if err != nil {
			return err
		}
		raw, err := do(cmd.Context(), api, args)
		if err != nil {
			return err
		}
		return show(a, raw, people)
	}
	return a.jsonFlag(c)
}

// table describes a list: its columns, and one entry's cells.
type table[T any] struct {
	columns string // tab separated
	row     func(*T) []any
	none    string // what to say of an empty list
}

// listCommand makes a command that prints a list.
func listCommand[T any](a *app, c *cobra.Command, path string, query func() url.Values, t table[T]) *cobra.Command {
	limit := 0
	c.Flags().IntVar(&limit, "limit", 100, "show at most so many; 0 shows all")
	c.Args = cobra.NoArgs
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return runList(cmd.Context(), a, path, query(), limit, t)
	}
	return a.jsonFlag(c)
}

// runList prints a list.
func runList[T any](ctx context.Context, a *app, path string, query url.Values, limit int, t table[T]) error {
	api, err := a.client()
	if err != nil {
		return err
	}
	p, err := api.list(ctx, path, query, limit)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return a.printList(raw, p, func(w io.Writer) error { return t.write(w, p) })
}

func (a *app) printList(raw []byte, p page, people func(io.Writer) error) error {
	var failed error
	if err := a.print(raw, func(w io.Writer) { failed = people(w) }); err != nil {
		return err
	}
	if p.Next != "" && !a.json && failed == nil {
		fmt.Fprintf(a.err, "There are more; --limit 0 shows all.\n")
	}
	return failed
}

func (t table[T]) write(w io.Writer, p page) error {
	if len(p.Items) == 0 {
		fmt.Fprintln(w, t.none)
		return nil
	}
	fmt.Fprintln(w, t.columns)
	for _, raw := range p.Items {
		v := new(T)
		if err := json.Unmarshal(raw, v); err != nil {
			return fmt.Errorf("the server's answer is not what this program knows: %w", err)
		}
		for i, cell := range t.row(v) {
			if i > 0 {
				io.WriteString(w, "\t")
			}
			fmt.Fprint(w, text(cell))
		}
		fmt.Fprintln(w)
	}
	return nil
}

// text makes a cell: times in the local zone, nothing as a dash. What comes
// from devices cannot move the terminal's cursor.
func text(v any) string {
	s := ""
	switch v := v.(type) {
	case time.Time:
		if !v.IsZero() {
			s = v.Local().Format("2006-01-02 15:04:05")
		}
	default:
		s = fmt.Sprint(v)
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s
}

// field writes one line of an object, unless it is empty.
func field(w io.Writer, name string, v any) {
	if s := text(v); s != "-" {
		fmt.Fprintf(w, "%s\t%s\n", name, s)
	}
}

// short abbreviates a fingerprint or serial number in tables.
func short(s string) string {
	if len(s) > 12 {
		return s[:12] + "…"
	}
	return s
}

func join[S ~string](list []S) string {
	parts := make([]string, len(list))
	for i, s := range list {
		parts[i] = string(s)
	}
	return strings.Join(parts, ", ")
}
