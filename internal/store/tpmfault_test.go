package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// forTPMs loads units from 10 on, of a product that trusts a maker of TPMs;
// their records list no TPM.
func forTPMs(t *testing.T, w *storetest.World, units int) {
	t.Helper()
	ctx := context.Background()
	p := *w.Product
	p.Proofs = append(p.Proofs, vetting.ProofTPM)
	p.TPM.Makers = []vetting.Vendor{{Name: "maker"}}
	site := *w.Site
	site.Networks = []string{"192.0.2.0/24"}
	_, err := w.Store.UpdateProduct(ctx, storetest.By, &p)
	_, err2 := w.Store.UpdateSite(ctx, storetest.By, &site)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	for n := range units {
		r := storetest.Unit(10 + n)
		r.BootstrapKey = vetting.Fingerprint{}
		w.Load(t, r)
	}
}

// A TPM whose enrolment could not be committed is bound to its device when it
// asks again, and to no second one.
func TestUseOfTPMFails(t *testing.T) {
	ctx := context.Background()
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) { forTPMs(t, w, 2) }, func(t *testing.T, w *storetest.World, fault string) {
		if _, cert, err := storetest.Enrol(ctx, w.Store, storetest.ByTPM(10, 1)); err == nil || cert != nil {
			t.Fatalf("a certificate was answered although the commit failed: %v", err)
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		bound := ""
		if fault == "persisted anyway" {
			bound = storetest.Unit(10).Serial
		}
		knownFor(t, w.Store, 1, bound)
		v, cert, err := storetest.Enrol(ctx, w.Store, storetest.ByTPM(10, 1))
		if err != nil || v.Outcome != vetting.Admitted || cert == nil {
			t.Fatalf("asked again: %s, %v", v.Text(), err)
		}
		knownFor(t, w.Store, 1, storetest.Unit(10).Serial)
		if v, _, err := storetest.Enrol(ctx, w.Store, storetest.ByTPM(11, 1)); err != nil || v.Outcome != vetting.Refused {
			t.Errorf("as another device: %s, %v", v.Text(), err)
		}
		if o, err := w.Store.Order(ctx, "po-1"); err != nil || o.Issued != 1 {
			t.Errorf("%d units issued: %v", o.Issued, err)
		}
	})
}

// knownFor demands that TPM k is known for a device.
func knownFor(t *testing.T, s *store.Store, k int, serial string) {
	t.Helper()
	if got, err := s.DeviceOfEK(t.Context(), storetest.Key("ek", k)); err != nil || got != serial {
		t.Errorf("the TPM is known for %q (%v), want %q", got, err, serial)
	}
}

// A secret whose writing fails is nobody's; from then on all get the same.
func TestMakingASecretFails(t *testing.T) {
	ctx := context.Background()
	eachFault(t, func(t *testing.T, w *storetest.World, fault string) {
		secret, err := w.Store.Secret(ctx, "one")
		if fault != "a statement fails" && err == nil || err != nil && secret != nil { // there is but one statement
			t.Errorf("%x, %v although the write failed", secret, err)
		}
	}, func(t *testing.T, w *storetest.World, _ string) {
		first, err := w.Store.Secret(ctx, "one")
		again, err2 := w.Store.Secret(ctx, "one")
		if err := errors.Join(err, err2); err != nil || len(first) != 32 || !bytes.Equal(first, again) {
			t.Errorf("%x and then %x: %v", first, again, err)
		}
	})
}

// That an attestation key was certified is in the log once for each note that
// succeeded; one that failed may be there.
func TestNoteOfAnAKFails(t *testing.T) {
	ctx := context.Background()
	note := func(w *storetest.World) error {
		return w.Store.NoteAKCertificate(ctx, storetest.Key("ek", 1), []byte{1})
	}
	var before int64
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) { before = leaves(t, w.Store) }, func(t *testing.T, w *storetest.World, fault string) {
		if note(w) == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		want := before
		if fault == "persisted anyway" {
			want++
		}
		if got := leaves(t, w.Store); got != want {
			t.Errorf("the log has %d leaves, want %d", got, want)
		}
		if err := note(w); err != nil || leaves(t, w.Store) != want+1 {
			t.Errorf("noted again: %v; %d leaves, want %d", err, leaves(t, w.Store), want+1)
		}
	})
}

func leaves(t *testing.T, s *store.Store) int64 {
	t.Helper()
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head.Size()
}

// workOnTPMs takes the round's secret, certifies an attestation key and enrols
// the round's unit by its TPM.
func workOnTPMs(ctx context.Context, s *store.Store, dir string, round int) error {
	name := fmt.Sprint("secret", round)
	secret, err := s.Secret(ctx, name)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, name) // what became known outside
	if had, err := os.ReadFile(file); err == nil && !bytes.Equal(had, secret) {
		return errors.New("the secret is another one than before")
	}
	if err := os.WriteFile(file, secret, 0o600); err != nil {
		return err
	}
	if err := s.NoteAKCertificate(ctx, storetest.Key("ek", round), []byte{byte(round)}); err != nil {
		return err
	}
	v, _, err := storetest.Enrol(ctx, s, storetest.ByTPM(9+round, round))
	if err == nil && v.Outcome != vetting.Admitted {
		err = errors.New(v.Text())
	}
	return err
}

// TestKillWhileTPMsEnrol: whatever a server was killed in, its successor has
// the secrets that were known, and each TPM is one device and one unit.
func TestKillWhileTPMsEnrol(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			s := storetest.Open(t, dsn)
			forTPMs(t, storetest.NewWorld(t, s, 20), 9)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			n := killed(t, "TPMs", dsn, t.TempDir(), func(s *store.Store, round int, done bool) {
				want := round
				if !done && round != 6 { // which was killed after its last commit
					want--
				}
				for k := range round {
					serial := storetest.Unit(10 + k).Serial
					if k >= want {
						serial = ""
					}
					knownFor(t, s, k+1, serial)
				}
				if o, err := s.Order(t.Context(), "po-1"); err != nil || o.Issued != int64(want) {
					t.Errorf("round %d: %d units issued, want %d: %v", round, o.Issued, want, err)
				}
			})
			if n != 6 {
				t.Errorf("%d processes were killed, want two at each of three commits", n)
			}
		})
	}
}
