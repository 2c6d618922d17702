package house

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// TestDependenciesAreDocumented holds docs/dependencies.md to go.mod, in both
// directions.
func TestDependenciesAreDocumented(t *testing.T) {
	root := filepath.Join("..", "..")
	b, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", b, nil)
	if err != nil {
		t.Fatal(err)
	}
	documented := tableOf(t, filepath.Join(root, "docs", "dependencies.md"))
	for _, r := range mod.Require {
		if r.Indirect {
			continue
		}
		if !documented[r.Mod.Path] {
			t.Errorf("docs/dependencies.md does not tell why %s is needed and under which licence", r.Mod.Path)
		}
		delete(documented, r.Mod.Path)
	}
	for path := range documented {
		t.Errorf("docs/dependencies.md lists %s, which go.mod does not require directly", path)
	}
}

// tableOf gives the first column of a page's first table.
func tableOf(t *testing.T, file string) map[string]bool {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(line, "|")
		if len(cells) > 2 && strings.Contains(cells[1], "/") {
			rows[strings.TrimSpace(cells[1])] = true
		}
	}
	return rows
}

var markdownLink = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)

// TestLinksOfTheDocumentation follows every relative link in the Markdown
// files.
func TestLinksOfTheDocumentation(t *testing.T) {
	root := filepath.Join("..", "..")
	links := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && file != root && passedOver(file, d.Name()) {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(file) != ".md" {
			return nil
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, m := range markdownLink.FindAllStringSubmatch(string(b), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s links to %s, which is not there", file, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if links == 0 {
		t.Error("no link was found: the test does not see the documentation")
	}
}
