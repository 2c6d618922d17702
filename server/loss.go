package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/store"
)

// AcceptedLoss tells what was given up.
type AcceptedLoss struct {
	audit.Loss
	Leaf int64  `json:"leaf"` // where the log says so
	Kept string `json:"kept"` // the checkpoint file that the log does not continue
}

// AcceptLoss lets a server go on with a database that is older than what it
// signed, because it was restored from a backup and what came after is gone
// for good. agree is asked before anything is changed. The log gets a leaf
// that says so; a result of nil means that nothing is lost.
func AcceptLoss(ctx context.Context, c *Config, note string, agree func(audit.Loss) error, env Environment) (done *AcceptedLoss, err error) {
	env = env.complete()
	a, err := ca.Open(ctx, c.Places(), env.Now())
	if err != nil {
		return nil, err
	}
	signer, err := audit.NewSigner(c.Audit.Origin, a.Log)
	if err != nil {
		return nil, err
	}
	db, err := store.Open(ctx, store.Options{DSN: c.DSN(), Log: env.Log, Now: env.Now})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Bind(ctx, a.Name()); err != nil {
		return nil, err
	}
	p := &audit.Publisher{Store: db, Signer: signer, Path: c.checkpointFile(), Log: env.Log}
	loss, err := p.Loss(ctx)
	if err != nil || loss == nil {
		return nil, err
	}
	if err := agree(*loss); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("the log was signed with %d leaves and the root %s; of these only %d are left, and it goes on from there: %s",
		loss.Signed.Size, loss.Signed.Root, loss.Have, note)
	done = &AcceptedLoss{Loss: *loss}
	if done.Leaf, err = db.AcceptLoss(ctx, text); err != nil {
		return nil, err
	}
	if done.Kept, err = p.SetAside(loss); err != nil {
		return nil, err
	}
	_, err = p.Publish(ctx)
	return done, err
}
