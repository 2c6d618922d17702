package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// SelectionInput says which devices are meant: those that meet all of it.
type SelectionInput struct {
	All              bool                `json:"all,omitempty" doc:"Every device there is; must be said, and then nothing else"`
	Site             string              `json:"site,omitempty" maxLength:"63" doc:"Devices of this site"`
	Order            string              `json:"order,omitempty" maxLength:"63" doc:"Devices of this order"`
	Product          string              `json:"product,omitempty" maxLength:"63" doc:"Devices of this product"`
	Owner            string              `json:"owner,omitempty" maxLength:"63" doc:"Devices that this owner holds; \"manufacturer\" for those of nobody else"`
	State            vetting.DeviceState `json:"state,omitempty" enum:"manufactured,registered,issued,active,suspended,retired,quarantined,scrapped" doc:"Devices in this state"`
	HardwareRevision string              `json:"hardwareRevision,omitempty" maxLength:"128" doc:"Devices whose record names this hardware revision"`
	Firmware         string              `json:"firmware,omitempty" maxLength:"128" doc:"Devices whose record names this firmware version"`
	Line             string              `json:"line,omitempty" maxLength:"128" doc:"Devices whose record names this line"`
	MadeFrom         time.Time           `json:"madeFrom,omitzero" doc:"Devices made then or later, as their records say"`
	MadeBefore       time.Time           `json:"madeBefore,omitzero" doc:"Devices made earlier"`
	IssuedFrom       time.Time           `json:"issuedFrom,omitzero" doc:"Devices that got their first certificate then or later"`
	IssuedBefore     time.Time           `json:"issuedBefore,omitzero" doc:"Devices that got it earlier"`
	Issuer           string              `json:"issuer,omitempty" maxLength:"63" doc:"Devices whose present certificate is of this issuing CA"`
	CertifiedFrom    time.Time           `json:"certifiedFrom,omitzero" doc:"Devices that got their present certificate then or later"`
	CertifiedBefore  time.Time           `json:"certifiedBefore,omitzero" doc:"Devices that got it earlier, such as before a profile was changed"`
	Identifiers      vetting.Identifiers `json:"identifiers,omitzero" doc:"Devices that bear one of these identifiers, of each kind that is listed; single ones or ranges FROM..TO"`
}

// JobInput is a task to be planned.
type JobInput struct {
	Action        vetting.JobAction        `json:"action" enum:"revoke,suspend,resume,quarantine,release,retire,scrap,renew" doc:"What becomes of each device; renew asks for early renewals"`
	Reason        vetting.RevocationReason `json:"reason,omitempty" maxLength:"64" doc:"To revoke: the CRLReason (RFC 5280 §5.3.1), as for one device"`
	Start         time.Time                `json:"start,omitzero" doc:"To renew: from when on; absent means from the confirmation"`
	SpreadSeconds int64                    `json:"spreadSeconds,omitempty" minimum:"0" doc:"To renew: over how many seconds the renewals are spread"`
	Note          string                   `json:"note" minLength:"1" maxLength:"1000" doc:"Why, for the audit log"`
	Selected      SelectionInput           `json:"selected" doc:"Which devices"`
}

// JobConfirmation starts a planned job.
type JobConfirmation struct {
	Digest        string `json:"digest" minLength:"1" maxLength:"64" doc:"The plan's digest, as it was read"`
	AcceptChanges bool   `json:"acceptChanges,omitempty" doc:"Start also if other devices than the plan found would change by now"`
}

// JobNote stops a job or goes on with it.
type JobNote struct {
	Note string `json:"note" minLength:"1" maxLength:"1000" doc:"Why, for the audit log"`
}

// maxJobBody holds vetting.MaxSelected identifiers.
const maxJobBody = 16 << 20

func (in *JobInput) task() vetting.Task {
	return vetting.Task{Action: in.Action, Reason: in.Reason, Start: in.Start.UTC(), SpreadSeconds: in.SpreadSeconds, Note: in.Note,
		Selected: vetting.Selection(in.Selected)}
}

