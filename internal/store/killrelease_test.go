package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// releaseOfRound is on its way to a round's release, with the shared key.
func releaseOfRound(ctx context.Context, s *store.Store, dir string, round int) (*releasing, error) {
	cert, key, err := sharedCA(dir)
	if err != nil {
		return nil, err
	}
	return &releasing{Store: s, ctx: ctx, product: "thermo", version: fmt.Sprintf("%d.0", round), counter: uint32(round), key: key,
		berta: &storetest.Person{Name: "berta", Certificate: cert.Raw, Key: key}}, nil
}

// releaseAndYank publishes the round's release, makes its counter the least,
// and takes it back.
func releaseAndYank(ctx context.Context, s *store.Store, dir string, round int) error {
	r, err := releaseOfRound(ctx, s, dir, round)
	if err != nil {
		return err
	}
	for _, step := range append(r.way(), r.proposeFloor, r.carry, r.proposeYank, r.carry) {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// signings counts the leaves about signatures of firmware.
func signings(t *testing.T, s *store.Store) (n int) {
	t.Helper()
	err := s.Leaves(t.Context(), 0, leaves(t, s), func(_ int64, body []byte) error {
		leaf, err := audit.ParseLeaf(body)
		if strings.HasPrefix(leaf.Act, "artefact.sign") {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestKillAtReleases: a release whose way was cut off at any step is what it
// was before or after it, and goes on from there. No signature is kept without
// its leaf, and none is made twice.
func TestKillAtReleases(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			ctx, dir := t.Context(), shared(t)
			s := storetest.Open(t, dsn)
			storetest.NewWorld(t, s, 1)
			storetest.NewPerson(t, "erna").Employ(t, s, access.RoleReleaseEngineer)
			r, err := releaseOfRound(ctx, s, dir, 0)
			if err != nil {
				t.Fatal(err)
			}
			r.berta.Employ(t, s, access.RoleApprover)
			if err := r.createKey("prod", release.Production); err != nil {
				t.Fatal(err)
			}
			if err := r.approvals(1); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			n := killed(t, "releases", dsn, dir, func(s *store.Store, round int, done bool) {
				r.Store = s
				list, err := s.Releases(ctx, release.Filter{}, vetting.Page{})
				if err != nil {
					t.Fatal(err)
				}
				signed := 0
				for _, one := range list {
					has := len(one.Artefacts) == 1 && len(one.Artefacts[0].Signatures) == 1
					if has {
						signed++
					}
					if has != slices.Contains([]release.State{release.Signed, release.Published, release.Yanked}, one.State) {
						t.Errorf("%s is %s, signed: %v", one.Name(), one.State, has)
					}
				}
				if logged := signings(t, s); logged != signed {
					t.Errorf("%d leaves of %d signatures", logged, signed)
				}
				r.version = fmt.Sprintf("%d.0", round)
				if now := r.now(t); done && (now.State != release.Yanked || len(list) != round || r.policy(t).Floor != uint32(round)) {
					t.Errorf("round %d: %+v of %d, floor %d", round, now, len(list), r.policy(t).Floor)
				}
			})
			if n != 26 { // before and after each of thirteen commits
				t.Errorf("%d processes were killed", n)
			}
		})
	}
}
