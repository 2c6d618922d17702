package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/server"
)

func (a *app) backupCommand() *cobra.Command {
	var file string
	var keys bool
	c := &cobra.Command{
		Use: "backup FILE|DIR", Short: "Write the database, CA certificates and configuration to one file, while the server runs",
		Long: `backup reads the database itself, as it is at one moment; servers may use it meanwhile. It runs on the server's machine. In a
directory it makes a file that is named by the time.

The file holds no private keys unless you say --with-keys. They never change, so back them up once, apart, and keep them
as you keep keys. But the file holds the configuration, which may hold a password: only its owner can read it.`,
		Example: "  touchmark backup /mnt/backup --dir /var/lib/touchmark\n  touchmark backup everything.tmbackup --dir /var/lib/touchmark --with-keys",
		Args:    cobra.ExactArgs(1),
	}
	configFlag(c, &file)
	c.Flags().BoolVar(&keys, "with-keys", false, "put the private keys in the data directory into the file, too")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		config, err := a.config(file)
		if err != nil {
			return err
		}
		if file == "" {
			file = filepath.Join(a.dataDir(), server.ConfigFile)
		}
		path := backupPath(args[0], time.Now())
		r, err := writeBackup(path, func(w io.Writer) (*server.BackupReport, error) {
			return server.Backup(cmd.Context(), config, file, keys, w, server.Environment{})
		})
		if err != nil {
			return err
		}
		return a.tell(r, func(w io.Writer) {
			fmt.Fprintf(w, "backup\t%s\n", path)
			showBackup(w, r)
		})
	}
	return a.jsonFlag(c)
}

// backupPath names the file in a directory by the time.
func backupPath(path string, now time.Time) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return filepath.Join(path, now.UTC().Format("touchmark-20060102T150405Z.tmbackup"))
	}
	return path
}

// writeBackup makes the file whole or not at all, and never in the place of
// another.
func writeBackup(path string, write func(io.Writer) (*server.BackupReport, error)) (r *server.BackupReport, err error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("%s exists already: a backup overwrites nothing; choose another name, or name a directory", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".partial-*") // for its owner only
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name()) // fails, as it should, once it is renamed
	if r, err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return r, os.Rename(f.Name(), path)
}

// tell prints something as JSON or for people.
func (a *app) tell(v any, people func(io.Writer)) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.print(raw, people)
}

func showBackup(w io.Writer, r *server.BackupReport) {
	var rows int64
	for _, n := range r.Rows {
		rows += n
	}
	keys := "none: back them up apart"
	if r.Keys {
		keys = "the private keys of the data directory: keep it as you keep keys"
	}
	fmt.Fprintf(w, "made\t%s\n", text(r.Made))
	fmt.Fprintf(w, "log\t%s, the first %s of them under a signed checkpoint\n", counted(r.Leaves, "leaf", "leaves"), count(r.Checkpoint))
	fmt.Fprintf(w, "root\t%s\n", r.Root)
	fmt.Fprintf(w, "database\t%s\n", counted(rows, "row", "rows"))
	fmt.Fprintf(w, "keys\t%s\n", keys)
}

func (a *app) restoreCommand() *cobra.Command {
	var r server.Restoration
	var check bool
	var checkpoints []string
	c := &cobra.Command{
		Use: "restore FILE [DIR]", Short: "Make a data directory and database from a backup, and prove that nothing is missing",
		Long: `restore makes the data directory DIR, which must be empty or not exist, fills the database that the backup's configuration
names, or --database, which must be empty, and then verifies all of it: the log against the signed checkpoint and the
state that the backup was made at, every object against the log. A database in which anything is wrong is not served.

With --database-only the data directory of --dir stays as it is, and only its database, which must be empty or gone, is
filled. The server then notices if the backup is older than what it signed: see "touchmark audit accept-loss".

With --check nothing is made: the backup is restored to a temporary place, verified and removed again.`,
		Example: `  touchmark restore backup.tmbackup --check
  touchmark restore backup.tmbackup /var/lib/touchmark
  touchmark restore backup.tmbackup --dir /var/lib/touchmark --database-only
  touchmark restore backup.tmbackup tm --database 'postgres://touchmark@db.example.com/touchmark' --checkpoint kept`,
		Args: cobra.RangeArgs(1, 2),
	}
	c.Flags().StringVar(&r.Database, "database", "", "database to fill, instead of the configuration's: sqlite:PATH or postgres://USER@HOST/NAME")
	c.Flags().BoolVar(&r.DatabaseOnly, "database-only", false, "keep the data directory of --dir and fill its database")
	c.Flags().StringArrayVar(&checkpoints, "checkpoint", nil, "a checkpoint that you kept, a `file`, which the log must continue; may be repeated")
	c.Flags().BoolVar(&check, "check", false, "try the backup and change nothing")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		dir, remove, err := a.restoreTo(args[1:], check, &r)
		if err != nil {
			return err
		}
		defer remove()
		r.Dir = dir
		for _, file := range checkpoints {
			signed, err := readCheckpoint(file)
			if err != nil {
				return fmt.Errorf("checkpoint: %w", err)
			}
			r.Checkpoints = append(r.Checkpoints, signed)
		}
		done, err := a.restore(cmd.Context(), args[0], r)
		if err != nil {
			return err
		}
		if err := a.tell(done, func(w io.Writer) { a.showRestored(w, done, check) }); err != nil {
			return err
		}
		if !done.Report.OK() {
			return errFound
		}
		return nil
	}
	return a.jsonFlag(c)
}

// restoreTo finds the directory to restore to.
func (a *app) restoreTo(args []string, check bool, r *server.Restoration) (dir string, remove func(), err error) {
	remove = func() {}
	switch {
	case check && (len(args) > 0 || r.DatabaseOnly || r.Database != ""):
		return "", nil, usagef("--check restores to a temporary place: give it neither DIR nor --database")
	case check:
		tmp, err := os.MkdirTemp("", "touchmark-restore-")
		r.Database = "sqlite:check.db"
		return filepath.Join(tmp, "data"), func() { _ = os.RemoveAll(tmp) }, err
	case r.DatabaseOnly && (len(args) > 0 || a.dataDir() == ""):
		return "", nil, usagef("--database-only fills the database of a data directory that is there: name that with --dir")
	case r.DatabaseOnly:
		return a.dataDir(), remove, nil
	case len(args) == 0:
		return "", nil, usagef("where to? Name the data directory to make, or give --database-only or --check")
	}
	return args[0], remove, nil
}

func (a *app) restore(ctx context.Context, file string, r server.Restoration) (done *server.Restored, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	bar := a.bar("Restoring")
	defer bar.done()
	r.Progress = func(stage audit.Stage, done, total int64) {
		bar.what = "Verifying " + string(stage)
		bar.set(done, total)
	}
	return server.Restore(ctx, r, &countedReader{ReadCloser: f, bar: bar, total: info.Size()})
}

func (a *app) showRestored(w io.Writer, done *server.Restored, check bool) {
	showBackup(w, &done.BackupReport)
	showReport(w, done.Report)
	switch {
	case !done.Report.OK():
		fmt.Fprintln(w, "restored\tnothing: no server opens this database")
	case check:
		fmt.Fprintln(w, "restored\tnothing was changed; the backup is whole")
	case done.Keys:
		fmt.Fprintf(w, "restored\tto %s\n", done.Dir)
	default:
		fmt.Fprintf(w, "restored\tto %s; put the private keys into %s before you start the server\n", done.Dir, filepath.Join(done.Dir, "keys"))
	}
}
