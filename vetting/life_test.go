package vetting_test

import (
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

func TestLifeIsChecked(t *testing.T) {
	for text, life := range map[string]vetting.Life{
		`renewWindow "0%"`:        {RenewWindow: "0%"},
		`renewWindow "101%"`:      {RenewWindow: "101%"},
		`renewWindow "a third%"`:  {RenewWindow: "a third%"},
		`renewWindow: "soon"`:     {RenewWindow: "soon"},
		`renewWindow: "30s"`:      {RenewWindow: "30s"},
		`renewWindow: "-5d"`:      {RenewWindow: "-5d"},
		`grace: "99999d"`:         {Grace: "99999d"},
		`rescue: "d"`:             {Rescue: "d"},
		`unknown onClone "shoot"`: {OnClone: "shoot"},
	} {
		p := vetting.Product{Name: "lamp", Proofs: []vetting.Proof{vetting.ProofRig}, Life: life}
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, want it to say %s", life, err, text)
		}
	}
	p := vetting.Product{Name: "lamp", Proofs: []vetting.Proof{vetting.ProofRig},
		Life: vetting.Life{RenewWindow: "1d12h", Grace: "90d", Rescue: "3650d", OnClone: vetting.CloneNote, HoldUntilActive: true}}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

func TestWindows(t *testing.T) {
	day := 24 * time.Hour
	c := &vetting.Certificate{Issued: now, NotAfter: now.Add(90 * day)}
	forever := &vetting.Certificate{Issued: now, NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
	for window, want := range map[string]struct{ from, start, end time.Duration }{
		"":     {0, 60 * day, 75 * day},
		"33%":  {90*day - 90*day/100*33, 90*day - 90*day/100*33, 90*day - 90*day/100*33/2},
		"10d":  {80 * day, 80 * day, 85 * day},
		"80d":  {10 * day, 60 * day, 75 * day}, // early renewal is allowed, not suggested
		"900d": {0, 60 * day, 75 * day},
	} {
		l := vetting.Life{RenewWindow: window}
		if got := l.RenewFrom(c); !got.Equal(now.Add(want.from)) {
			t.Errorf("%q: renews from %s, want %s", window, got.Sub(now), want.from)
		}
		if got := l.Suggests(c); !got.Start.Equal(now.Add(want.start)) || !got.End.Equal(now.Add(want.end)) {
			t.Errorf("%q: suggests %s to %s, want %s to %s", window, got.Start.Sub(now), got.End.Sub(now), want.start, want.end)
		}
		if got := l.RenewFrom(forever); !got.Equal(now) {
			t.Errorf("%q: a certificate without an end renews from %s", window, got)
		}
	}
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		hold bool
		c    vetting.Certificate
		want vetting.CertificateState
	}{
		{false, vetting.Certificate{State: vetting.CertificateValid}, vetting.CertificateValid},
		{true, vetting.Certificate{State: vetting.CertificateValid}, vetting.CertificateOnHold},
		{true, vetting.Certificate{State: vetting.CertificateValid, Used: now}, vetting.CertificateValid},
		{true, vetting.Certificate{State: vetting.CertificateRevoked}, vetting.CertificateRevoked},
		{true, vetting.Certificate{State: vetting.CertificateSuperseded}, vetting.CertificateSuperseded},
	} {
		tt.c.Held = tt.hold
		if got := tt.c.Status(); got != tt.want {
			t.Errorf("hold until active %v, %+v: %s, want %s", tt.hold, tt.c, got, tt.want)
		}
	}
}
