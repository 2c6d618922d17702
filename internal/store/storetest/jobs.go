package storetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

var jobCases = []conformance{
	{"a plan says what would become of which devices, and does nothing", jobPlan},
	{"a selection finds what it says", jobSelections},
	{"a selection by owner", jobOfOwner},
	{"a task that makes no sense is refused", jobInvalid},
	{"a confirmed job does to each device what it would alone", jobActions},
	{"a plan that is overtaken by changes is not carried out unseen", jobStale},
	{"a job goes on where it was, a device has one turn", jobResumes},
	{"one server at a time works on a job", jobLeases},
	{"a job stops when it is cancelled, and goes on when it is resumed", jobCancelled},
	{"a device that changed meanwhile is judged at its turn", jobJudgesAnew},
	{"renewals are spread evenly", jobRenewals},
	{"plans are forgotten after a day", jobPlansEnd},
	{"listed identifiers that no record has are named", jobListed},
}

// task is a task on the world's order.
func task(a vetting.JobAction) vetting.Task {
	t := vetting.Task{Action: a, Note: "recall 7", Selected: vetting.Selection{Order: "po-1"}}
	switch a {
	case vetting.JobRevoke:
		t.Reason = vetting.RevokedKeyCompromise
	case vetting.JobRenew:
		t.SpreadSeconds = 7200
	}
	return t
}

func (t *trial) plan(task vetting.Task) *vetting.Job {
	t.Helper()
	return ok(t.store.PlanJob(t.ctx, By, task))(t)
}

func (t *trial) confirm(j *vetting.Job) *vetting.Job {
	t.Helper()
	return ok(t.store.ConfirmJob(t.ctx, By, j.ID, j.Digest, false))(t)
}

// work works on a job until it is no longer running.
func (t *trial) work(id int64) *vetting.Job {
	t.Helper()
	for {
		j, _, err := t.store.WorkOnJob(t.ctx, id, "me")
		t.done(err)
		if j.State != vetting.JobRunning {
			return j
		}
	}
}

// inSteps opens the store anew, with another size of a job's chunks.
func (t *trial) inSteps(n int) {
	t.Helper()
	t.done(t.store.Close())
	t.store = OpenWith(t, store.Options{DSN: t.dsn, JobChunk: n})
}

// many enrols n devices and returns their IDs.
func (t *trial) many(n int) (ids []int64) {
	t.Helper()
	records := make([]vetting.Record, n)
	for i := range records {
		records[i] = Unit(i)
	}
	t.world(int64(n), records...)
	for i := range n {
		ids = append(ids, t.admit(i).ID)
	}
	return ids
}

func jobPlan(t *trial) {
	f := t.fleet()
	active, manufactured := f.unit(vetting.DeviceActive), f.unit(vetting.DeviceManufactured)
	gone := f.unit(vetting.DeviceRetired)
	issued := f.unit(vetting.DeviceIssued)
	before := t.leaves()
	j := t.plan(task(vetting.JobRevoke))
	want := vetting.JobCount{Devices: 4, Changes: 2, Kept: []vetting.JobKept{
		{State: vetting.DeviceManufactured, Why: "it has no certificate", Devices: 1}, {State: vetting.DeviceRetired, Why: "its certificates are revoked already", Devices: 1}}}
	same(t, "found", j.Found, want)
	if len(j.Sample) != 2 || j.Sample[0].ID != active.ID || j.Sample[1].ID != issued.ID || j.State != vetting.JobPlanned || j.By != By.Operator || j.Digest == "" {
		t.Errorf("the plan is %s", show(j))
	}
	same(t, "worked", j.Worked, vetting.JobCount{})
	pages(t, 4, false, func(p vetting.Page) ([]*vetting.JobDevice, error) { return t.store.JobDevices(t.ctx, j.ID, p) },
		func(d *vetting.JobDevice) int64 { return d.ID })
	list := ok(t.store.JobDevices(t.ctx, j.ID, vetting.Page{}))(t)
	same(t, "of the manufactured one", list[1], &vetting.JobDevice{ID: manufactured.ID, Identity: manufactured.Identity, State: manufactured.State, Kept: "it has no certificate"})
	if t.leaves() != before {
		t.Error("a plan left a leaf")
	}
	for _, d := range []*vetting.Device{active, manufactured, gone, issued} {
		same(t, "the device", t.device(d.ID), d)
	}
	if id := ok(t.store.NextJob(t.ctx, "me"))(t); id != 0 {
		t.Errorf("job %d runs", id)
	}
	t.refuses(vetting.Conflict)(t.second().ConfirmJob(t.ctx, By, j.ID, "another", true))
	if _, _, err := t.store.WorkOnJob(t.ctx, j.ID, "me"); vetting.ProblemOf(err) != vetting.Conflict {
		t.Errorf("work on a plan: %v", err)
	}
	j.Sample = nil
	same(t, "read", ok(t.store.Job(t.ctx, j.ID))(t), j)
	t.plan(task(vetting.JobRetire))
	pages(t, 2, true, func(p vetting.Page) ([]*vetting.Job, error) { return t.store.Jobs(t.ctx, p) }, func(j *vetting.Job) int64 { return j.ID })
	t.refuses(vetting.NotFound)(t.store.Job(t.ctx, 1<<40))
	t.refuses(vetting.NotFound)(t.store.JobDevices(t.ctx, 1<<40, vetting.Page{}))
	t.refuses(vetting.NotFound)(t.store.ConfirmJob(t.ctx, By, 1<<40, "aa", false))
}

