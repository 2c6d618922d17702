package main

import (
	"encoding/csv"
	"fmt"
	"html"
	"io"
	"path/filepath"
	"strings"
	"time"

	"rsc.io/qr"

	"github.com/touchmark/touchmark/server/api"
)

// labelWriter is how enrolment codes are written: as the format says, or else
// the file's name.
func labelWriter(format, file string) (func(io.Writer, *api.CodesCreated) error, error) {
	if format == "" {
		format = strings.TrimPrefix(strings.ToLower(filepath.Ext(file)), ".")
	}
	switch format {
	case "html", "htm":
		return labelSheet, nil
	case "csv":
		return labelTable, nil
	case "", "text", "txt":
		return labelText, nil
	}
	return nil, usagef("there is no format %q for codes; known are html, csv and text", format)
}

func labelText(w io.Writer, made *api.CodesCreated) error {
	for _, c := range made.Codes {
		if _, err := fmt.Fprintf(w, "%s  %s of order %s, until %s\n", c.Code, codeFor(c.Serial), made.Order, made.Expires.Local().Format(time.DateTime)); err != nil {
			return err
		}
	}
	return nil
}

func labelTable(w io.Writer, made *api.CodesCreated) error {
	out := csv.NewWriter(w)
	rows := [][]string{{"id", "code", "serial", "order", "product", "site", "expires", "uri"}}
	for _, c := range made.Codes {
		rows = append(rows, []string{fmt.Sprint(c.ID), c.Code, c.Serial, made.Order, made.Product, made.Site, made.Expires.UTC().Format(time.RFC3339), c.URI})
	}
	return out.WriteAll(rows)
}

// labelSheet writes an HTML page that needs nothing but itself: labels to be
// printed on A4 or Letter and cut, three in a row.
func labelSheet(w io.Writer, made *api.CodesCreated) error {
	title := html.EscapeString(fmt.Sprintf("%d enrolment codes for order %s", len(made.Codes), made.Order))
	if _, err := fmt.Fprintf(w, labelHead, title); err != nil {
		return err
	}
	for _, c := range made.Codes {
		image, err := qrImage(c.URI)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "<div class=\"label\">%s<p><b>%s</b><br>%s<br>%s<br><code>%s<br>%s</code><br>until %s, no. %d</p></div>\n", image,
			html.EscapeString(made.Product), html.EscapeString(made.Order), html.EscapeString(codeFor(c.Serial)),
			html.EscapeString(c.Code[:len(c.Code)/2]), html.EscapeString(c.Code[len(c.Code)/2+1:]), made.Expires.UTC().Format(time.DateOnly), c.ID)
		if err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "</body></html>\n")
	return err
}

const labelHead = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>%s</title><style>
@page { margin: 10mm }
body { margin: 0; display: grid; grid-template-columns: repeat(3, 62mm); gap: 1mm; font: 8pt/1.25 sans-serif }
.label { height: 29mm; display: flex; align-items: center; border: .2mm dashed #999; break-inside: avoid; overflow: hidden }
.label svg { width: 28mm; height: 28mm; flex: none }
.label p { margin: 0 }
</style></head><body>
`

// quiet is the empty margin that a QR code needs, in modules (ISO/IEC 18004).
const quiet = 4

// qrImage draws a text as a QR code in SVG: for each run of dark modules a
// rectangle.
func qrImage(text string) (string, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", fmt.Errorf("the QR code of a label: %w", err)
	}
	var path strings.Builder
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			from := x
			for x < code.Size && code.Black(x, y) {
				x++
			}
			if n := x - from; n > 0 {
				fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", from+quiet, y+quiet, n, n)
			}
		}
	}
	side := code.Size + 2*quiet
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges"><path d="%s"/></svg>`, side, side, path.String()), nil
}
