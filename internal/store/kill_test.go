package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
)

// killEnv makes the test binary carry out an act on a database and kill itself
// at a commit: the act, the database's DSN, a directory that parent and child
// share, the round, the commit's number, and "after" or "before".
const killEnv = "TOUCHMARK_STORE_KILL"

func TestMain(m *testing.M) {
	if v := os.Getenv(killEnv); v != "" {
		if err := doom(strings.Split(v, "\n")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// doomed are the acts in the middle of which a process is killed. Each is
// carried out once in a round, of which there are any number.
var doomed = map[string]func(ctx context.Context, s *store.Store, dir string, round int) error{
	"revocation lists": makeLists, "offline files": makeOffline, "messages": workOnMessages,
	"TUF": makeTUF, "ending lists": makeAndEndLists, "TPMs": workOnTPMs, "approvals": raiseByApproval,
	string(approval.OrderOpen): byApproval(approval.OrderOpen), string(approval.ManifestAccept): byApproval(approval.ManifestAccept),
	"releases": releaseAndYank, "licences": licenseChips,
	string(approval.CACreate): byApproval(approval.CACreate),
}

func doom(v []string) error {
	round, err := strconv.Atoi(v[3])
	at, err2 := strconv.ParseInt(v[4], 10, 32)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	ctx := context.Background()
	s, err := store.Open(ctx, store.WithKill(store.Options{DSN: v[1]}, int32(at), v[5] == "after"))
	if err != nil {
		return err
	}
	return errors.Join(doomed[v[0]](ctx, s, v[2], round), s.Close())
}

// killed carries an act out in processes of which the first is killed before
// its first commit, the next one after that, the third before its second commit
// and so on, until one gets through. Check looks at what each has left, and
// again when the act was then carried out to its end. It returns how many
// processes were killed.
func killed(t *testing.T, act, dsn, dir string, check func(s *store.Store, round int, done bool)) (n int) {
	t.Helper()
	for round := 1; ; round++ {
		when := []string{"before", "after"}[1-round%2]
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killEnv+"="+strings.Join([]string{act, dsn, dir, strconv.Itoa(round), strconv.Itoa((round + 1) / 2), when}, "\n"))
		out, err := cmd.CombinedOutput()
		through := err == nil
		if state, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !through && !(ok && state.Signal() == syscall.SIGKILL) {
			t.Fatalf("round %d: %v\n%s", round, err, out)
		}
		s := storetest.Open(t, dsn)
		verify(t, s)
		check(s, round, through)
		if err := doomed[act](t.Context(), s, dir, round); err != nil {
			t.Fatalf("round %d, after a kill %s commit %d: %v", round, when, (round+1)/2, err)
		}
		check(s, round, true)
		verify(t, s)
		if err := s.Close(); err != nil || t.Failed() {
			t.Fatalf("round %d, after a kill %s commit %d (%v)", round, when, (round+1)/2, err)
		}
		if through {
			return round - 1
		}
	}
}

// shared is a directory with what parent and child share: the CA.
func shared(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cert, key, err := newCA()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "ca.crt"), cert, 0o600), os.WriteFile(filepath.Join(dir, "ca.key"), key, 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir
}
