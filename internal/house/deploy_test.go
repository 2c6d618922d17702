package house

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/server"
)

func TestSampleConfiguration(t *testing.T) {
	if _, err := server.LoadConfig(filepath.Join("..", "..", "deploy", "touchmark.yaml")); err != nil {
		t.Error(err)
	}
}

var metric = regexp.MustCompile(`touchmark_[a-z_]+`)

// TestDashboard holds the dashboard to the metrics that the server has.
func TestDashboard(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "grafana.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b) {
		t.Fatal("deploy/grafana.json is not JSON")
	}
	source, err := os.ReadFile(filepath.Join("..", "..", "server", "metrics.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := metric.FindAllString(string(b), -1)
	if len(names) < 10 {
		t.Fatalf("the dashboard shows only %d metrics: the test does not see them", len(names))
	}
	for _, name := range names {
		series := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} { // of a histogram
			series = strings.TrimSuffix(series, suffix)
		}
		if !strings.Contains(string(source), `"`+series+`"`) {
			t.Errorf("the dashboard shows %s, which the server does not have", name)
		}
	}
}
