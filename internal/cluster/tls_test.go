package cluster_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/cluster"
	"github.com/touchmark/touchmark/internal/cluster/redistest"
)

// aclUser is the user of docs/guides/status.md, with a password.
func aclUser(t *testing.T) []string {
	t.Helper()
	guide, err := os.ReadFile("../../docs/guides/status.md")
	if err != nil {
		t.Fatal(err)
	}
	const head = "ACL SETUSER "
	for line := range strings.Lines(string(guide)) {
		if rest, ok := strings.CutPrefix(line, head); ok {
			return append([]string{"--user"}, strings.Fields(strings.Replace(rest, "PASSWORD", "open-sesame", 1))...)
		}
	}
	t.Fatalf("the guide has no line that begins with %q", head)
	return nil
}

// Over TLS, as the user of the guide, who may do what servers need and no more.
func TestRedisOverTLS(t *testing.T) {
	user := aclUser(t)
	r, ca := redistest.StartTLS(t, slices.Concat([]string{"--user", "default", "off"}, user)...)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("open-sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := cluster.Options{URL: "rediss://touchmark@" + r.Addr(), PasswordFile: password, CA: ca, Name: "acme"}
	one, _ := member(t, o)
	_, heard := member(t, o)
	reaches(t, one, heard)
	puts(t, sharer(t, o, secret), keyFor("a"), "first")
	if got := gets(t, sharer(t, o, secret), keyFor("a")); got != "first" {
		t.Errorf("the other has %q", got)
	}
	for what, change := range map[string]func(*cluster.Options){
		"a CA that is not trusted": func(o *cluster.Options) { o.CA = "" },
		"no TLS":                   func(o *cluster.Options) { o.URL, o.CA = "redis://touchmark@"+r.Addr(), "" },
		"no password":              func(o *cluster.Options) { o.PasswordFile = "" },
		"the default user":         func(o *cluster.Options) { o.URL = "rediss://" + r.Addr() },
		"another name": func(o *cluster.Options) {
			o.URL = "rediss://localhost:" + r.Addr()[strings.LastIndex(r.Addr(), ":")+1:]
		},
	} {
		wrong := o
		change(&wrong)
		n, err := cluster.Open(wrong)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if err := n.Ping(t.Context()); err == nil || strings.Contains(err.Error(), "open-sesame") {
			t.Errorf("%s: %v", what, err)
		}
		n.Close()
	}
}
