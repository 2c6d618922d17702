package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) jobCommand() *cobra.Command {
	return group("job", "Acts on many devices",
		`A job is made by a device command with a selection instead of a device, such as device revoke --order PO-4711. It runs on the
server, in the background, and survives whatever becomes of it.`,
		a.jobList(), a.jobShow(), a.jobDevices(),
		a.jobStep("cancel", "Stop a running job", "What was done stays done; show says how much that is. It can be resumed."),
		a.jobStep("resume", "Go on with a cancelled job", ""))
}

func (a *app) jobList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List jobs, newest first"}
	return listCommand(a, c, "/jobs", func() url.Values { return nil }, table[vetting.Job]{
		columns: "ID\tSTATE\tACTION\tBY\tCHANGED\tOF\tCREATED\tNOTE", none: "There are no jobs.",
		row: func(j *vetting.Job) []any {
			return []any{j.ID, j.State, j.Action, j.By, j.Worked.Changes, j.Found.Changes, j.Created, j.Note}
		},
	})
}

func (a *app) jobShow() *cobra.Command {
	wait := false
	c := &cobra.Command{Use: "show JOB", Short: "Show a job and how far it is", Args: cobra.ExactArgs(1)}
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is no longer running")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		if !wait {
			return getter("/jobs/")(ctx, cl, args)
		}
		return a.waitForJob(ctx, cl, args[0])
	}, showJob)
}

func (a *app) jobDevices() *cobra.Command {
	limit := 0
	c := &cobra.Command{Use: "devices JOB", Short: "List the devices that a job selects, and what would become of each now", Args: cobra.ExactArgs(1)}
	c.Flags().IntVar(&limit, "limit", 100, "show at most so many; 0 shows all")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return runList(cmd.Context(), a, "/jobs/"+segment(args[0])+"/devices", nil, limit, table[vetting.JobDevice]{
			columns: "ID\tSERIAL\tMAC\tSTATE\tBECOMES\tSTAYS BECAUSE", none: "It selects no device.",
			row: func(d *vetting.JobDevice) []any {
				return []any{d.ID, d.Serial, d.MAC, d.State, d.Becomes, d.Kept}
			},
		})
	}
	return a.jsonFlag(c)
}

func (a *app) jobStep(name, about, more string) *cobra.Command {
	note := ""
	c := &cobra.Command{Use: name + " JOB", Short: about, Long: strings.TrimSpace(about + ". " + more), Args: cobra.ExactArgs(1)}
	c.Flags().StringVar(&note, "note", "", "why, for the audit log (required)")
	_ = c.MarkFlagRequired("note")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		err = cl.api(ctx, http.MethodPost, "/jobs/"+segment(args[0])+"/"+name, api.JobNote{Note: note}, &raw)
		return raw, err
	}, showJob)
}

// jobPoll is how often a job is looked at that is waited for.
const jobPoll = 500 * time.Millisecond

// waitForJob shows how far a job is until it no longer runs.
func (a *app) waitForJob(ctx context.Context, cl *client, id string) (raw []byte, err error) {
	bar := a.bar("job " + id)
	defer bar.done()
	for {
		if raw, err = getter("/jobs/")(ctx, cl, []string{id}); err != nil {
			return nil, err
		}
		var j vetting.Job
		if err := json.Unmarshal(raw, &j); err != nil {
			return nil, err
		}
		if j.State != vetting.JobRunning {
			return raw, nil
		}
		bar.set(j.Worked.Devices, j.Found.Devices)
		if err := cl.pause(ctx, jobPoll); err != nil {
			return nil, err
		}
	}
}

// bulk are the flags of a command that acts on many devices.
type bulk struct {
	in                      api.JobInput
	serials                 string // a file
	made, issued, certified [2]string
	start                   string
	dryRun, accept, waiting bool
}

// selectionFlags name the flags that select devices.
var selectionFlags = []string{"all", "site", "order", "product", "owner", "state", "hardware", "firmware", "line", "made-after", "made-before",
	"issued-after", "issued-before", "issuer", "certified-after", "certified-before", "serials", "macs", "uids", "serials-file"}

