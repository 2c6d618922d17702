package audit_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/audit"
)

func newPublisher(t *testing.T, m *memory, path string) *audit.Publisher {
	t.Helper()
	return &audit.Publisher{Store: m, Signer: newSigner(t, 1), Path: path, Log: quiet()}
}

func checkpointPath(t *testing.T) string { return filepath.Join(t.TempDir(), "checkpoint.json") }

// publish publishes and checks that both copies are of the log as it is.
func publish(t *testing.T, p *audit.Publisher, m *memory) {
	t.Helper()
	c, err := p.Publish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.Size != m.head.Size() || c.Root != m.head.Root() {
		t.Fatalf("published %+v of a log of %d leaves", c, m.head.Size())
	}
	for where, signed := range map[string][]byte{"database": m.kept, "file": inFile(t, p.Path)} {
		got, err := audit.OpenCheckpoint(signed, p.Signer.Verifier())
		if err != nil || got != c {
			t.Fatalf("the %s holds %+v, %v; want %+v", where, got, err, c)
		}
	}
}

func inFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var f struct{ Checkpoint string }
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	return []byte(f.Checkpoint)
}

func TestPublish(t *testing.T) {
	m, path := newMemory(), checkpointPath(t)
	p := newPublisher(t, m, path)
	publish(t, p, m) // an empty log has a checkpoint too
	for i := range 40 {
		for range i % 5 {
			m.act("something")
		}
		publish(t, p, m)
		if i%7 == 0 { // the server is started again
			p = newPublisher(t, m, path)
			if err := p.CheckStart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	m.read = 0
	m.act("one more")
	publish(t, p, m)
	publish(t, p, m)
	if m.read != 1 {
		t.Errorf("a checkpoint one leaf on read %d leaves", m.read)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the checkpoint there are %v, %v", entries, err)
	}
}

// TestStarts are the starts that must and must not succeed after 100 leaves
// were published and 10 more written.
func TestStarts(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, m *memory, p *audit.Publisher)
		says   string // "" for a good start
	}{
		"as it was":                  {func(*testing.T, *memory, *audit.Publisher) {}, ""},
		"file lost":                  {func(t *testing.T, _ *memory, p *audit.Publisher) { os.Remove(p.Path) }, ""},
		"database's checkpoint lost": {func(_ *testing.T, m *memory, _ *audit.Publisher) { m.kept, m.size = nil, -1 }, ""},
		"both lost":                  {func(_ *testing.T, m *memory, p *audit.Publisher) { m.kept, m.size = nil, -1; os.Remove(p.Path) }, ""},
		"another server published": {func(t *testing.T, m *memory, _ *audit.Publisher) {
			publish(t, newPublisher(t, m, checkpointPath(t)), m)
		}, ""},
		"another server published, file lost": {func(t *testing.T, m *memory, p *audit.Publisher) {
			publish(t, newPublisher(t, m, checkpointPath(t)), m)
			os.Remove(p.Path)
		}, ""},
		"old backup": {func(_ *testing.T, m *memory, _ *audit.Publisher) {
			old := factory(20)
			m.head, m.leaves, m.kept, m.size = old.head, old.leaves, nil, -1
		}, "the database was rolled back"},
		"old backup and no file": {func(_ *testing.T, m *memory, p *audit.Publisher) {
			old := factory(20)
			m.head, m.leaves = old.head, old.leaves
			os.Remove(p.Path)
		}, "the database's own checkpoint has 103"},
		"new database": {func(_ *testing.T, m *memory, _ *audit.Publisher) {
			m.head, m.leaves, m.kept, m.size = &audit.Tree{}, nil, nil, -1
		}, "ends after 0 leaves"},
		"leaf after the checkpoint changed": {func(_ *testing.T, m *memory, _ *audit.Publisher) {
			m.leaves[105] = []byte("x")
		}, "the log was altered"},
		"leaf after the checkpoint removed": {func(_ *testing.T, m *memory, _ *audit.Publisher) {
			delete(m.leaves, 105)
		}, "leaf 105 is missing"},
		"log rewritten, same size": {func(_ *testing.T, m *memory, _ *audit.Publisher) {
			other := plain(103)
			m.head, m.leaves = other.head, other.leaves
		}, "the log was altered"},
		"log rewritten, longer": {func(_ *testing.T, m *memory, _ *audit.Publisher) {
			other := plain(500)
			m.head, m.leaves = other.head, other.leaves
		}, "the log was altered"},
		"log rewritten, no file": {func(_ *testing.T, m *memory, p *audit.Publisher) {
			other := plain(500)
			m.head, m.leaves = other.head, other.leaves
			os.Remove(p.Path)
		}, "the log was altered"},
		"log rewritten, same size, no file": {func(_ *testing.T, m *memory, p *audit.Publisher) {
			other := plain(103)
			m.head, m.leaves = other.head, other.leaves
			os.Remove(p.Path)
		}, "the log was altered"},
		"another server's checkpoint contradicts": {func(t *testing.T, m *memory, _ *audit.Publisher) {
			other := plain(107)
			m.kept, m.size = sign(t, newSigner(t, 1), other.head), 107
		}, "the log was altered"},
		"another server's checkpoint of the file's size contradicts": {func(t *testing.T, m *memory, _ *audit.Publisher) {
			m.kept = sign(t, newSigner(t, 1), plain(103).head)
		}, "the log was altered"},
		"database of another key": {func(t *testing.T, m *memory, _ *audit.Publisher) {
			m.kept = sign(t, newSigner(t, 2), m.head)
		}, "was the log's key replaced?"},
		"key replaced": {func(t *testing.T, m *memory, p *audit.Publisher) {
			p.Signer = newSigner(t, 2)
			m.kept, m.size = nil, -1
		}, "was the log's key replaced?"},
		"file garbled": {func(t *testing.T, _ *memory, p *audit.Publisher) {
			os.WriteFile(p.Path, []byte("{"), 0o600)
		}, "is damaged"},
		"file's frontier garbled": {func(t *testing.T, _ *memory, p *audit.Publisher) {
			b, _ := os.ReadFile(p.Path)
			i := strings.Index(string(b), `"frontier": "`) + len(`"frontier": "`)
			b[i] ^= 1
			os.WriteFile(p.Path, b, 0o600)
		}, "is damaged"},
		"file too long": {func(t *testing.T, _ *memory, p *audit.Publisher) {
			os.WriteFile(p.Path, make([]byte, 1<<20), 0o600)
		}, "longer than"},
		"database away": {func(_ *testing.T, m *memory, _ *audit.Publisher) { m.failRead = errors.New("away") }, "away"},
		"head away":     {func(_ *testing.T, m *memory, _ *audit.Publisher) { m.failHead = errors.New("away") }, "away"},
	} {
		t.Run(name, func(t *testing.T) {
			m, path := factory(100), checkpointPath(t)
			publish(t, newPublisher(t, m, path), m)
			for range 10 {
				m.act("something")
			}
			p := newPublisher(t, m, path)
			c.change(t, m, p)
			kept := string(m.kept)
			err := p.CheckStart(t.Context())
			if c.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				publish(t, p, m)
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, want one with %q", err, c.says)
			}
			// It stays refused, and nothing is signed.
			if c, err := p.Publish(t.Context()); err == nil {
				t.Fatalf("published %+v", c)
			}
			if string(m.kept) != kept {
				t.Fatal("another checkpoint was saved")
			}
		})
	}
}

