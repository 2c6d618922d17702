package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/mod/sumdb/note"

	"github.com/touchmark/touchmark/internal/durable"
)

// checkpointFile is the newest checkpoint that a server signed, with what is
// needed to go on from it. The frontier needs no signature: it must give the
// checkpoint's root.
type checkpointFile struct {
	Checkpoint string `json:"checkpoint"`
	Frontier   []byte `json:"frontier"`
}

// readCheckpointFile returns the tree that the file's checkpoint is of; nil
// if there is no file.
func readCheckpointFile(path string, v note.Verifier) (*Tree, error) {
	b, err := readLimited(path, 2*MaxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint file: %w", err)
	}
	var f checkpointFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("the checkpoint file %s is damaged: %w. Put it back from a backup; without it nobody notices here if the database is older than what was signed", path, err)
	}
	c, err := OpenCheckpoint([]byte(f.Checkpoint), v)
	if err != nil {
		return nil, fmt.Errorf("the checkpoint file %s: %w; is it of another installation, or was the log's key replaced? Start with the key and file that belong together", path, err)
	}
	t, err := OpenTree(c.Size, f.Frontier)
	if err != nil || t.Root() != c.Root {
		return nil, fmt.Errorf("the checkpoint file %s is damaged: its frontier does not give the root that was signed. Put it back from a backup", path)
	}
	return t, nil
}

func readLimited(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s is longer than %d bytes", path, most)
	}
	return b, err
}

// writeCheckpointFile replaces the file so that after a crash the old one or
// the new one is there, whole.
func writeCheckpointFile(path string, f checkpointFile) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return durable.Replace(path, append(b, '\n'), 0o644)
}
