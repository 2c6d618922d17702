package server

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/store"
)

// A backup is a gzip-compressed tar file (docs/decisions/backup.md):
//
//	backup.json    what it is: a backupHead
//	files/…        the data directory's files but for the database
//	rows/NNNNNNNN  a parcelHead, then rows, one JSON array a line
//	end.json       how many rows there are of each table; where it is
//	               missing, the file was cut off

// backupForm is the version of that form.
const backupForm = 1

type backupHead struct {
	Form   int            `json:"touchmarkBackup"`
	Made   time.Time      `json:"made"`
	Origin string         `json:"origin"` // of the log
	Keys   bool           `json:"keys"`   // private keys are in it
	Copy   store.CopyHead `json:"database"`
}

type parcelHead struct {
	Table   string   `json:"table"`
	Columns []string `json:"columns"`
	Rows    int      `json:"rows"`
}

type backupEnd struct {
	Rows map[string]int64 `json:"rows"`
}

// BackupReport tells what a backup holds.
type BackupReport struct {
	Made       time.Time        `json:"made"`
	Leaves     int64            `json:"leaves"`
	Root       string           `json:"root"`
	Checkpoint int64            `json:"checkpoint"` // leaves that a signed checkpoint in it covers
	Keys       bool             `json:"keys"`
	Files      []string         `json:"files"`
	Rows       map[string]int64 `json:"rows"`
}

// Backup writes everything that a server needs to be set up anew: its
// configuration, CA certificates and database, as they are at one moment,
// while it runs; private keys only if keys is true. config is the file that c
// was read from.
func Backup(ctx context.Context, c *Config, config string, keys bool, w io.Writer, env Environment) (r *BackupReport, err error) {
	env = env.complete()
	db, err := store.OpenReader(ctx, c.DSN())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Unfinished(ctx); err != nil {
		return nil, err
	}
	files, err := filesToKeep(c.Dir, config, keys)
	if err != nil {
		return nil, err
	}
	out, err := newBackupWriter(w, env.Now())
	if err != nil {
		return nil, err
	}
	r = &BackupReport{Made: env.Now().UTC().Truncate(time.Second), Keys: keys}
	r.Rows, err = db.Copy(ctx, func(h store.CopyHead) error {
		r.Leaves, r.Root = h.Leaves, h.Root
		if r.Checkpoint, err = sizeOfCheckpoint(h.Checkpoint); err != nil {
			return err
		}
		if err := out.object("backup.json", backupHead{backupForm, r.Made, c.Audit.Origin, keys, h}); err != nil {
			return err
		}
		for _, f := range files {
			r.Files = append(r.Files, f.name)
			if err := out.copy(f); err != nil {
				return err
			}
		}
		return nil
	}, out.parcel)
	if err == nil {
		err = out.object("end.json", backupEnd{r.Rows})
	}
	return r, errors.Join(err, out.close())
}

// keptFile is a file of the data directory, by the name it has there.
type keptFile struct{ name, path string }

// filesToKeep are the data directory's files but for the database and the
// checkpoint, which must not get older by a restore.
func filesToKeep(dir, config string, keys bool) (list []keptFile, err error) {
	list = []keptFile{{ConfigFile, config}}
	patterns := []string{"*.crt", ProfileFile, "ca/*.crt", "log/verifier"}
	if keys {
		patterns = append(patterns, "*.key", "keys/*")
	}
	for _, p := range patterns {
		found, err := filepath.Glob(filepath.Join(dir, p))
		if err != nil {
			return nil, err
		}
		for _, path := range found {
			name, err := filepath.Rel(dir, path)
			if err != nil {
				return nil, err
			}
			list = append(list, keptFile{filepath.ToSlash(name), path})
		}
	}
	return list, nil
}

// backupWriter writes the parts of a backup.
type backupWriter struct {
	gz      *gzip.Writer
	tar     *tar.Writer
	made    time.Time
	parcels int
	lines   []byte
}

func newBackupWriter(w io.Writer, made time.Time) (*backupWriter, error) {
	gz, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	return &backupWriter{gz: gz, tar: tar.NewWriter(gz), made: made}, nil
}

func (b *backupWriter) write(name string, mode fs.FileMode, data []byte) error {
	h := &tar.Header{Name: name, Mode: int64(mode), Size: int64(len(data)), ModTime: b.made, Format: tar.FormatPAX}
	if err := b.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := b.tar.Write(data)
	return err
}

func (b *backupWriter) object(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return b.write(name, 0o600, append(text, '\n'))
}

func (b *backupWriter) copy(f keptFile) error {
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return err
	}
	return b.write("files/"+f.name, info.Mode().Perm(), data)
}

func (b *backupWriter) parcel(p store.Parcel) error {
	b.lines = b.lines[:0]
	head, err := json.Marshal(parcelHead{p.Table, p.Columns, len(p.Rows)})
	if err != nil {
		return err
	}
	b.lines = append(append(b.lines, head...), '\n')
	for _, r := range p.Rows {
		row, err := json.Marshal(writable(r))
		if err != nil {
			return err
		}
		b.lines = append(append(b.lines, row...), '\n')
	}
	b.parcels++
	return b.write(fmt.Sprintf("rows/%08d", b.parcels), 0o600, b.lines)
}

func (b *backupWriter) close() error { return errors.Join(b.tar.Close(), b.gz.Close()) }

