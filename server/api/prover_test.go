package api_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/server/api"
)

// log is an audit log in memory.
type log struct {
	tree   audit.Tree
	leaves [][]byte
	signed []byte
	err    error
}

func (l *log) add(text string) {
	l.tree.Append([]byte(text))
	l.leaves = append(l.leaves, []byte(text))
}

func (l *log) LastCheckpoint(context.Context) ([]byte, error) { return l.signed, l.err }

func (l *log) Leaves(_ context.Context, from, to int64, fn func(int64, []byte) error) error {
	for i := from; i < min(to, int64(len(l.leaves))); i++ {
		if err := fn(i, l.leaves[i]); err != nil {
			return err
		}
	}
	return nil
}

func TestLogProver(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := audit.NewSigner("test.example/log", key)
	if err != nil {
		t.Fatal(err)
	}
	l := &log{}
	p := api.LogProver{Checkpoints: l, Tiles: audit.NewTiles(l), Verifier: signer.Verifier()}
	for _, text := range []string{`{"act":"a"}`, `{"act":"b"}`, `{"act":"c"}`} {
		l.add(text)
	}
	if _, err := p.Prove(t.Context(), 1); !errors.Is(err, audit.ErrNotPublished) {
		t.Errorf("without a checkpoint: %v", err)
	}
	root := l.tree.Root()
	text := "test.example/log\n3\n" + root.String() + "\n"
	if l.signed, err = note.Sign(&note.Note{Text: text}, signer); err != nil {
		t.Fatal(err)
	}
	proof, err := p.Prove(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if leaf, _, err := proof.Check(signer.Verifier()); err != nil || leaf.Act != "b" {
		t.Errorf("leaf %+v, %v", leaf, err)
	}
	l.add(`{"act":"d"}`)
	if _, err := p.Prove(t.Context(), 3); !errors.Is(err, audit.ErrNotPublished) {
		t.Errorf("beyond the checkpoint: %v", err)
	}
	l.err = errors.New("database gone")
	if _, err := p.Prove(t.Context(), 1); !errors.Is(err, l.err) {
		t.Errorf("got %v", err)
	}
}