// TestNothingAlteredIsSigned alters the log while the server runs.
func TestNothingAlteredIsSigned(t *testing.T) {
	for name, change := range map[string]func(m *memory){
		"changed": func(m *memory) { m.leaves[104] = []byte("x") },
		"removed": func(m *memory) { delete(m.leaves, 104) },
		"rolled back": func(m *memory) {
			old := factory(50)
			m.head, m.leaves = old.head, old.leaves
		},
		"rewritten": func(m *memory) {
			other := plain(200)
			m.head, m.leaves = other.head, other.leaves
		},
		"rewritten, same size": func(m *memory) {
			other := plain(103)
			m.head, m.leaves = other.head, other.leaves
		},
	} {
		m := factory(100)
		p := newPublisher(t, m, checkpointPath(t))
		publish(t, p, m)
		kept := string(m.kept)
		m.act("something")
		m.act("something")
		change(m)
		if c, err := p.Publish(t.Context()); err == nil {
			t.Errorf("%s: published %+v", name, c)
		}
		if string(m.kept) != kept || string(inFile(t, p.Path)) != kept {
			t.Errorf("%s: a checkpoint was signed", name)
		}
	}
}

// TestPublishSurvivesFaults lets each write fail both ways, lost and done
// nevertheless, and goes on with the same publisher and with a new one.
func TestPublishSurvivesFaults(t *testing.T) {
	for _, persist := range []bool{false, true} {
		for _, restart := range []bool{false, true} {
			m, path := factory(5), checkpointPath(t)
			p := newPublisher(t, m, path)
			publish(t, p, m)
			m.act("something")
			m.failSave, m.persist = errors.New("connection lost"), persist
			if _, err := p.Publish(t.Context()); !errors.Is(err, m.failSave) {
				t.Fatalf("error %v, want that of the database", err)
			}
			m.failSave = nil
			if restart {
				p = newPublisher(t, m, path)
				if err := p.CheckStart(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			publish(t, p, m)
		}
	}
	// A file that cannot be written keeps the checkpoint from the database.
	m := factory(5)
	p := newPublisher(t, m, filepath.Join(t.TempDir(), "no such directory", "checkpoint.json"))
	if _, err := p.Publish(t.Context()); err == nil || m.kept != nil {
		t.Errorf("error %v, saved %q", err, m.kept)
	}
	if err := os.Mkdir(filepath.Dir(p.Path), 0o700); err != nil {
		t.Fatal(err)
	}
	publish(t, p, m)
}

func TestTwoPublishers(t *testing.T) {
	m := factory(3)
	a, b := newPublisher(t, m, checkpointPath(t)), newPublisher(t, m, checkpointPath(t))
	for i := range 10 {
		m.act("something")
		publish(t, a, m)
		if i%3 == 0 {
			publish(t, b, m)
		}
	}
	if err := newPublisher(t, m, b.Path).CheckStart(t.Context()); err != nil {
		t.Error(err)
	}
}
