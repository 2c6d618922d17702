package house

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	shownBy   = regexp.MustCompile("`([a-z0-9/-]+)` (Test[A-Za-z]+(?:, Test[A-Za-z]+)*)")
	anyTest   = regexp.MustCompile(`Test[A-Z][A-Za-z]+`)
	attackRow = regexp.MustCompile(`(?m)^\| .* \|$`)
)

// TestAttacksAreTested holds docs/security.md to the tests that it names:
// each line names one at least, and each is where the page says.
func TestAttacksAreTested(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, line := range attackRow.FindAllString(string(page), -1) {
		if strings.HasPrefix(line, "| attack ") || strings.HasPrefix(line, "| ---") {
			continue
		}
		rows++
		named := 0
		for _, m := range shownBy.FindAllStringSubmatch(line, -1) {
			for _, name := range strings.Split(m[2], ", ") {
				named++
				if !hasTest(t, filepath.Join(root, filepath.FromSlash(m[1])), name) {
					t.Errorf("docs/security.md names %s of %s, which is not there", name, m[1])
				}
			}
		}
		if all := len(anyTest.FindAllString(line, -1)); named == 0 || named != all {
			t.Errorf("%d of %d tests are named with their package in: %s", named, all, line)
		}
	}
	if rows < 30 {
		t.Errorf("only %d attacks were found: the test does not see the tables", rows)
	}
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "func "+name+"(") {
			return true
		}
	}
	return false
}
