package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/touchmark/touchmark/internal/audit"
)

// publishing keeps the audit log published and knows whether that works.
type publishing struct {
	publisher *audit.Publisher
	metrics   *metrics
	now       func() time.Time
	patience  time.Duration // how long failures are no reason to be unready

	mu     sync.Mutex
	good   time.Time // when it last worked
	failed error     // since then
}

// run publishes at every tick until ctx ends.
func (p *publishing) run(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			if err := p.publish(ctx); err != nil && ctx.Err() == nil {
				p.publisher.Log.ErrorContext(ctx, "the audit log's checkpoint was not published; it is tried again", "error", err)
			}
		}
	}
}

func (p *publishing) publish(ctx context.Context) error {
	c, err := p.publisher.Publish(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed = err; err != nil {
		p.metrics.unpublished.Inc()
		return err
	}
	p.good = p.now()
	p.metrics.checkpoint.Set(float64(c.Size))
	p.metrics.published.Set(float64(p.good.Unix()))
	return nil
}

// check fails when publishing has failed for longer than one hiccup takes.
func (p *publishing) check(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.failed == nil:
		return nil
	case p.now().Sub(p.good) > p.patience:
		return fmt.Errorf("no checkpoint of the audit log could be published since %s: %w", p.good.Format(time.RFC3339), p.failed)
	}
	return nil
}

// prover proves leaves under the newest checkpoint; it implements api.Prover.
type prover struct {
	checkpoints audit.CheckpointReader
	tiles       *audit.Tiles
	verifier    note.Verifier
}

func (p prover) Prove(ctx context.Context, leaf int64) (*audit.Proof, error) {
	signed, err := p.checkpoints.LastCheckpoint(ctx)
	if err != nil {
		return nil, err
	}
	if signed == nil {
		return nil, fmt.Errorf("leaf %d: %w", leaf, audit.ErrNotPublished)
	}
	proof, err := p.tiles.Prove(ctx, leaf, signed, p.verifier)
	if err != nil && !errors.Is(err, audit.ErrNotPublished) {
		return nil, fmt.Errorf("prove leaf %d: %w", leaf, err)
	}
	return proof, err
}
