package store

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

func TestReader(t *testing.T) {
	ctx := t.Context()
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "db")
	if _, err := OpenReader(ctx, dsn); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
	s, err := Open(ctx, Options{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Bind(ctx, "aa"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateSite(ctx, access.Act{Operator: "o"}, &vetting.Site{Name: "s"}); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if name, err := r.Authority(ctx); name != "aa" || err != nil {
		t.Errorf("authority %q, %v", name, err)
	}
	if head, err := r.Head(ctx); err != nil || head.Size() == 0 {
		t.Errorf("head %v, %v", head, err)
	}
	if _, err := r.store.CreateSite(ctx, access.Act{}, &vetting.Site{Name: "x"}); !errors.Is(err, errClosed) {
		t.Errorf("a reader wrote: %v", err)
	}
}

func TestReaderKnowsSchemas(t *testing.T) {
	ctx := t.Context()
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "db")
	s, err := Open(ctx, Options{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	set := func(version int64) {
		t.Helper()
		if _, err := s.db.(*sqlite).pool.ExecContext(ctx, `DELETE FROM goose_db_version WHERE version_id > 0`); err != nil {
			t.Fatal(err)
		}
		if _, err := s.db.(*sqlite).pool.ExecContext(ctx, `INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, 1)`, version); err != nil {
			t.Fatal(err)
		}
	}
	var newer *NewerSchemaError
	var older *OlderSchemaError
	if set(99); !errors.As(openError(t, dsn), &newer) || newer.Have != 99 {
		t.Errorf("newer: %v", newer)
	}
	if set(0); !errors.As(openError(t, dsn), &older) || older.Have != 0 {
		t.Errorf("older: %v", older)
	}
}

func openError(t *testing.T, dsn string) error {
	t.Helper()
	r, err := OpenReader(t.Context(), dsn)
	if err == nil {
		r.Close()
	}
	return err
}
