package manifest

import (
	"bufio"
	"crypto/x509"
	"io"
	"slices"
	"strings"

	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid"
)

// VendorFormat is the form of a file in which a vendor lists its chips.
type VendorFormat string

// What vendors deliver.
const (
	// Microchip: a JSON array of flattened JWS (RFC 7515 §7.2.2), one for each
	// secure element.
	Microchip VendorFormat = "microchip"
	// Infineon: a ZIP archive of PEM certificates, as for OPTIGA Trust.
	Infineon VendorFormat = "infineon"
	// Espressif: CSV with the columns MAC, cn and cert.
	Espressif VendorFormat = "espressif"
	// TPM: CSV of endorsement keys, by certificate, public key or hash.
	TPM VendorFormat = "tpm"
)

// VendorFormats are all there are.
var VendorFormats = []VendorFormat{Microchip, Infineon, Espressif, TPM}

// Conversion says how a vendor's file is read.
type Conversion struct {
	Format VendorFormat
	// Signers are those whose signatures count on Microchip's entries.
	Signers []*x509.Certificate
	// Key is the kid of the key in Microchip's entries that devices enrol
	// with; "" is "0".
	Key string
	// Distributor, if given, is the organization to whom each of Microchip's
	// entries must be addressed.
	Distributor string
	// Serial and UID say where Infineon's certificates have the serial number
	// (nil: the X.509 serial number) and the UID (nil: nowhere).
	Serial, UID *vetting.NameRule
}

// Convert reads a vendor's file and writes a manifest in JSON Lines. What is
// wrong in the file it returns as a *LineErrors; then what was written is not
// to be used. It reads as it goes, but for the directory of an archive.
//
// The vendor's signatures, where there are any, are checked here and are not
// in the manifest: whoever signs it answers for them.
func Convert(in io.ReaderAt, size int64, out io.Writer, c Conversion) (records int64, err error) {
	src, err := c.open(in, size)
	if err != nil {
		return 0, err
	}
	var errs LineErrors
	buffer := bufio.NewWriter(out)
	w := NewWriter(buffer)
	if records, err = readRows(src, Rules{}, &errs, func(_, _ int64, rec vetting.Record) error { return w.Write(rec) }); err != nil {
		return 0, err
	}
	if err := errs.result(); err != nil {
		return 0, err
	}
	return records, buffer.Flush()
}

func (c Conversion) open(in io.ReaderAt, size int64) (source, error) {
	r := io.NewSectionReader(in, 0, size)
	switch c.Format {
	case Microchip:
		return newMicrochip(r, c)
	case Infineon:
		return newInfineon(in, size, c)
	case Espressif:
		return newTable(r, espressifColumns, espressif), nil
	case TPM:
		return newTable(r, tpmColumns, tpm), nil
	default:
		return nil, vetting.Errorf(vetting.Invalid, "unknown format %q; known are %s", c.Format, strings.Join(names(VendorFormats), ", "))
	}
}

func names(formats []VendorFormat) (list []string) {
	for _, f := range formats {
		list = append(list, string(f))
	}
	return list
}

// setAll fills a row from pairs of a column and a value; empty ones are left out.
func (w *row) setAll(pairs ...[2]string) error {
	for _, p := range pairs {
		if p[1] == "" {
			continue
		}
		if err := w.set(p[0], p[1]); err != nil {
			return err
		}
	}
	return nil
}

// find applies a name rule, and fails as a bad line.
func find(rule *vetting.NameRule, cert *x509.Certificate) (string, error) {
	if rule == nil {
		return "", nil
	}
	value, err := vendorid.Find(*rule, cert)
	if err != nil {
		return "", bad("the certificate %v", err)
	}
	return value, nil
}

// vendorColumn is a column of a vendor's CSV.
type vendorColumn struct {
	name      string
	required  bool
	spellings []string // others, in lower case
}

// table reads a vendor's CSV, whose header names its columns in any order and
// spelling of these.
type table struct {
	csv     csvSource
	known   []vendorColumn
	columns []string // canonical; "" is one that is not looked at
	convert func(values map[string]string, w *row) error
}

func newTable(r io.Reader, known []vendorColumn, convert func(map[string]string, *row) error) *table {
	return &table{csv: csvSource{lines: newLineReader(r)}, known: known, convert: convert}
}

func (t *table) next(w *row) (int64, error) {
	if t.columns == nil {
		if line, err := t.header(); err != nil {
			return line, err
		}
	}
	fields, line, err := t.fields()
	if err != nil {
		return line, err
	}
	if len(fields) != len(t.columns) {
		return line, bad("the record has %d fields, the header %d", len(fields), len(t.columns))
	}
	values := map[string]string{}
	for i, f := range fields {
		values[t.columns[i]] = strings.TrimSpace(f)
	}
	return line, t.convert(values, w)
}

func (t *table) fields() ([]string, int64, error) {
	b, line, err := t.csv.record()
	if err != nil {
		return nil, line, err
	}
	fields, err := splitCSV(b)
	return fields, line, err
}

func (t *table) header() (int64, error) {
	fields, line, err := t.fields()
	if broken, ok := err.(*badLine); ok {
		return line, &badFile{[]string{"the header cannot be read: " + broken.text}}
	} else if err != nil {
		return line, err
	}
	for _, f := range fields {
		name := t.canonical(f)
		if name != "" && slices.Contains(t.columns, name) {
			return line, &badFile{[]string{"the header names " + name + " twice"}}
		}
		t.columns = append(t.columns, name)
	}
	for _, c := range t.known {
		if c.required && !slices.Contains(t.columns, c.name) {
			return line, &badFile{[]string{"the header does not name the column " + c.name}}
		}
	}
	return line, nil
}

func (t *table) canonical(field string) string {
	field = strings.ToLower(strings.TrimSpace(field))
	for _, c := range t.known {
		if field == strings.ToLower(c.name) || slices.Contains(c.spellings, field) {
			return c.name
		}
	}
	return ""
}
