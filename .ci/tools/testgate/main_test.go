package main

import (
	"strings"
	"testing"
)

func TestGate(t *testing.T) {
	pass := `{"Action":"output","Package":"p","Test":"TestA","Output":"secret of a passed test\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`
	for _, c := range []struct {
		name, in, err, shown string
	}{
		{"all pass", pass, "", "ok  \tp"},
		{"nothing ran", "", "no test was run", ""},
		{"a test fails", pass + `{"Action":"output","Package":"p","Test":"TestB","Output":"b_test.go:7: no\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
`, "failed: p.TestB", "b_test.go:7: no"},
		{"a test is skipped", pass + `{"Action":"output","Package":"p","Test":"TestC","Output":"needs a database\n"}
{"Action":"skip","Package":"p","Test":"TestC"}
`, "p.TestC", "needs a database"},
		{"a package without tests", pass + `{"Action":"skip","Package":"q"}` + "\n", "", ""},
		{"a package does not build", pass + `{"ImportPath":"q","Action":"build-output","Output":"q.go:1: undefined\n"}
{"Action":"fail","Package":"q","FailedBuild":"q"}
`, "failed packages: q", "undefined"},
		{"a line that is no event", pass + "go: something odd\n", "", "something odd"},
	} {
		var out strings.Builder
		sum, err := read(strings.NewReader(c.in), &out)
		if err != nil {
			t.Fatal(err)
		}
		err = sum.verdict()
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: verdict %v, want %q", c.name, err, c.err)
		}
		if !strings.Contains(out.String(), c.shown) || strings.Contains(out.String(), "secret") {
			t.Errorf("%s: printed %q, want %q and nothing of passed tests", c.name, &out, c.shown)
		}
	}
}