// bulkFlags lets a command take a selection instead of a device.
func (a *app) bulkFlags(c *cobra.Command) *bulk {
	b := new(bulk)
	f, s := c.Flags(), &b.in.Selected
	f.BoolVar(&s.All, "all", false, "every device there is")
	f.StringVar(&s.Site, "site", "", "devices of this site")
	f.StringVar(&s.Order, "order", "", "devices of this order")
	f.StringVar(&s.Product, "product", "", "devices of this product")
	f.StringVar(&s.Owner, "owner", "", "devices that this owner holds; \"manufacturer\" for those of nobody else")
	f.StringVar((*string)(&s.State), "state", "", "devices in this state")
	f.StringVar(&s.HardwareRevision, "hardware", "", "devices of this hardware `revision`")
	f.StringVar(&s.Firmware, "firmware", "", "devices that were made with this firmware `version`")
	f.StringVar(&s.Line, "line", "", "devices built on this line")
	f.StringVar(&b.made[0], "made-after", "", "devices made at this `time` or later: 2026-03-01 or RFC 3339")
	f.StringVar(&b.made[1], "made-before", "", "devices made before this `time`")
	f.StringVar(&b.issued[0], "issued-after", "", "devices that got their first certificate at this `time` or later")
	f.StringVar(&b.issued[1], "issued-before", "", "devices that got it before this `time`")
	f.StringVar(&s.Issuer, "issuer", "", "devices whose present certificate is of this issuing `CA`")
	f.StringVar(&b.certified[0], "certified-after", "", "devices that got their present certificate at this `time` or later")
	f.StringVar(&b.certified[1], "certified-before", "", "devices that got it before this `time`, such as before a profile was changed")
	f.StringSliceVar(&s.Identifiers.Serials, "serials", nil, "serial number or `range` FROM..TO; may be repeated")
	f.StringSliceVar(&s.Identifiers.MACs, "macs", nil, "MAC address or `range`; may be repeated")
	f.StringSliceVar(&s.Identifiers.UIDs, "uids", nil, "chip UID or `range`; may be repeated")
	f.StringVar(&b.serials, "serials-file", "", "a `file` of serial numbers, one a line; - for standard input")
	f.BoolVar(&b.dryRun, "dry-run", false, "only say which devices would change")
	f.BoolVar(&b.accept, "accept-changes", false, "start also if by then other devices would change than were shown")
	f.BoolVar(&b.waiting, "wait", false, "wait until the job is done")
	oneOf(c, "state", vetting.DeviceStates...)
	a.completeFlags(c)
	return b
}

// orMany lets a command on one device take a selection, too. It gives the
// bulk what the command's own flags say.
func (a *app) orMany(c *cobra.Command, action vetting.JobAction, own func(*bulk)) *cobra.Command {
	b, single := a.bulkFlags(c), c.RunE
	c.Args = cobra.MaximumNArgs(1)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		many, err := b.selects(cmd, args)
		if err != nil {
			return err
		}
		if !many {
			return single(cmd, args)
		}
		own(b)
		return b.run(cmd.Context(), a, action)
	}
	return c
}

// deviceRenew asks for early renewals.
func (a *app) deviceRenew() *cobra.Command {
	spread := ""
	c := &cobra.Command{
		Use: "renew", Short: "Ask devices to renew early, spread over a time", Args: cobra.NoArgs,
		Long: `renew gives each selected device a slot of its own in which it should renew; the slots are spread evenly over a time, so that
they do not come all at once. A device learns its slot when it asks for its renewal information.`,
		Example: "  touchmark device renew --order PO-4711 --spread 7d --note 'another validity'\n  touchmark device renew --issuer device-ca --spread 90d --note 'move to the new CA'\n  touchmark device renew --product thermostat --certified-before 2026-11-21 --spread 30d --note 'the new profile'",
	}
	b := a.bulkFlags(c)
	f := c.Flags()
	f.StringVar(&b.in.Note, "note", "", "why, for the audit log (required)")
	f.StringVar(&spread, "spread", "7d", "over how long a `time` the renewals are spread: 7d, 36h")
	f.StringVar(&b.start, "start", "", "from when on: `time` as 2026-12-01 or RFC 3339; otherwise at once")
	_ = c.MarkFlagRequired("note")
	a.yesFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := b.selects(cmd, nil); err != nil {
			return err
		}
		d, err := parseSpread(spread)
		if err != nil {
			return err
		}
		b.in.SpreadSeconds = int64(d / time.Second)
		return b.run(cmd.Context(), a, vetting.JobRenew)
	}
	return a.jsonFlag(c)
}

// parseSpread reads a number of days or a Go duration.
func parseSpread(s string) (time.Duration, error) {
	if days, found := strings.CutSuffix(s, "d"); found {
		n, err := strconv.ParseUint(days, 10, 16)
		if err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, usagef("--spread %q is no time: want days such as 7d, or hours such as 36h", s)
	}
	return d, nil
}

// selects reports whether the command line selects devices, and that it names
// none, too.
func (b *bulk) selects(c *cobra.Command, args []string) (bool, error) {
	for _, name := range selectionFlags {
		if !c.Flags().Changed(name) {
			continue
		}
		if len(args) > 0 {
			return false, usagef("%s names a device and --%s selects some: give one or the other", args[0], name)
		}
		return true, nil
	}
	if len(args) == 0 {
		return false, usagef("which device? Name one, or select some with --order, --site, --serials and the like; `%s --help` lists them", c.CommandPath())
	}
	return false, nil
}

