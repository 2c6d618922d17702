package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestObservations(t *testing.T) {
	w := newWorld(t)
	broker := filepath.Join(t.TempDir(), "broker")
	w.admin(t, "operator", "add", "broker", "--role", "reporter", "--out", broker).want(t, 0)
	var lines strings.Builder
	for i := range 1500 {
		fmt.Fprintf(&lines, "{\"certificate\":\"%034x\",\"event\":\"connect\",\"at\":%q,\"address\":\"192.0.2.7\"}\n", i%3+1, time.Now().Add(-time.Duration(i)*time.Second).Format(time.RFC3339))
	}
	file := filepath.Join(t.TempDir(), "seen.jsonl")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(lines.String())
	touchmark(t, "--dir", broker, "observation", "report", file, "--source", "gate-7").want(t, 0, "1500 of unknown certificates")
	w.admin(t, "evidence", "list", "--kind", "unknown-certificate").want(t, 0, "gate-7")
	w.admin(t, "observation", "report", file).want(t, exitFailed, "report observations")
	write("{\"certificate\":\"0a\",\"event\":\"connect\",\"at\":\"2020-01-01T00:00:00Z\",\"address\":\"192.0.2.7\"}\n")
	touchmark(t, "--dir", broker, "observation", "report", file).want(t, exitFailed, "lines 1 to 1", "days ago", "observations[0]")
	write("{\"certificat\":\"0a\"}\n")
	touchmark(t, "--dir", broker, "observation", "report", file).want(t, exitFailed, "line 1 is no observation", "certificat")
}
