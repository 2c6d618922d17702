package audit

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
)

// PublisherStore is what a [Publisher] needs of the database.
type PublisherStore interface {
	LeafReader
	CheckpointReader
	// Head returns the tree. Its leaves are committed.
	Head(ctx context.Context) (*Tree, error)
	// SaveCheckpoint keeps a signed note durably if its size is greater than
	// that of the kept one, and otherwise does nothing.
	SaveCheckpoint(ctx context.Context, size int64, signed []byte) error
}

// Publisher signs checkpoints of a growing log. It signs nothing that does
// not extend what was signed before: each time it reads the leaves that came
// since the last checkpoint, adds them to the tree it signed then, and
// compares the result with the head that the database keeps.
//
// A checkpoint is written to a file before it is saved in the database, from
// where it is published. So whatever anybody may have seen is in the file,
// and a database that is restored from a backup does not go unnoticed.
//
// Several servers may publish the same log, each with its own file.
type Publisher struct {
	Store  PublisherStore
	Signer *Signer
	// Path of the checkpoint file, in the data directory.
	Path string
	Log  *slog.Logger

	mu   sync.Mutex
	tree *Tree // the log as far as it was checked; nil before the start
	// saved is the size up to which both the file and the database have a
	// checkpoint; -1 if one of them has none.
	saved int64
}

// CheckStart refuses a log that is not the continuation of what was signed:
// whose database is older than the checkpoint in the file or its own, whose
// leaves were altered, or whose checkpoints were signed with another key. A
// server calls it before it appends anything. Without the file, or if it is
// behind the database's checkpoint by much, this reads many leaves.
func (p *Publisher) CheckStart(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.start(ctx)
}

// Publish signs and saves a checkpoint of the log as it is now, unless the
// newest one covers all of it, and returns the newest one. An error means
// that nothing new was published; calling again is safe.
func (p *Publisher) Publish(ctx context.Context) (Checkpoint, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tree == nil {
		if err := p.start(ctx); err != nil {
			return Checkpoint{}, err
		}
	}
	head, err := p.Store.Head(ctx)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("read the log's head: %w", err)
	}
	if err := p.follow(ctx, head, nil); err != nil {
		return Checkpoint{}, err
	}
	newest := Checkpoint{Origin: p.Signer.Name(), Size: p.tree.Size(), Root: p.tree.Root()}
	if newest.Size <= p.saved {
		return newest, nil
	}
	if err := p.save(ctx); err != nil {
		return Checkpoint{}, err
	}
	return newest, nil
}

func (p *Publisher) save(ctx context.Context) error {
	signed, err := p.Signer.SignCheckpoint(p.tree)
	if err != nil {
		return err
	}
	if err := writeCheckpointFile(p.Path, checkpointFile{string(signed), p.tree.Frontier()}); err != nil {
		return fmt.Errorf("keep the checkpoint of %d leaves: %w", p.tree.Size(), err)
	}
	if err := p.Store.SaveCheckpoint(ctx, p.tree.Size(), signed); err != nil {
		return fmt.Errorf("save the checkpoint of %d leaves: %w", p.tree.Size(), err)
	}
	p.saved = p.tree.Size()
	return nil
}

// start finds where to go on from: the file's checkpoint, or the beginning.
func (p *Publisher) start(ctx context.Context) error {
	kept, err := p.database(ctx)
	if err != nil {
		return err
	}
	file, err := readCheckpointFile(p.Path, p.Signer.Verifier())
	if err != nil {
		return err
	}
	head, err := p.Store.Head(ctx)
	if err != nil {
		return fmt.Errorf("read the log's head: %w", err)
	}
	p.saved = -1
	if kept != nil {
		if file != nil {
			p.saved = min(kept.Size, file.Size())
		}
		if err := behind(head, *kept, "the database's own checkpoint"); err != nil {
			return err
		}
	}
	switch {
	case file != nil:
		c := Checkpoint{Origin: p.Signer.Name(), Size: file.Size(), Root: file.Root()}
		if err := behind(head, c, p.Path); err != nil {
			return err
		}
		p.tree = file
	case kept != nil && kept.Size == head.Size():
		p.tree = head // of the root that was signed, says behind
		return nil
	default:
		p.Log.LogAttrs(ctx, slog.LevelInfo, "no checkpoint file: reading the whole audit log once",
			slog.String("path", p.Path), slog.Int64("leaves", head.Size()))
		p.tree = &Tree{}
	}
	if err := p.follow(ctx, head, kept); err != nil {
		p.tree = nil
		return err
	}
	return nil
}

// database reads and checks the checkpoint that the database keeps; nil if
// it keeps none.
func (p *Publisher) database(ctx context.Context) (*Checkpoint, error) {
	signed, err := p.Store.LastCheckpoint(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the database's checkpoint: %w", err)
	}
	if signed == nil {
		return nil, nil
	}
	c, err := OpenCheckpoint(signed, p.Signer.Verifier())
	if err != nil {
		return nil, fmt.Errorf("the database's checkpoint: %w; is this the database of another installation, or was the log's key replaced? Start with the key and database that belong together", err)
	}
	return &c, nil
}

// follow adds the leaves up to the head and compares. On the way it passes
// the checkpoint kept, unless that is nil or behind.
func (p *Publisher) follow(ctx context.Context, head *Tree, kept *Checkpoint) error {
	from, to := p.tree.Size(), head.Size()
	if to < from {
		return behind(head, Checkpoint{Size: from}, "what this server read before")
	}
	t := *p.tree
	check := func() error {
		if kept != nil && t.Size() == kept.Size && t.Root() != kept.Root {
			return altered("the database's own checkpoint", kept.Size)
		}
		return nil
	}
	if err := check(); err != nil {
		return err
	}
	err := eachLeaf(ctx, p.Store, from, to, func(body []byte) error {
		t.Append(body)
		return check()
	})
	if err != nil {
		return fmt.Errorf("follow the log from leaf %d to %d: %w", from, to, err)
	}
	if t.Root() != head.Root() {
		return altered("the log's head", to)
	}
	p.tree = &t
	return nil
}

// behind reports a log that lost leaves since a checkpoint, or that is of
// the checkpoint's size but differs.
func behind(head *Tree, c Checkpoint, where string) error {
	switch {
	case head.Size() < c.Size:
		return fmt.Errorf("the database's log ends after %d leaves, but %s has %d: the database was rolled back, perhaps restored from an old backup. "+
			"Restore the newest one. If what came after it is gone for good, \"touchmark audit accept-loss\" goes on without it and writes that into the log; "+
			"every holder of the lost checkpoint can prove that the log forked",
			head.Size(), where, c.Size)
	case head.Size() == c.Size && head.Root() != c.Root:
		return altered(where, c.Size)
	}
	return nil
}

func altered(where string, size int64) error {
	return fmt.Errorf("the log was altered: its first %d leaves do not have the root hash that %s has. Run \"touchmark audit verify\" to see what changed, "+
		"and restore the database from a backup that is sound", size, where)
}
