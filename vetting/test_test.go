package vetting_test

import (
	"strings"
	"testing"

	"github.com/touchmark/touchmark/vetting"
)

// The person on the line is told what the rig found, and what to do.
func TestFailedTestInWords(t *testing.T) {
	for _, c := range []struct {
		given change
		want  []string
	}{
		{with(failedTest)[0], []string{"failed at rig rig-7, station FCT-2", "rssi is -95 dBm (limit >= -80)", "passes a later test"}},
		{func(f *vetting.Facts) { issued(f); failedTest(f) }, []string{"replace the unit"}},
		{func(f *vetting.Facts) {
			f.Device.Test = &vetting.TestResult{Rig: "rig-7", Note: "cracked", Tests: []vetting.Test{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}}
		}, []string{"a; b; c; …; cracked"}},
	} {
		f := facts()
		c.given(&f)
		text := vetting.Judge(f).Text()
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in %q", want, text)
			}
		}
	}
}
