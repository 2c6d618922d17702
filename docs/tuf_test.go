package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTUFGuide does what docs/guides/tuf.md says, word for word: in the end the
// second root is in force.
func TestTUFGuide(t *testing.T) {
	w := newWorld(t, "sqlite:touchmark.db")
	dir := t.TempDir()
	if err := os.Symlink(w.dir, filepath.Join(dir, "tm")); err != nil {
		t.Fatal(err)
	}
	path := shim(t, map[string]string{"touchmark": `exec "` + bin + `/touchmark" "$@"`})
	said := ""
	for _, block := range blocks(t, "guides/tuf.md") {
		out, err := script(t, dir, path, block, "TOUCHMARK_SERVER="+w.api)
		if err != nil {
			t.Fatalf("%s: %v\n%s", block, err, out)
		}
		said += out
	}
	for _, want := range []string{"key ID", "root: 2 of 3 keys must sign", "still wants: 1 of the keys of root 1", ", has signed", "tuf-timestamp-2", ", new", ", no longer"} {
		if !strings.Contains(said, want) {
			t.Errorf("the guide's commands did not say %q:\n%s", want, said)
		}
	}
	root := w.cli(t, "tuf", "show")
	if !strings.HasPrefix(root, "root") || !strings.Contains(strings.SplitN(root, "\n", 2)[0], " 2 ") {
		t.Errorf("root 2 is not in force:\n%s", root)
	}
	if out := w.cli(t, "audit", "verify"); !strings.Contains(out, "nothing is wrong") {
		t.Error(out)
	}
}
