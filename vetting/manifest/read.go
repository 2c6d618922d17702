package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/touchmark/touchmark/vetting"
)

// source gives a file's rows one after the other.
type source interface {
	// next fills w with the next record and returns the line it begins on.
	// A *badLine says that this record cannot be used, but the next may; a
	// *badFile that there is no use in going on; io.EOF that it was the last.
	next(w *row) (line int64, err error)
}

// badFile is a defect that makes the rest of a file meaningless.
type badFile struct{ findings []string }

func (e *badFile) Error() string { return fmt.Sprint(e.findings) }

// Read reads a manifest in constant memory and calls fn for every good
// record, its identity normalized, with its place among the records and its
// line, both counted from 1. Broken lines do not stop it: all are collected
// into the *LineErrors that it returns in the end. Duplicates within the file
// are the business of [Check]. Any other error, of r or of fn, ends it at
// once.
//
// JSON Lines: one JSON object (RFC 8259) per line, blank lines ignored. CSV:
// RFC 4180 with a header line. Both are UTF-8; a byte order mark at the
// beginning and CR before LF are tolerated. Fields and columns:
//
//	serial                unique serial number; the only required one
//	mac, uid              EUI-48 or EUI-64; chip UID
//	bootstrapKey          hex SHA-256 of the bootstrap key's SubjectPublicKeyInfo,
//	bootstrapCertificate  or the certificate (PEM or base64 DER),
//	bootstrapPublicKey    or the key (PEM); if several are given they must agree
//	ekHash                hex SHA-256 of the TPM's endorsement key
//	hardwareRevision, firmware, line, rig
//	time                  RFC 3339
//	tests                 any JSON
//	order, product        if given, those that the manifest is handed in for
//
// Values are JSON strings, but for tests; an empty one counts as not given.
// Unknown and repeated names are refused.
func Read(r io.Reader, format vetting.ManifestFormat, rules Rules, fn func(row, line int64, rec vetting.Record) error) error {
	var errs LineErrors
	if _, err := read(r, format, rules, &errs, fn); err != nil {
		return err
	}
	return errs.result()
}

// read does it, collecting into errs, and returns the number of records,
// broken ones included.
func read(r io.Reader, format vetting.ManifestFormat, rules Rules, errs *LineErrors, fn func(row, line int64, rec vetting.Record) error) (rows int64, err error) {
	src, err := open(r, format)
	if err != nil {
		return 0, err
	}
	return readRows(src, rules, errs, fn)
}

// readRows reads a source to its end.
func readRows(src source, rules Rules, errs *LineErrors, fn func(row, line int64, rec vetting.Record) error) (rows int64, err error) {
	most := rules.maxRecords
	if most == 0 {
		most = MaxRecords
	}
	for {
		var w row
		line, err := src.next(&w)
		if errors.Is(err, io.EOF) {
			break
		}
		if rows++; rows > most {
			errs.add(line, "the manifest lists more than %d records: split it", most)
			return rows, nil
		}
		var rec vetting.Record
		if err == nil {
			rec, err = w.record(rules)
		}
		var whole *badFile
		var one *badLine
		switch {
		case err == nil:
			if err := fn(rows, line, rec); err != nil {
				return rows, err
			}
		case errors.As(err, &whole):
			for _, text := range whole.findings {
				errs.add(line, "%s", text)
			}
			return rows, nil
		case errors.As(err, &one):
			errs.add(line, "%s", one.text)
		default:
			return rows, fmt.Errorf("read the manifest: %w", err)
		}
	}
	if rows == 0 {
		errs.add(1, "the manifest lists no record")
	}
	return rows, nil
}

func open(r io.Reader, format vetting.ManifestFormat) (source, error) {
	switch lines := newLineReader(r); format {
	case vetting.FormatJSONLines:
		return &jsonSource{lines: lines}, nil
	case vetting.FormatCSV:
		return &csvSource{lines: lines}, nil
	default:
		return nil, vetting.Errorf(vetting.Invalid, "unknown manifest format %q; known are %q and %q", format, vetting.FormatJSONLines, vetting.FormatCSV)
	}
}

func blank(b []byte) bool { return len(bytes.TrimSpace(b)) == 0 }