// run plans a job, shows the plan, asks, and starts it.
func (b *bulk) run(ctx context.Context, a *app, action vetting.JobAction) error {
	b.in.Action = action
	if err := b.complete(a.in); err != nil {
		return err
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	var raw []byte
	if err := cl.api(ctx, http.MethodPost, "/jobs", b.in, &raw); err != nil {
		return err
	}
	var plan vetting.Job
	if err := json.Unmarshal(raw, &plan); err != nil {
		return err
	}
	if b.dryRun {
		return show(a, raw, showJob)
	}
	if plan.Found.Changes == 0 {
		return errors.Join(show(a, raw, showJob), errors.New("no device would change"))
	}
	if !a.json {
		if err := show(a, raw, showJob); err != nil {
			return err
		}
	}
	if err := a.confirm(fmt.Sprintf("%s will be changed: %s. %s", counted(plan.Found.Changes, "device", "devices"), plan.Action, bulkWarnings[plan.Action])); err != nil {
		return err
	}
	id := strconv.FormatInt(plan.ID, 10)
	if err := cl.api(ctx, http.MethodPost, "/jobs/"+id+"/confirm", api.JobConfirmation{Digest: plan.Digest, AcceptChanges: b.accept}, &raw); err != nil {
		return err
	}
	if b.waiting {
		if raw, err = a.waitForJob(ctx, cl, id); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.err, "Job %s runs on the server; `touchmark job show %s --wait` follows it.\n", id, id)
	}
	return show(a, raw, showJob)
}

// bulkWarnings say what cannot be taken back.
var bulkWarnings = map[vetting.JobAction]string{
	vetting.JobRevoke: "Revoked certificates stay revoked.", vetting.JobRetire: "That cannot be taken back.", vetting.JobScrap: "That cannot be taken back.",
}

// complete reads what flags name.
func (b *bulk) complete(in io.Reader) (err error) {
	s := &b.in.Selected
	for _, t := range []struct {
		flag, value string
		into        *time.Time
	}{
		{"--made-after", b.made[0], &s.MadeFrom}, {"--made-before", b.made[1], &s.MadeBefore}, {"--start", b.start, &b.in.Start},
		{"--issued-after", b.issued[0], &s.IssuedFrom}, {"--issued-before", b.issued[1], &s.IssuedBefore},
		{"--certified-after", b.certified[0], &s.CertifiedFrom}, {"--certified-before", b.certified[1], &s.CertifiedBefore},
	} {
		if *t.into, err = parseTime(t.flag, t.value, false); err != nil {
			return err
		}
	}
	if b.serials == "" {
		return nil
	}
	var text []byte
	if b.serials == "-" {
		text, err = io.ReadAll(in)
	} else {
		text, err = os.ReadFile(b.serials)
	}
	if err != nil {
		return fmt.Errorf("--serials-file: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" {
			s.Identifiers.Serials = append(s.Identifiers.Serials, line)
		}
	}
	return nil
}

func showJob(w io.Writer, j *vetting.Job) {
	field(w, "job", j.ID)
	field(w, "state", j.State)
	field(w, "action", strings.TrimSpace(string(j.Action)+" "+string(j.Reason)))
	if j.SpreadSeconds > 0 {
		field(w, "spread over", j.Spread())
	}
	field(w, "note", j.Note)
	field(w, "selected", selectedText(j))
	if j.UnknownCount > 0 {
		field(w, "unknown", fmt.Sprintf("%s in no record: %s", count(int64(j.UnknownCount)), join(j.Unknown)))
	}
	showCount(w, "found", "would change", j.Found)
	for _, d := range j.Sample {
		fmt.Fprintf(w, "e.g.\tdevice %d  %s  %s\n", d.ID, text(d.Identity), d.State)
	}
	if !j.Started.IsZero() {
		showCount(w, "worked", "changed", j.Worked)
	}
	field(w, "by", j.By)
	field(w, "planned", j.Created)
	field(w, "started", j.Started)
	field(w, "updated", j.Updated)
}

func showCount(w io.Writer, name, changed string, c vetting.JobCount) {
	fmt.Fprintf(w, "%s\t%s, of which %s %s\n", name, counted(c.Devices, "device", "devices"), count(c.Changes), changed)
	for _, k := range c.Kept {
		fmt.Fprintf(w, "\t%s %s: %s\n", count(k.Devices), k.State, k.Why)
	}
}

// selectedText says in a line which devices are meant.
func selectedText(j *vetting.Job) string {
	s, parts := &j.Selected, []string(nil)
	add := func(what string, v any) {
		if t := text(v); t != "-" {
			parts = append(parts, what+" "+t)
		}
	}
	if s.All {
		parts = append(parts, "all devices")
	}
	add("site", s.Site)
	add("order", s.Order)
	add("product", s.Product)
	add("owner", s.Owner)
	add("state", s.State)
	add("hardware", s.HardwareRevision)
	add("firmware", s.Firmware)
	add("line", s.Line)
	add("made from", s.MadeFrom)
	add("made before", s.MadeBefore)
	add("issued from", s.IssuedFrom)
	add("issued before", s.IssuedBefore)
	add("issuing CA", s.Issuer)
	add("certified from", s.CertifiedFrom)
	add("certified before", s.CertifiedBefore)
	add("serials", join(s.Identifiers.Serials))
	add("MACs", join(s.Identifiers.MACs))
	add("UIDs", join(s.Identifiers.UIDs))
	if j.Listed > 0 {
		parts = append(parts, counted(int64(j.Listed), "listed identifier", "listed identifiers"))
	}
	return strings.Join(parts, ", ")
}
