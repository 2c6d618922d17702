package cluster_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/cluster"
	"github.com/touchmark/touchmark/internal/cluster/redistest"
)

// member is a server that says and hears news until the test ends.
func member(t *testing.T, o cluster.Options) (n *cluster.News, heard chan struct{}) {
	t.Helper()
	n, err := cluster.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	heard = make(chan struct{}, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{}, 2)
	go func() { n.Listen(ctx, func() { heard <- struct{}{} }); ended <- struct{}{} }()
	go func() { n.Speak(ctx); ended <- struct{}{} }()
	t.Cleanup(func() {
		cancel()
		<-ended
		<-ended
		n.Close()
	})
	return n, heard
}

// reaches says something until it is heard: who listens may not have begun.
func reaches(t *testing.T, from *cluster.News, heard chan struct{}) {
	t.Helper()
	ticks, late := time.NewTicker(20*time.Millisecond), time.After(time.Minute)
	defer ticks.Stop()
	for {
		from.Tell()
		select {
		case <-heard:
			return
		case <-late:
			t.Fatal("it was not heard")
		case <-ticks.C:
		}
	}
}

func TestNewsReachesOthers(t *testing.T) {
	r := redistest.Start(t)
	one, heardByOne := member(t, cluster.Options{URL: "redis://" + r.Addr(), Name: "acme"})
	two, heardByTwo := member(t, cluster.Options{URL: "redis://" + r.Addr(), Name: "acme"})
	_, heardElsewhere := member(t, cluster.Options{URL: "redis://" + r.Addr(), Name: "other"})
	reaches(t, one, heardByTwo)
	reaches(t, two, heardByOne)
	if len(heardElsewhere) != 0 {
		t.Error("another Touchmark heard it")
	}
	r.Stop()
	if err := one.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "a little later") {
		t.Errorf("without Redis: %v", err)
	}
	for range 1000 {
		one.Tell() // waits for nobody
	}
	r.Restart()
	reaches(t, one, heardByTwo)
	if err := one.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNewsNeedsThePassword(t *testing.T) {
	r := redistest.Start(t, "--requirepass", "open sesame")
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	one, _ := member(t, cluster.Options{URL: "redis://" + r.Addr(), PasswordFile: file, Name: "acme"})
	_, heard := member(t, cluster.Options{URL: "redis://:open%20sesame@" + r.Addr(), Name: "acme"})
	reaches(t, one, heard)
	wrong, _ := member(t, cluster.Options{URL: "redis://:hush@" + r.Addr(), Name: "acme"})
	if err := wrong.Ping(t.Context()); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("with a wrong password: %v", err)
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, []byte("hush"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]cluster.Options{
		"no URL":            {},
		"another scheme":    {URL: "http://:hush@localhost"},
		"a bad port":        {URL: "redis://:hush@localhost:port"},
		"a bad database":    {URL: "redis://:hush@localhost/x/y"},
		"no password file":  {URL: "redis://localhost", PasswordFile: filepath.Join(dir, "none")},
		"roots without TLS": {URL: "redis://:hush@localhost", CA: junk},
		"no roots":          {URL: "rediss://:hush@localhost", CA: junk},
		"no file of roots":  {URL: "rediss://localhost", CA: filepath.Join(dir, "none")},
	} {
		if _, err := cluster.Open(o); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
