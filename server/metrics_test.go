package server

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"
)

// The dashboard shows every metric of the server, the administrator's guide
// describes each, and neither they nor the alerting rules name another.
func TestMetricsAreShownAndDescribed(t *testing.T) {
	s, err := New(t.Context(), initialized(t, Plan{}), Environment{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(t.Context())
	metrics := described(s.metrics.registry)
	if len(metrics) < 25 {
		t.Fatalf("only %d metrics are seen: %v", len(metrics), metrics)
	}
	dashboard := strings.Join(expressions(t, "../deploy/grafana.json", json.Unmarshal), "\n")
	alerts := strings.Join(expressions(t, "../deploy/alerts.yaml", func(b []byte, v any) error { return yaml.Unmarshal(b, v) }), "\n")
	guide := string(file(t, "../docs/guides/administrator.md"))
	for what, text := range map[string]string{"the dashboard": dashboard, "an alert": alerts, "the guide": guide} {
		used := metricName.FindAllString(text, -1)
		if len(used) < 5 {
			t.Errorf("%s: only %d metrics are seen", what, len(used))
		}
		for _, name := range used {
			if !slices.Contains(metrics, series(name)) {
				t.Errorf("%s names %s, which the server does not have", what, name)
			}
		}
	}
	for _, name := range metrics {
		whole := regexp.MustCompile(name + `(_bucket|_sum|_count)?\b`)
		if !whole.MatchString(dashboard) && name != "touchmark_build_info" { // which its variable asks for
			t.Errorf("the dashboard does not show %s", name)
		}
		if !regexp.MustCompile("`" + name + "[`{]").MatchString(guide) {
			t.Errorf("docs/guides/administrator.md does not describe %s", name)
		}
	}
}

var metricName = regexp.MustCompile(`\btouchmark_[a-z_]+`)

// series is the metric that a name in an expression belongs to.
func series(name string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} { // of a histogram
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

// described lists the program's own metrics, seen or not.
func described(r *prometheus.Registry) (names []string) {
	descs := make(chan *prometheus.Desc)
	go func() { defer close(descs); r.Describe(descs) }()
	fqName := regexp.MustCompile(`fqName: "(touchmark_[a-z_]+)"`)
	for d := range descs {
		if m := fqName.FindStringSubmatch(d.String()); m != nil {
			names = append(names, m[1])
		}
	}
	return names
}

// expressions collects the PromQL of a file, wherever it is in it.
func expressions(t *testing.T, path string, decode func([]byte, any) error) (list []string) {
	t.Helper()
	var whole any
	if err := decode(file(t, path), &whole); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if e, ok := v["expr"].(string); ok {
				list = append(list, e)
			}
			for _, below := range v {
				walk(below)
			}
		case []any:
			for _, below := range v {
				walk(below)
			}
		}
	}
	walk(whole)
	return list
}

func file(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
