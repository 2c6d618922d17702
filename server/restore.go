package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
)

// Restoration says what to make of a backup.
type Restoration struct {
	// Dir is the data directory to make. It must be empty or not exist,
	// unless DatabaseOnly is set: then it must be the one whose server's
	// database is to be filled, and its files stay as they are.
	Dir          string
	DatabaseOnly bool
	// Database, if set, is another than the configuration's, and is written
	// into it.
	Database string
	// Checkpoints are signed checkpoints that were kept elsewhere; a backup
	// that is older than one of them shows.
	Checkpoints [][]byte
	Progress    func(stage audit.Stage, done, total int64)
}

// Restored tells what was restored, and what verifying it found.
type Restored struct {
	BackupReport
	Report *audit.Report `json:"report"`
	Dir    string        `json:"dir,omitempty"`
}

// Restore makes a data directory and fills a database from a backup, and
// then verifies the log against its checkpoints and the head that the backup
// was made at, and the database against the log. If anything is wrong, no
// server will open the database, and the report says what it is; then and
// after an error a directory that Restore made is gone again.
func Restore(ctx context.Context, r Restoration, from io.Reader) (done *Restored, err error) {
	in, err := openBackup(from)
	if err != nil {
		return nil, err
	}
	t := &restoring{Restoration: r, in: in}
	if r.DatabaseOnly {
		return t.run(ctx)
	}
	existed, err := requireEmpty(r.Dir)
	if err != nil {
		return nil, err
	}
	done, err = t.run(ctx)
	if err != nil || !done.Report.OK() {
		err = errors.Join(err, clean(r.Dir, existed))
	}
	return done, err
}

type restoring struct {
	Restoration
	in     *backupReader
	names  []string
	config *Config
	first  *store.Parcel
}

func (t *restoring) run(ctx context.Context) (*Restored, error) {
	if err := t.files(); err != nil {
		return nil, err
	}
	if err := store.Restore(ctx, t.config.DSN(), t.in.head.Copy, t.rows()); err != nil {
		return nil, err
	}
	return t.verify(ctx)
}

// files brings the files, and finds out which database to fill.
func (t *restoring) files() (err error) {
	if !t.DatabaseOnly {
		if err := os.MkdirAll(t.Dir, 0o700); err != nil {
			return err
		}
	}
	t.first, err = t.in.files(func(name string, mode fs.FileMode, data []byte) error {
		t.names = append(t.names, name)
		if t.DatabaseOnly {
			return nil
		}
		path := filepath.Join(t.Dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), dirMode(name)); err != nil {
			return err
		}
		return os.WriteFile(path, data, mode)
	})
	if err != nil {
		return err
	}
	path := filepath.Join(t.Dir, ConfigFile)
	if t.config, err = LoadConfig(path); err != nil {
		return err
	}
	if t.DatabaseOnly {
		return t.sameLog()
	}
	return t.settle(path)
}

// dirMode is what init gives the directory that a file lies in.
func dirMode(name string) fs.FileMode {
	if strings.HasPrefix(name, "keys/") {
		return 0o700
	}
	return 0o755
}

// settle lets the configuration speak of the directory and the database that
// are restored to, if they are others than those that were backed up.
func (t *restoring) settle(path string) error {
	c := t.config
	here, err := filepath.Abs(t.Dir)
	if err != nil {
		return err
	}
	there, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	if here == there && t.Database == "" {
		return nil
	}
	if t.Database != "" {
		c.Database = t.Database
	}
	c.Dir = "."
	if err := os.WriteFile(path, []byte(Sample(c)), 0o600); err != nil {
		return err
	}
	t.config, err = LoadConfig(path)
	return err
}

// sameLog refuses to fill a server's database from the backup of another.
func (t *restoring) sameLog() error {
	if t.config.Audit.Origin != t.in.head.Origin {
		return fmt.Errorf("the backup is of the log %s, but %s serves the log %s: restore it into a directory of its own", t.in.head.Origin, t.Dir, t.config.Audit.Origin)
	}
	if t.Database != "" {
		t.config.Database = t.Database
	}
	return nil
}

// rows gives the parcel that was read already and then the others.
func (t *restoring) rows() func() (*store.Parcel, error) {
	return func() (*store.Parcel, error) {
		if p := t.first; p != nil {
			t.first = nil
			return p, nil
		}
		return t.in.nextParcel()
	}
}

func (t *restoring) verify(ctx context.Context) (done *Restored, err error) {
	head := t.in.head.Copy
	done = &Restored{Dir: t.Dir, BackupReport: BackupReport{Made: t.in.head.Made, Keys: t.in.head.Keys,
		Leaves: head.Leaves, Root: head.Root, Files: t.names, Rows: t.in.rows}}
	if done.Checkpoint, err = sizeOfCheckpoint(head.Checkpoint); err != nil {
		return nil, err
	}
	if done.Report, err = t.audit(ctx); err != nil {
		return nil, err
	}
	if done.Report.Size != head.Leaves || done.Report.Root.String() != head.Root {
		return nil, fmt.Errorf("the restored log has %d leaves and the root %s, but the backup was made of %d leaves with the root %s: it was changed since",
			done.Report.Size, done.Report.Root, head.Leaves, head.Root)
	}
	if !done.Report.OK() {
		return done, nil
	}
	return done, store.Restored(ctx, t.config.DSN())
}

func (t *restoring) audit(ctx context.Context) (report *audit.Report, err error) {
	o := audit.Options{Checkpoints: t.Checkpoints, Progress: t.Progress}
	if c := t.in.head.Copy.Checkpoint; c != "" {
		o.Checkpoints = append(o.Checkpoints, []byte(c))
	}
	if o.Verifier, err = readVerifier(t.config.VerifierFile()); err != nil {
		return nil, err
	}
	db, err := store.OpenReader(ctx, t.config.DSN())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.Snapshot(ctx, func(src audit.Source) error {
		report, err = audit.Verify(ctx, src, o)
		return err
	})
	return report, err
}

func readVerifier(path string) (note.Verifier, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the log's public key: %w", err)
	}
	return audit.ParseVerifier(string(text))
}

// sizeOfCheckpoint reads how many leaves a signed note covers; its signature
// is checked elsewhere.
func sizeOfCheckpoint(signed string) (size int64, err error) {
	if signed == "" {
		return 0, nil
	}
	lines := strings.SplitN(signed, "\n", 3)
	if len(lines) < 3 {
		return 0, errors.New("the newest checkpoint is not a signed note")
	}
	_, err = fmt.Sscan(lines[1], &size)
	return size, err
}
