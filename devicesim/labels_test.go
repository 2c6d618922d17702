package devicesim_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device/devicetest"
	"github.com/touchmark/touchmark/devicesim"
)

func TestStickLabels(t *testing.T) {
	units := func() []*devicesim.Unit { return []*devicesim.Unit{{Serial: "A"}, {Serial: "B"}, {Serial: "C"}} }
	list := units()
	if err := devicesim.StickLabels(list, strings.NewReader("id,code,serial\n1,one,\n2,two,B\n3,three,\n4,four,\n")); err != nil {
		t.Fatal(err)
	}
	if got := list[0].Code + " " + list[1].Code + " " + list[2].Code; got != "one two three" {
		t.Errorf("the units have %s", got)
	}
	for text, want := range map[string]string{"": "empty", "a,b\n": "columns", "code,serial\none,\ntwo,\n": "none left for C", "code,serial\none\n": "labels: "} {
		if err := devicesim.StickLabels(units(), strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestFleetByCode(t *testing.T) {
	s := devicetest.New(t)
	s.Code = "7K3M-9QXT-2VWB-5HNC"
	units := build(t, 3)
	for _, u := range units[1:] {
		u.Code = s.Code
	}
	units[2].Code = "0000-0000-0000-0000"
	f := devicesim.Fleet{Servers: []devicesim.Server{serverOf(s)}, Units: units, Workers: 1, Retry: time.Millisecond, Activate: true, Renewals: 1}
	var verdicts []string
	for _, r := range f.Run(context.Background()) {
		verdicts = append(verdicts, r.Verdict)
	}
	if got := strings.Join(verdicts, " "); got != "refused admitted refused" {
		t.Errorf("the units were %s", got)
	}
}