// writable makes a row into what JSON can hold: bytes become an array with
// one string of base64.
func writable(row []any) []any {
	out := make([]any, len(row))
	for i, v := range row {
		if b, ok := v.([]byte); ok {
			v = []string{base64.StdEncoding.EncodeToString(b)}
		}
		out[i] = v
	}
	return out
}

// readable undoes writable.
func readable(line []byte) ([]any, error) {
	dec := json.NewDecoder(strings.NewReader(string(line)))
	dec.UseNumber()
	var row []any
	if err := dec.Decode(&row); err != nil {
		return nil, err
	}
	for i, v := range row {
		var err error
		switch v := v.(type) {
		case nil, string:
		case json.Number:
			row[i], err = v.Int64()
		case []any:
			text, ok := "", len(v) == 1
			if ok {
				text, ok = v[0].(string)
			}
			if !ok {
				return nil, fmt.Errorf("%v is no value", v)
			}
			row[i], err = base64.StdEncoding.DecodeString(text)
		default:
			err = fmt.Errorf("%v is no value", v)
		}
		if err != nil {
			return nil, err
		}
	}
	return row, nil
}

// backupReader reads the parts of a backup in their order.
type backupReader struct {
	gz   *gzip.Reader
	tar  *tar.Reader
	head backupHead
	rows map[string]int64
}

// longestPart bounds what is read of one part. A row of the database is far
// shorter than that.
const longestPart = 256 << 20

func openBackup(r io.Reader) (*backupReader, error) {
	gz, err := gzip.NewReader(bufio.NewReaderSize(r, 1<<16))
	if err != nil {
		return nil, fmt.Errorf("not a backup of Touchmark's: %w", err)
	}
	b := &backupReader{gz: gz, tar: tar.NewReader(gz), rows: map[string]int64{}}
	name, data, err := b.next()
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &b.head); name != "backup.json" || err != nil || b.head.Form == 0 {
		return nil, errors.New("not a backup of Touchmark's: it does not begin with backup.json")
	}
	if b.head.Form > backupForm {
		return nil, fmt.Errorf("the backup has form %d, this program knows form %d: restore it with a newer Touchmark", b.head.Form, backupForm)
	}
	return b, nil
}

func (b *backupReader) next() (name string, data []byte, err error) {
	h, err := b.tar.Next()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "", nil, errors.New("the backup ends too early: it was cut off when it was made or copied")
	}
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(b.tar, longestPart))
	}
	if err != nil {
		return "", nil, fmt.Errorf("the backup is damaged: %w", err)
	}
	return h.Name, data, nil
}

// files reads the files, up to the first parcel of rows, which it returns.
func (b *backupReader) files(each func(name string, mode fs.FileMode, data []byte) error) (first *store.Parcel, err error) {
	for {
		h, err := b.tar.Next()
		if err != nil {
			return nil, fmt.Errorf("the backup is damaged: %w", err)
		}
		data, err := io.ReadAll(io.LimitReader(b.tar, longestPart))
		if err != nil {
			return nil, fmt.Errorf("the backup is damaged: %w", err)
		}
		name, isFile := strings.CutPrefix(h.Name, "files/")
		if !isFile {
			return b.parcel(h.Name, data)
		}
		if !filepath.IsLocal(name) {
			return nil, fmt.Errorf("the backup holds a file %q, which would lie outside of the data directory: it was not made by `touchmark backup`", name)
		}
		if err := each(name, h.FileInfo().Mode().Perm(), data); err != nil {
			return nil, err
		}
	}
}

// nextParcel gives the rows in their order, and nil after the last.
func (b *backupReader) nextParcel() (*store.Parcel, error) {
	name, data, err := b.next()
	if err != nil {
		return nil, err
	}
	return b.parcel(name, data)
}

func (b *backupReader) parcel(name string, data []byte) (*store.Parcel, error) {
	if name == "end.json" {
		return nil, b.end(data)
	}
	lines := slices.Collect(strings.Lines(string(data)))
	var h parcelHead
	if len(lines) == 0 || json.Unmarshal([]byte(lines[0]), &h) != nil || h.Rows != len(lines)-1 {
		return nil, fmt.Errorf("the backup is damaged: its part %s is not what it says to be", name)
	}
	p := &store.Parcel{Table: h.Table, Columns: h.Columns, Rows: make([][]any, h.Rows)}
	for i, l := range lines[1:] {
		var err error
		if p.Rows[i], err = readable([]byte(l)); err != nil {
			return nil, fmt.Errorf("the backup is damaged: row %d of its part %s: %w", i+1, name, err)
		}
	}
	b.rows[h.Table] += int64(h.Rows)
	return p, nil
}

// end counts the rows, and reads on to the check sum of all of it.
func (b *backupReader) end(data []byte) error {
	if _, err := io.Copy(io.Discard, b.gz); err != nil {
		return fmt.Errorf("the backup is damaged: %w", err)
	}
	var end backupEnd
	if err := json.Unmarshal(data, &end); err != nil {
		return fmt.Errorf("the backup is damaged: its end: %w", err)
	}
	for table, n := range end.Rows {
		if b.rows[table] != n {
			return fmt.Errorf("the backup is damaged: it should hold %d rows of table %s, but holds %d", n, table, b.rows[table])
		}
	}
	return nil
}
