package api

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"github.com/touchmark/touchmark/internal/audit"
)

// LogProver proves leaves under the newest checkpoint. It is a [Prover].
type LogProver struct {
	Checkpoints audit.CheckpointReader
	Tiles       *audit.Tiles
	Verifier    note.Verifier
}

// Prove makes the proof of a leaf.
func (p LogProver) Prove(ctx context.Context, leaf int64) (*audit.Proof, error) {
	signed, err := p.Checkpoints.LastCheckpoint(ctx)
	if err != nil {
		return nil, fmt.Errorf("newest checkpoint: %w", err)
	}
	if signed == nil {
		return nil, fmt.Errorf("leaf %d, no checkpoint at all: %w", leaf, audit.ErrNotPublished)
	}
	return p.Tiles.Prove(ctx, leaf, signed, p.Verifier)
}