func jobSelections(t *trial) {
	day := func(n int) time.Time { return time.Date(2026, 3, n, 0, 0, 0, 0, time.UTC) }
	unit := func(n int, revision, line string, made time.Time) vetting.Record {
		r := full(n)
		r.Made = vetting.Manufacturing{HardwareRevision: revision, Line: line, Time: made}
		return r
	}
	flashed := unit(3, "", "", time.Time{})
	flashed.Made.Firmware = "1.4.2"
	w := t.world(10, unit(0, "A", "1", day(1)), unit(1, "B", "1", day(2)), unit(2, "B", "2", day(3)), flashed)
	t.product("lamp")
	t.site("gdansk")
	w.with(t.order("po-2", "lamp", "gdansk", vetting.OrderOpen)).Load(t, unit(4, "A", "1", day(4)))
	issued := t.admit(1).Issued
	t.enrolBy(2, ok(t.store.CreateIssuingCA(t.ctx, By, IssuingCA("acme")))(t).ID)
	serial := func(n int) string { return full(n).Serial }
	for _, c := range []struct {
		what string
		sel  vetting.Selection
		want []int
	}{
		{"all", vetting.Selection{All: true}, []int{0, 1, 2, 3, 4}},
		{"site", vetting.Selection{Site: "gdansk"}, []int{4}},
		{"order", vetting.Selection{Order: "po-1"}, []int{0, 1, 2, 3}},
		{"product", vetting.Selection{Product: "lamp"}, []int{4}},
		{"state", vetting.Selection{State: vetting.DeviceIssued}, []int{1, 2}},
		{"hardware", vetting.Selection{HardwareRevision: "A"}, []int{0, 4}},
		{"firmware", vetting.Selection{Firmware: "1.4.2"}, []int{3}},
		{"no such firmware", vetting.Selection{Firmware: "1.4"}, nil},
		{"line", vetting.Selection{Line: "1", Order: "po-1"}, []int{0, 1}},
		{"made from", vetting.Selection{MadeFrom: day(2)}, []int{1, 2, 4}},
		{"made before", vetting.Selection{MadeBefore: day(2)}, []int{0}},
		{"made between", vetting.Selection{MadeFrom: day(2), MadeBefore: day(4)}, []int{1, 2}},
		{"issued from", vetting.Selection{IssuedFrom: issued}, []int{1, 2}},
		{"issued later", vetting.Selection{IssuedFrom: issued.Add(time.Hour)}, nil},
		{"issued before", vetting.Selection{IssuedBefore: issued.Add(time.Hour)}, []int{1, 2}},
		{"issued earlier", vetting.Selection{IssuedBefore: issued}, nil},
		{"issuing CA", vetting.Selection{Issuer: "acme"}, []int{2}},
		{"device CA", vetting.Selection{Issuer: vetting.DeviceCA}, []int{1}},
		{"certified from", vetting.Selection{CertifiedFrom: issued}, []int{1, 2}},
		{"certified later", vetting.Selection{CertifiedFrom: issued.Add(time.Hour)}, nil},
		{"certified before", vetting.Selection{CertifiedBefore: issued.Add(time.Hour), Issuer: "acme"}, []int{2}},
		{"certified earlier", vetting.Selection{CertifiedBefore: issued}, nil},
		{"range", vetting.Selection{Identifiers: vetting.Identifiers{Serials: []string{serial(1) + ".." + serial(2), serial(4)}}}, []int{1, 2, 4}},
		{"list", vetting.Selection{Identifiers: vetting.Identifiers{Serials: []string{serial(4), serial(0), serial(4)}}}, []int{0, 4}},
		{"MACs", vetting.Selection{Identifiers: vetting.Identifiers{MACs: []string{strings.ReplaceAll(full(3).MAC, ":", "-")}}}, []int{3}},
		{"UIDs within serials", vetting.Selection{Identifiers: vetting.Identifiers{UIDs: []string{full(1).UID, full(2).UID}, Serials: []string{serial(0) + ".." + serial(1)}}}, []int{1}},
		{"list within an order", vetting.Selection{Order: "po-1", Identifiers: vetting.Identifiers{Serials: []string{serial(4), serial(0)}}}, []int{0}},
		{"an empty list's", vetting.Selection{Identifiers: vetting.Identifiers{Serials: []string{"NOBODY"}}}, nil},
	} {
		q := task(vetting.JobQuarantine)
		q.Selected = c.sel
		j := t.plan(q)
		var got []int
		for _, d := range ok(t.store.JobDevices(t.ctx, j.ID, vetting.Page{}))(t) {
			got = append(got, slices.IndexFunc([]int{0, 1, 2, 3, 4}, func(n int) bool { return serial(n) == d.Serial }))
		}
		if !slices.Equal(got, c.want) || j.Found.Devices != int64(len(c.want)) {
			t.Errorf("%s: %v (%+v), want %v", c.what, got, j.Found, c.want)
		}
	}
}

