package store_test

import (
	"context"
	"testing"

	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// Whatever becomes of the transaction of a chunk, the job goes on with the
// device after the last that had its turn.
func TestJobChunkFails(t *testing.T) {
	ctx := context.Background()
	const units = 5
	for db := range storetest.Databases(t) {
		for name, mode := range faults {
			t.Run(db+"/"+name, func(t *testing.T) {
				dsn := storetest.Databases(t)[db]
				fault := new(store.Fault)
				s, err := store.Open(ctx, store.WithFault(store.Options{DSN: dsn, JobChunk: 2}, fault))
				if err != nil {
					t.Fatal(err)
				}
				job := startedJob(t, s, units)
				if _, _, err := s.WorkOnJob(ctx, job, "me"); err != nil {
					t.Fatal(err)
				}
				fault.Next(mode)
				if _, _, err := s.WorkOnJob(ctx, job, "me"); err == nil || vetting.ProblemOf(err) != 0 {
					t.Errorf("the chunk that failed: %v", err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				finish(t, storetest.Open(t, dsn), job, units)
			})
		}
	}
}

// startedJob lets units in and starts a job that revokes them.
func startedJob(t *testing.T, s *store.Store, units int) (id int64) {
	t.Helper()
	w := storetest.NewWorld(t, s, int64(units))
	for n := range units {
		w.Load(t, storetest.Unit(n))
		claim := storetest.Claim(storetest.Unit(n).BootstrapKey, storetest.Key("official", n))
		if v, _, err := storetest.Enrol(t.Context(), s, claim); err != nil || v.Outcome != vetting.Admitted {
			t.Fatalf("%s, %v", v.Text(), err)
		}
	}
	j, err := s.PlanJob(t.Context(), storetest.By, vetting.Task{Action: vetting.JobRevoke, Reason: vetting.RevokedKeyCompromise, Note: "leaked",
		Selected: vetting.Selection{Order: "po-1"}})
	if err == nil {
		_, err = s.ConfirmJob(t.Context(), storetest.By, j.ID, j.Digest, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	return j.ID
}

// finish works on the job to its end, as after a restart, and demands that
// each device had one turn.
func finish(t *testing.T, s *store.Store, job int64, units int) {
	t.Helper()
	verify(t, s)
	j, _, err := s.WorkOnJob(t.Context(), job, "me")
	if err != nil {
		t.Fatal(err)
	}
	if j.State != vetting.JobDone || j.Worked.Devices != int64(units) || j.Worked.Changes != int64(units) {
		t.Errorf("the job is %s, having worked %+v", j.State, j.Worked)
	}
	list, err := s.Devices(t.Context(), vetting.DeviceFilter{}, vetting.Page{})
	if err != nil || len(list) != units {
		t.Fatalf("%d devices, %v", len(list), err)
	}
	for _, d := range list {
		if c, err := s.Certificate(t.Context(), d.Certificate); err != nil || c.State != vetting.CertificateRevoked || d.Revision != 2 {
			t.Errorf("device %d has revision %d and the certificate %+v, %v", d.ID, d.Revision, c, err)
		}
	}
	verify(t, s)
}

// A revocation that fails is done or not; asked again, it is done.
func TestRevocationFails(t *testing.T) {
	ctx := context.Background()
	for db := range storetest.Databases(t) {
		for name, mode := range faults {
			t.Run(db+"/"+name, func(t *testing.T) {
				dsn := storetest.Databases(t)[db]
				fault := new(store.Fault)
				s, err := store.Open(ctx, store.WithFault(store.Options{DSN: dsn}, fault))
				if err != nil {
					t.Fatal(err)
				}
				startedJob(t, s, 1) // nobody works on it
				list, err := s.Devices(ctx, vetting.DeviceFilter{}, vetting.Page{})
				if err != nil {
					t.Fatal(err)
				}
				revoke := func(s *store.Store) error {
					_, err := s.RevokeDevice(ctx, storetest.By, list[0].ID, vetting.RevokedKeyCompromise, "leaked")
					return err
				}
				fault.Next(mode)
				if err := revoke(s); err == nil {
					t.Error("no error although the write failed")
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				again := storetest.Open(t, dsn)
				verify(t, again)
				if err := revoke(again); (vetting.ProblemOf(err) == vetting.Conflict) != (mode == store.Persisted) {
					t.Errorf("afterwards: %v", err)
				}
				if c, err := again.Certificate(ctx, list[0].Certificate); err != nil || c.State != vetting.CertificateRevoked {
					t.Errorf("the certificate is %+v, %v", c, err)
				}
				verify(t, again)
			})
		}
	}
}
