package api_test

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// The memory holds one job; what jobs do is the store's business.

func (m *memory) changeJob(a access.Act, id int64, s vetting.JobState) (*vetting.Job, error) {
	return act(m, a, func() (*vetting.Job, error) {
		if id != m.job.ID {
			return nil, vetting.Errorf(vetting.NotFound, "no job")
		}
		next := m.job
		next.State = s
		return &next, nil
	})
}

func (m *memory) PlanJob(_ context.Context, a access.Act, t vetting.Task) (*vetting.Job, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	return act(m, a, func() (*vetting.Job, error) {
		return &vetting.Job{ID: m.next(), State: vetting.JobPlanned, Task: t}, nil
	})
}

func (m *memory) ConfirmJob(_ context.Context, a access.Act, id int64, digest string, accept bool) (*vetting.Job, error) {
	if digest != m.job.Digest && !accept {
		return nil, vetting.Errorf(vetting.Conflict, "devices have changed")
	}
	return m.changeJob(a, id, vetting.JobRunning)
}

func (m *memory) CancelJob(_ context.Context, a access.Act, id int64, _ string) (*vetting.Job, error) {
	return m.changeJob(a, id, vetting.JobCancelled)
}

func (m *memory) ResumeJob(_ context.Context, a access.Act, id int64, _ string) (*vetting.Job, error) {
	return m.changeJob(a, id, vetting.JobRunning)
}

func (m *memory) Jobs(_ context.Context, p vetting.Page) ([]*vetting.Job, error) {
	return pick(m, []*vetting.Job{&m.job}, p, true, func(j *vetting.Job) int64 { return j.ID }, func(*vetting.Job) bool { return true })
}

func (m *memory) Job(_ context.Context, id int64) (*vetting.Job, error) {
	return find(m, []*vetting.Job{&m.job}, func(j *vetting.Job) bool { return j.ID == id })
}

func (m *memory) JobDevices(ctx context.Context, id int64, p vetting.Page) ([]*vetting.JobDevice, error) {
	if _, err := m.Job(ctx, id); err != nil {
		return nil, err
	}
	var list []*vetting.JobDevice
	for _, d := range m.devices {
		list = append(list, &vetting.JobDevice{ID: d.ID, Identity: d.Identity, State: d.State})
	}
	return pick(m, list, p, false, func(d *vetting.JobDevice) int64 { return d.ID }, func(*vetting.JobDevice) bool { return true })
}
