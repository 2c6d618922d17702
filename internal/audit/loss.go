package audit

import (
	"context"
	"fmt"

	"github.com/touchmark/touchmark/internal/durable"
)

// Loss is what a log lacks of what was signed.
type Loss struct {
	Signed Checkpoint `json:"signed"` // in the checkpoint file
	Have   int64      `json:"have"`   // leaves in the database
}

// Loss tells whether the database is older than the checkpoint in the file;
// nil if it is not. A log that is not the beginning of anything that it says
// itself is an error: that is no loss, but damage.
func (p *Publisher) Loss(ctx context.Context) (*Loss, error) {
	file, err := readCheckpointFile(p.Path, p.Signer.Verifier())
	if err != nil || file == nil {
		return nil, err
	}
	head, err := p.Store.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the log's head: %w", err)
	}
	if file.Size() <= head.Size() {
		return nil, nil
	}
	whole := &Publisher{Store: p.Store, Signer: p.Signer, Path: p.Path + ".none", Log: p.Log}
	if err := whole.CheckStart(ctx); err != nil {
		return nil, err
	}
	return &Loss{Signed: Checkpoint{Origin: p.Signer.Name(), Size: file.Size(), Root: file.Root()}, Have: head.Size()}, nil
}

// SetAside renames the checkpoint file, so that the log can go on without
// what was lost, and tells its new name. The database must say so first:
// after a crash in between the act is in the log twice, but never missing.
func (p *Publisher) SetAside(l *Loss) (path string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tree = nil
	path = fmt.Sprintf("%s.lost-%d", p.Path, l.Signed.Size)
	return path, durable.Rename(p.Path, path)
}
