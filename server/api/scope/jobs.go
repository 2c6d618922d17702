package scope

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// Jobs reach over all sites and owners, so their people know of none.

// PlanJob looks what a task would do.
func (v View) PlanJob(ctx context.Context, act access.Act, t vetting.Task) (*vetting.Job, error) {
	return ofManufacturer(v, unknownID("job", 0), func() (*vetting.Job, error) { return v.store.PlanJob(ctx, act, t) })
}

// ConfirmJob starts a planned job.
func (v View) ConfirmJob(ctx context.Context, act access.Act, id int64, digest string, accept bool) (*vetting.Job, error) {
	return ofManufacturer(v, unknownID("job", id), func() (*vetting.Job, error) { return v.store.ConfirmJob(ctx, act, id, digest, accept) })
}

// CancelJob stops a running job.
func (v View) CancelJob(ctx context.Context, act access.Act, id int64, note string) (*vetting.Job, error) {
	return ofManufacturer(v, unknownID("job", id), func() (*vetting.Job, error) { return v.store.CancelJob(ctx, act, id, note) })
}

// ResumeJob goes on with a cancelled job.
func (v View) ResumeJob(ctx context.Context, act access.Act, id int64, note string) (*vetting.Job, error) {
	return ofManufacturer(v, unknownID("job", id), func() (*vetting.Job, error) { return v.store.ResumeJob(ctx, act, id, note) })
}

// Jobs lists jobs.
func (v View) Jobs(ctx context.Context, p vetting.Page) ([]*vetting.Job, error) {
	if !v.op.Role.OfManufacturer() {
		return nil, nil
	}
	return v.store.Jobs(ctx, p)
}

// Job finds a job.
func (v View) Job(ctx context.Context, id int64) (*vetting.Job, error) {
	return ofManufacturer(v, unknownID("job", id), func() (*vetting.Job, error) { return v.store.Job(ctx, id) })
}

// JobDevices lists the devices that a job selects.
func (v View) JobDevices(ctx context.Context, id int64, p vetting.Page) ([]*vetting.JobDevice, error) {
	if !v.op.Role.OfManufacturer() {
		return nil, nil
	}
	return v.store.JobDevices(ctx, id, p)
}