func (a *API) jobs() {
	register(a, access.ManageDevices, operation{
		id: "planJob", method: http.MethodPost, path: "/jobs", tag: tagJobs, maxBody: maxJobBody,
		summary: "Plan an act on many devices", status: http.StatusCreated, errors: []int{404},
		description: "A dry run: it says how many devices are selected, how many would change, and why not the others. Nothing is done before the plan is confirmed, which is possible for a day.",
	}, func(ctx context.Context, c *call, in *bodyOf[JobInput]) (*createdOutput[vetting.Job], error) {
		j, err := c.PlanJob(ctx, c.act, in.Body.task())
		return created(j, err, func(j *vetting.Job) string { return fmt.Sprintf("/jobs/%d", j.ID) })
	})
	register(a, access.ManageDevices, operation{
		id: "confirmJob", method: http.MethodPost, path: "/jobs/{id}/confirm", tag: tagJobs,
		summary:     "Start a planned job",
		description: "It looks again first. If other devices would change than the plan found, the answer is 409 with the new numbers, unless acceptChanges is set. The job then runs in the background: each device is judged anew at its turn.",
	}, func(ctx context.Context, c *call, in *idBody[JobConfirmation]) (*bodyOutput[vetting.Job], error) {
		return answer(c.ConfirmJob(ctx, c.act, in.ID, in.Body.Digest, in.Body.AcceptChanges))
	})
	register(a, access.ManageDevices, operation{
		id: "cancelJob", method: http.MethodPost, path: "/jobs/{id}/cancel", tag: tagJobs,
		summary: "Stop a running job", description: "What was done stays done; worked says how much that is. The job can be resumed.",
	}, func(ctx context.Context, c *call, in *idBody[JobNote]) (*bodyOutput[vetting.Job], error) {
		return answer(c.CancelJob(ctx, c.act, in.ID, in.Body.Note))
	})
	register(a, access.ManageDevices, operation{
		id: "resumeJob", method: http.MethodPost, path: "/jobs/{id}/resume", tag: tagJobs,
		summary: "Go on with a cancelled job",
	}, func(ctx context.Context, c *call, in *idBody[JobNote]) (*bodyOutput[vetting.Job], error) {
		return answer(c.ResumeJob(ctx, c.act, in.ID, in.Body.Note))
	})
	a.readJobs()
}

func (a *API) readJobs() {
	type list struct{ PageInput }
	register(a, access.ReadAudit, operation{
		id: "listJobs", method: http.MethodGet, path: "/jobs", tag: tagJobs,
		summary: "List jobs, newest first", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[vetting.Job], error) {
		return listing(in.PageInput, "jobs", func(j *vetting.Job) int64 { return j.ID },
			func(p vetting.Page) ([]*vetting.Job, error) { return c.Jobs(ctx, p) })
	})
	register(a, access.ReadAudit, operation{
		id: "getJob", method: http.MethodGet, path: "/jobs/{id}", tag: tagJobs,
		summary: "Show a job and how far it is",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[vetting.Job], error) {
		return answer(c.Job(ctx, in.ID))
	})
	type devices struct {
		PageInput
		ID int64 `path:"id" minimum:"1" doc:"The number"`
	}
	register(a, access.ReadAudit, operation{
		id: "listJobDevices", method: http.MethodGet, path: "/jobs/{id}/devices", tag: tagJobs,
		summary: "List the devices that a job selects, and what would become of each now", errors: []int{400},
	}, func(ctx context.Context, c *call, in *devices) (*listOutput[vetting.JobDevice], error) {
		return listing(in.PageInput, "job-devices", func(d *vetting.JobDevice) int64 { return d.ID },
			func(p vetting.Page) ([]*vetting.JobDevice, error) { return c.JobDevices(ctx, in.ID, p) })
	})
}