func jobOfOwner(t *trial) {
	t.world(2, Unit(0), Unit(1))
	d, _, _ := t.transferred()
	for owner, want := range map[string]int64{"acme": d.ID, vetting.Manufacturer: t.unit(1)} {
		k := task(vetting.JobQuarantine)
		k.Selected = vetting.Selection{Owner: owner}
		list := ok(t.store.JobDevices(t.ctx, t.plan(k).ID, vetting.Page{}))(t)
		if len(list) != 1 || list[0].ID != want {
			t.Errorf("of %s: %+v, want device %d", owner, list, want)
		}
	}
}

func jobInvalid(t *trial) {
	t.world(1, Unit(0))
	for what, change := range map[string]func(*vetting.Task){
		"no action":            func(k *vetting.Task) { k.Action = "melt" },
		"nothing selected":     func(k *vetting.Task) { k.Selected = vetting.Selection{} },
		"all and some":         func(k *vetting.Task) { k.Selected.All = true },
		"a reason to retire":   func(k *vetting.Task) { k.Action = vetting.JobRetire },
		"no reason for that":   func(k *vetting.Task) { k.Reason = "cACompromise" },
		"no note":              func(k *vetting.Task) { k.Note = " " },
		"a spread to revoke":   func(k *vetting.Task) { k.SpreadSeconds = 7200 },
		"no spread to renew":   func(k *vetting.Task) { k.Action, k.Reason = vetting.JobRenew, "" },
		"an absurd spread":     func(k *vetting.Task) { k.Action, k.Reason, k.SpreadSeconds = vetting.JobRenew, "", 1<<62 },
		"no such state":        func(k *vetting.Task) { k.Selected.State = "lost" },
		"times that cross":     func(k *vetting.Task) { k.Selected.MadeFrom, k.Selected.MadeBefore = time.Unix(2, 0), time.Unix(1, 0) },
		"no range":             func(k *vetting.Task) { k.Selected.Identifiers.Serials = []string{"B..A"} },
		"no MAC":               func(k *vetting.Task) { k.Selected.Identifiers.MACs = []string{"nonsense"} },
		"too many identifiers": func(k *vetting.Task) { k.Selected.Identifiers.Serials = make([]string, vetting.MaxSelected+1) },
	} {
		bad := task(vetting.JobRevoke)
		change(&bad)
		if _, err := t.store.PlanJob(t.ctx, By, bad); vetting.ProblemOf(err) != vetting.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, s := range []vetting.Selection{{Order: "po-9"}, {Site: "lodz"}, {Product: "torch"}, {Owner: "nobody"}} {
		k := task(vetting.JobRevoke)
		k.Selected = s
		t.refuses(vetting.NotFound)(t.store.PlanJob(t.ctx, By, k))
	}
	nobody := task(vetting.JobRevoke) // nothing would change
	j := t.plan(nobody)
	t.refuses(vetting.Conflict)(t.store.ConfirmJob(t.ctx, By, j.ID, j.Digest, true))
}

func jobActions(t *trial) {
	f := t.fleet()
	for _, c := range []struct {
		action vetting.JobAction
		from   vetting.DeviceState
		alone  func(d *vetting.Device) (*vetting.Device, error)
	}{
		{vetting.JobRevoke, vetting.DeviceActive, func(d *vetting.Device) (*vetting.Device, error) {
			return t.store.RevokeDevice(t.ctx, By, d.ID, vetting.RevokedKeyCompromise, "alone")
		}},
		{vetting.JobSuspend, vetting.DeviceActive, t.moveTo(vetting.DeviceSuspended)},
		{vetting.JobResume, vetting.DeviceSuspended, t.moveTo(vetting.DeviceActive)},
		{vetting.JobQuarantine, vetting.DeviceIssued, t.moveTo(vetting.DeviceQuarantined)},
		{vetting.JobQuarantine, vetting.DeviceManufactured, t.moveTo(vetting.DeviceQuarantined)},
		{vetting.JobRelease, vetting.DeviceQuarantined, t.moveTo(vetting.DeviceActive)},
		{vetting.JobRetire, vetting.DeviceActive, t.moveTo(vetting.DeviceRetired)},
		{vetting.JobScrap, vetting.DeviceManufactured, t.moveTo(vetting.DeviceScrapped)},
		{vetting.JobScrap, vetting.DeviceIssued, t.moveTo(vetting.DeviceScrapped)},
	} {
		many := []*vetting.Device{f.unit(c.from), f.unit(c.from)}
		single := ok(c.alone(f.unit(c.from)))(t)
		wasted := ok(t.store.Order(t.ctx, "po-1"))(t).Wasted
		k := task(c.action)
		k.Selected = vetting.Selection{Identifiers: vetting.Identifiers{Serials: []string{many[0].Serial, many[1].Serial}}}
		before := t.leaves()
		j := t.confirm(t.plan(k))
		if j.State != vetting.JobRunning || j.Started.IsZero() || j.Found.Changes != 2 {
			t.Errorf("%s: confirmed, it is %s", c.action, show(j))
		}
		j = t.work(j.ID)
		if j.State != vetting.JobDone || j.Worked.Changes != 2 || j.Worked.Devices != 2 || t.leaves() != before+2 {
			t.Errorf("%s: %s, %d leaves", c.action, show(j), t.leaves()-before)
		}
		if leaf := t.leaf(before + 1); leaf.By != "operator:"+By.Operator || leaf.Act != "job."+string(c.action) || leaf.Note != fmt.Sprintf("job %d: recall 7", j.ID) {
			t.Errorf("%s left %+v", c.action, leaf)
		}
		for _, d := range many {
			now := t.device(d.ID)
			if now.State != single.State || now.Before != single.Before || now.Revision != single.Revision {
				t.Errorf("%s: %s, alone it is %s", c.action, show(now), show(single))
			}
			same(t, string(c.action)+": the certificates", t.states(d.ID), t.states(single.ID))
		}
		if c.from == vetting.DeviceManufactured && c.action == vetting.JobScrap {
			if now := ok(t.store.Order(t.ctx, "po-1"))(t).Wasted; now != wasted+2 {
				t.Errorf("%d wasted, then %d", wasted, now)
			}
		}
	}
}

func (t *trial) moveTo(s vetting.DeviceState) func(*vetting.Device) (*vetting.Device, error) {
	return func(d *vetting.Device) (*vetting.Device, error) {
		return t.store.SetDeviceState(t.ctx, By, d.ID, s, "alone")
	}
}

func jobStale(t *trial) {
	ids := t.many(3)
	j := t.plan(task(vetting.JobRevoke))
	t.revoke(ids[1], vetting.RevokedUnspecified)
	_, err := t.store.ConfirmJob(t.ctx, By, j.ID, j.Digest, false)
	if vetting.ProblemOf(err) != vetting.Conflict || !strings.Contains(err.Error(), "3 would change; by now these are 3 and 2") {
		t.Errorf("a stale plan: %v", err)
	}
	if now := ok(t.store.Job(t.ctx, j.ID))(t); now.State != vetting.JobPlanned {
		t.Errorf("a refused confirmation made it %s", now.State)
	}
	now := ok(t.store.ConfirmJob(t.ctx, By, j.ID, j.Digest, true))(t)
	if now.State != vetting.JobRunning || now.Found.Changes != 2 {
		t.Errorf("accepted: %s", show(now))
	}
	t.refuses(vetting.Conflict)(t.store.ConfirmJob(t.ctx, By, j.ID, now.Digest, true)) // it runs already
	done := t.work(j.ID)
	same(t, "worked", done.Worked, now.Found)
}

func jobResumes(t *trial) {
	const n = 60
	t.many(n)
	j := t.confirm(t.plan(task(vetting.JobRevoke)))
	seen := int64(0)
	for turn := 0; j.State == vetting.JobRunning; turn++ {
		// as after a crash: another process, which knows nothing but the database
		t.done(t.store.Close())
		t.store = OpenWith(t, store.Options{DSN: t.dsn, JobChunk: 25})
		if id := ok(t.store.NextJob(t.ctx, "me"))(t); id != j.ID {
			t.Fatalf("the next job is %d", id)
		}
		var err error
		j, _, err = t.store.WorkOnJob(t.ctx, j.ID, "me")
		t.done(err)
		if seen += 25; j.Worked.Changes != min(seen, n) {
			t.Errorf("after %d turns, %d have changed", turn+1, j.Worked.Changes)
		}
	}
	if j.State != vetting.JobDone || j.Worked.Devices != n || len(j.Worked.Kept) != 0 {
		t.Errorf("at the end: %s", show(j))
	}
	for _, d := range t.everyDevice() {
		if d.Revision != 2 {
			t.Errorf("device %d has revision %d: it was not changed once", d.ID, d.Revision)
		}
	}
}

func (t *trial) everyDevice() (all []*vetting.Device) {
	t.Helper()
	for p := (vetting.Page{Limit: 1000}); ; p.After = all[len(all)-1].ID {
		page := ok(t.store.Devices(t.ctx, vetting.DeviceFilter{}, p))(t)
		if all = append(all, page...); len(page) < p.Limit {
			return all
		}
	}
}

func jobLeases(t *trial) {
	t.many(30)
	t.inSteps(25)
	j := t.confirm(t.plan(task(vetting.JobRevoke)))
	_, _, err := t.store.WorkOnJob(t.ctx, j.ID, "me")
	t.done(err)
	other := t.second()
	if id := ok(other.NextJob(t.ctx, "other"))(t); id != 0 {
		t.Errorf("another server is given job %d", id)
	}
	if _, _, err := other.WorkOnJob(t.ctx, j.ID, "other"); vetting.ProblemOf(err) != vetting.Conflict {
		t.Errorf("another server works on it: %v", err)
	}
	later := OpenWith(t, store.Options{DSN: t.dsn, Now: func() time.Time { return time.Now().Add(time.Minute) }}) // the first fell silent
	if id := ok(later.NextJob(t.ctx, "other"))(t); id != j.ID {
		t.Errorf("after a silence, another server is given job %d", id)
	}
	done, _, err := later.WorkOnJob(t.ctx, j.ID, "other")
	t.done(err)
	if done.State != vetting.JobDone || done.Worked.Changes != 30 {
		t.Errorf("taken over: %s", show(done))
	}
	if _, _, err := t.store.WorkOnJob(t.ctx, j.ID, "me"); vetting.ProblemOf(err) != vetting.Conflict {
		t.Errorf("the first comes back: %v", err)
	}
}

func jobCancelled(t *trial) {
	t.many(30)
	t.inSteps(25)
	j := t.plan(task(vetting.JobSuspend))
	t.refuses(vetting.Conflict)(t.store.CancelJob(t.ctx, By, j.ID, "no"))
	j = t.plan(task(vetting.JobRevoke))
	t.confirm(j)
	t.refuses(vetting.Conflict)(t.store.ResumeJob(t.ctx, By, j.ID, "no"))
	_, _, err := t.store.WorkOnJob(t.ctx, j.ID, "me")
	t.done(err)
	cancelled := ok(t.store.CancelJob(t.ctx, By, j.ID, "wrong batch"))(t)
	if cancelled.State != vetting.JobCancelled || cancelled.Worked.Changes != 25 {
		t.Errorf("cancelled: %s", show(cancelled))
	}
	if _, _, err := t.store.WorkOnJob(t.ctx, j.ID, "me"); vetting.ProblemOf(err) != vetting.Conflict {
		t.Errorf("work on a cancelled job: %v", err)
	}
	t.refuses(vetting.Conflict)(t.store.CancelJob(t.ctx, By, j.ID, "again"))
	if resumed := ok(t.store.ResumeJob(t.ctx, By, j.ID, "right batch"))(t); resumed.State != vetting.JobRunning {
		t.Errorf("resumed: %s", show(resumed))
	}
	if done := t.work(j.ID); done.Worked.Changes != 30 {
		t.Errorf("done: %s", show(done))
	}
	t.refuses(vetting.Conflict)(t.store.ResumeJob(t.ctx, By, j.ID, "once more"))
	t.refuses(vetting.NotFound)(t.store.CancelJob(t.ctx, By, 1<<40, "no"))
}

func jobJudgesAnew(t *trial) {
	ids := t.many(4)
	k := task(vetting.JobQuarantine)
	k.Selected.State = vetting.DeviceIssued
	j := t.confirm(t.plan(k))
	t.use(t.device(ids[0]).Certificate) // active: no longer what was selected
	t.setState(ids[1], vetting.DeviceScrapped)
	t.enrol(Claim(Unit(2).BootstrapKey, Key("other", 2)), vetting.ReasonReplaced)
	w := t.work(j.ID)
	same(t, "worked", w.Worked, vetting.JobCount{Devices: 2, Changes: 2})
	for i, want := range []vetting.DeviceState{vetting.DeviceActive, vetting.DeviceScrapped, vetting.DeviceQuarantined, vetting.DeviceQuarantined} {
		if d := t.device(ids[i]); d.State != want {
			t.Errorf("device %d is %s, want %s", i, d.State, want)
		}
	}
	if c := t.cert(t.device(ids[2]).Certificate); c.State != vetting.CertificateOnHold {
		t.Errorf("the newer certificate is %s", c.State)
	}
}

func jobRenewals(t *trial) {
	ids := t.many(4)
	t.revoke(ids[1], vetting.RevokedUnspecified)
	k := task(vetting.JobRenew)
	k.Start = time.Now().Add(-3 * time.Hour).Truncate(time.Second).UTC()
	j := t.confirm(t.plan(k))
	if w := t.work(j.ID); w.Worked.Changes != 3 || w.Worked.Devices != 4 {
		t.Errorf("worked: %s", show(w))
	}
	n := 0
	for i, id := range ids {
		from, until, given, err := t.store.RenewalHint(t.ctx, ok(t.store.DeviceHistory(t.ctx, id))(t).Certificates[0].ID)
		t.done(err)
		if i == 1 {
			if given {
				t.Error("a revoked certificate is to be renewed")
			}
			continue
		}
		if want := k.Start.Add(time.Duration(n) * 40 * time.Minute); !given || !from.Equal(want) || !until.Equal(want.Add(40*time.Minute)) {
			t.Errorf("slot %d is from %s to %s (%v), want it from %s on", n, from, until, given, want)
		}
		n++
	}
	// a later job moves the slots
	k.Start = k.Start.Add(time.Minute)
	t.work(t.confirm(t.plan(k)).ID)
	if from, _, _, _ := t.store.RenewalHint(t.ctx, ok(t.store.DeviceHistory(t.ctx, ids[0]))(t).Certificates[0].ID); !from.Equal(k.Start) {
		t.Errorf("the slot moved to %s, want %s", from, k.Start)
	}
}

func jobPlansEnd(t *trial) {
	t.many(1)
	j := t.plan(task(vetting.JobRevoke))
	t.later(25 * time.Hour)
	t.refuses(vetting.Conflict)(t.store.ConfirmJob(t.ctx, By, j.ID, j.Digest, true))
	t.plan(task(vetting.JobRetire))
	t.refuses(vetting.NotFound)(t.store.Job(t.ctx, j.ID))
}

func jobListed(t *trial) {
	t.many(3)
	k := task(vetting.JobSuspend)
	k.Selected = vetting.Selection{}
	for n := range 300 {
		k.Selected.Identifiers.Serials = append(k.Selected.Identifiers.Serials, Unit(n).Serial)
	}
	j := t.plan(k)
	if j.Listed != 300 || j.UnknownCount != 297 || len(j.Unknown) != vetting.MaxUnknown || j.Unknown[0] != Unit(3).Serial || j.Found.Devices != 3 {
		t.Errorf("the plan is %s", show(j))
	}
	if len(j.Selected.Identifiers.Serials) != 0 {
		t.Error("the plan repeats the list")
	}
}
