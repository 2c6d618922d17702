package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// TestKillJob kills the server again and again while it revokes a batch, of
// TOUCHMARK_KILL_DEVICES or a few thousand.
func TestKillJob(t *testing.T) {
	n := number(t, "TOUCHMARK_KILL_DEVICES", 1000, 8000)
	for name, dsn := range storetest.Databases(t) {
		t.Run(name, func(t *testing.T) {
			i := install(t, dsn)
			fill(t, i.store(), n)
			i.start()
			j := i.startJob(n)
			const kills = 3
			for round := range kills {
				// somewhere in the part of the job that is this round's
				at := int64((round*n + rand.IntN(n)) / (kills + 1))
				i.killDuring(j.ID, at)
			}
			i.waitForJob(j.ID, int64(n)+1)
			i.stop()
			s := i.store()
			checkJob(t, s, j.ID, n)
			verifyLog(t, s)
		})
	}
}

// fill lets n devices in, past wire and signatures.
func fill(t *testing.T, s *store.Store, n int) {
	t.Helper()
	w := storetest.NewWorld(t, s, int64(n))
	for from := 0; from < n; from += 20_000 {
		var records []vetting.Record
		for k := from; k < min(n, from+20_000); k++ {
			records = append(records, storetest.Unit(k))
		}
		w.Load(t, records...)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 128 {
		wg.Go(func() {
			for k := int(next.Add(1)) - 1; k < n && !t.Failed(); k = int(next.Add(1)) - 1 {
				claim := storetest.Claim(storetest.Unit(k).BootstrapKey, storetest.Key("official", k))
				if v, _, err := storetest.Enrol(context.Background(), s, claim); err != nil || v.Outcome != vetting.Admitted {
					t.Errorf("unit %d: %s, %v", k, v.Text(), err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil || t.Failed() {
		t.Fatal(err)
	}
}

// startJob plans and confirms the revocation of all n devices.
func (i *installation) startJob(n int) (j vetting.Job) {
	i.t.Helper()
	ctx, admin := context.Background(), i.admin()
	type object = map[string]any
	if err := admin.Do(ctx, "POST", "/jobs", object{"action": "revoke", "reason": "keyCompromise", "note": "leaked", "selected": object{"order": "po-1"}}, &j); err != nil {
		i.t.Fatal(err)
	}
	if j.Found.Changes != int64(n) {
		i.t.Fatalf("the plan found %+v", j.Found)
	}
	if err := admin.Do(ctx, "POST", fmt.Sprintf("/jobs/%d/confirm", j.ID), object{"digest": j.Digest}, nil); err != nil {
		i.t.Fatal(err)
	}
	return j
}

// killDuring kills the server when the job has come so far, and starts it again.
func (i *installation) killDuring(job, at int64) {
	i.t.Helper()
	far := i.waitForJob(job, at)
	i.kill()
	i.t.Logf("killed after %d devices", far)
	i.start()
}

// waitForJob asks until the job has changed so many devices, or is done.
func (i *installation) waitForJob(job, devices int64) int64 {
	i.t.Helper()
	ctx, admin := context.Background(), i.admin()
	for {
		var j vetting.Job
		if err := admin.Do(ctx, "GET", fmt.Sprintf("/jobs/%d", job), nil, &j); err != nil {
			i.t.Fatal(err)
		}
		if j.State != vetting.JobRunning || j.Worked.Changes >= devices {
			return j.Worked.Changes
		}
	}
}

// checkJob demands that each device had its turn, once.
func checkJob(t *testing.T, s *store.Store, id int64, n int) {
	t.Helper()
	ctx := context.Background()
	j, err := s.Job(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if j.State != vetting.JobDone || j.Worked.Devices != int64(n) || j.Worked.Changes != int64(n) {
		t.Errorf("the job is %s, having worked %+v", j.State, j.Worked)
	}
	seen, turns := 0, turns(t, s, "job.revoke")
	eachDevice(t, s, func(d *vetting.Device) {
		seen++
		if turns[d.ID] != 1 || d.Revision != 2 || d.State != vetting.DeviceIssued {
			t.Fatalf("device %d is %s, in revision %d, after %d turns", d.ID, d.State, d.Revision, turns[d.ID])
		}
		if c, err := s.Certificate(ctx, d.Certificate); err != nil || c.State != vetting.CertificateRevoked || c.Reason != 1 {
			t.Fatalf("the certificate of device %d is %+v, %v", d.ID, c, err)
		}
	})
	if seen != n || len(turns) != n {
		t.Errorf("%d devices, %d had a turn, want %d", seen, len(turns), n)
	}
}
