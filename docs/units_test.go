package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestUnits has systemd read the units of deploy, which must have nothing to
// say about them: what it does not know it would ignore.
func TestUnits(t *testing.T) {
	dir := t.TempDir()
	verify := func(unit, text string) string {
		file := filepath.Join(dir, unit)
		text = regexp.MustCompile(`(?m)^(Exec\w+=)/usr/local/bin/`).ReplaceAllString(text, "${1}"+bin+"/")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput()
		if err != nil {
			return err.Error() + "\n" + string(out)
		}
		return string(out)
	}
	for _, unit := range []string{"touchmark.service", "touchmark-agent.service"} {
		text := read(t, "../deploy/"+unit)
		if complaint := verify(unit, text); complaint != "" {
			t.Errorf("%s: %s", unit, complaint)
		}
		if complaint := verify(unit, strings.Replace(text, "ProtectHome=", "ProtectHom=", 1)); !strings.Contains(complaint, "ProtectHom") {
			t.Errorf("a setting that does not exist is not found in %s: %s", unit, complaint)
		}
	}
}
