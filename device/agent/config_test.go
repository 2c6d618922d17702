package agent

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestSample reads the configuration that ships, as it is and with everything
// in it that is commented out.
func TestSample(t *testing.T) {
	sample := filepath.Join("..", "..", "deploy", "touchmark-agent.yaml")
	c, err := Load(sample)
	if err != nil || c.Dir != "/var/lib/touchmark-agent" || c.Refused != time.Hour || c.Files.Mode != 0o644 {
		t.Errorf("the sample reads as %+v: %v", c, err)
	}
	b, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	full := regexp.MustCompile(`(?m)^#(\S|  )`).ReplaceAllString(string(b), "$1")
	full = strings.Replace(full, "serial-file:", "#", 1) // there may be none
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(file, []byte(full), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err = Load(file)
	if err != nil || c.MQTT == "" || c.Files.Bundle == "" || len(c.Hook.Command) != 3 || c.CodeFile == "" {
		t.Errorf("the whole sample reads as %+v: %v\n%s", c, err, full)
	}
}
