// Package atomicfile writes files that are whole after a power cut: the old
// content or the new one, and never with another owner or mode than wanted.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Look is who may do what with a file.
type Look struct {
	Mode     fs.FileMode
	UID, GID int // -1 leaves it to the process
}

// Private is a file for the process's user alone.
var Private = Look{Mode: 0o600, UID: -1, GID: -1}

// leftover ends the name of a file that is being written, and may stay
// behind when power is cut.
const leftover = ".tmp"

// Write writes beside the target, makes that durable, and only then renames.
// A left-over of an earlier cut is removed. If it fails, the target is as it
// was.
func Write(path string, data []byte, look Look) error {
	tmp := path + leftover
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// O_EXCL does not follow a link that somebody put there.
	file, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = fill(file, data, look)
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return SyncDir(filepath.Dir(path))
}

func fill(file *os.File, data []byte, look Look) error {
	if look.UID >= 0 || look.GID >= 0 {
		if err := file.Chown(look.UID, look.GID); err != nil {
			return err
		}
	}
	if err := file.Chmod(look.Mode); err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return err
	}
	return file.Sync()
}

// Remove removes a file and the left-over of a cut while it was written, and
// makes that durable. A file that is not there is none.
func Remove(path string) error {
	for _, name := range []string{path, path + leftover} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes what was renamed in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("make changes in %s durable: %w", dir, err)
	}
	return nil
}
