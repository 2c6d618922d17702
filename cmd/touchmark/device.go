package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) deviceCommand() *cobra.Command {
	return group("device", "Devices, their states and histories",
		`A device is named by its number or its serial number. One that consists of digits is a number; write serial:4711 for
a serial number that does, too.

Commands that change a device take a selection instead of one, too, such as --order PO-4711 --made-before 2026-03-01. They show
what would change (--dry-run: no more than that), ask, and leave the work to the server as a job.`,
		a.deviceList(), a.deviceShow(), a.deviceHistory(),
		a.deviceMove("suspend", vetting.JobSuspend, vetting.DeviceSuspended, "Take a device out of service for a while", "It gets no certificate meanwhile and its present one is on hold; resume takes that back."),
		a.deviceMove("resume", vetting.JobResume, vetting.DeviceActive, "Put a suspended device back into service", ""),
		a.deviceMove("quarantine", vetting.JobQuarantine, vetting.DeviceQuarantined, "Lock a device that may be counterfeit", "It gets no certificate meanwhile and its present one is on hold; release takes that back."),
		a.deviceRelease(),
		a.deviceMove("retire", vetting.JobRetire, vetting.DeviceRetired, "Take a device out of service for good", "Its certificate is revoked. That cannot be taken back."),
		a.deviceScrap(),
		a.deviceRework(), a.deviceReadmit(), a.deviceRevoke(), a.deviceRenew(), a.deviceChallenge(), a.deviceAnswer())
}

func (a *app) deviceList() *cobra.Command {
	q := url.Values{}
	c := &cobra.Command{Use: "list", Short: "List devices", Example: "  touchmark device list --order PO-4711 --state active\n  touchmark device list --mac 02:00:5e:10:00:01"}
	for _, f := range [...]struct{ name, about string }{
		{"site", "only devices of this site"}, {"order", "only devices of this order"}, {"product", "only devices of this product"},
		{"state", "only devices in this state"}, {"owner", "only devices of this owner, or manufacturer"}, {"serial", "only the device with this serial number"},
		{"mac", "only the device with this MAC address"}, {"uid", "only the device with this chip UID"},
	} {
		filter(c, q, f.name, f.about)
	}
	oneOf(c, "state", vetting.DeviceStates...)
	a.completeFlags(c)
	return listCommand(a, c, "/devices", func() url.Values { return q }, table[vetting.Device]{
		columns: "ID\tSERIAL\tMAC\tSTATE\tPRODUCT\tORDER\tSITE\tCERTIFICATE\tUPDATED", none: "There are no such devices.",
		row: func(d *vetting.Device) []any {
			return []any{d.ID, d.Serial, d.MAC, d.State, d.Product, d.Order, d.Site, short(d.Certificate), d.Updated}
		},
	})
}

// deviceFilter adds --device to a list, which takes what [deviceID] does.
func (a *app) deviceFilter(c *cobra.Command, q url.Values, about string) {
	filter(c, q, "device", about+", by number or serial number")
	c.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if !q.Has("device") {
			return nil
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		id, err := deviceID(cmd.Context(), cl, q.Get("device"))
		q.Set("device", id)
		return err
	}
}

// deviceID finds the number of the device that an argument names.
func deviceID(ctx context.Context, cl *client, arg string) (string, error) {
	serial, isSerial := strings.CutPrefix(arg, "serial:")
	if _, err := strconv.ParseUint(arg, 10, 63); err == nil && !isSerial {
		return arg, nil
	}
	p, err := cl.list(ctx, "/devices", url.Values{"serial": {serial}}, 2)
	if err != nil {
		return "", err
	}
	var found []vetting.Device
	for _, raw := range p.Items {
		var d vetting.Device
		if err := json.Unmarshal(raw, &d); err != nil {
			return "", err
		}
		found = append(found, d)
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("there is no device with the serial number %q; `touchmark device list` takes other identifiers, too", serial)
	case 1:
		return strconv.FormatInt(found[0].ID, 10), nil
	}
	return "", fmt.Errorf("several devices have the serial number %q (%s %d, %s %d, …): name one by its number", serial,
		found[0].Product, found[0].ID, found[1].Product, found[1].ID)
}

func (a *app) deviceShow() *cobra.Command {
	c := &cobra.Command{Use: "show DEVICE", Short: "Show a device", Args: cobra.ExactArgs(1), Example: "  touchmark device show A-0001"}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		id, err := deviceID(ctx, cl, args[0])
		if err != nil {
			return nil, err
		}
		return getter("/devices/")(ctx, cl, []string{id})
	}, showDevice)
}

func (a *app) deviceHistory() *cobra.Command {
	c := &cobra.Command{Use: "history DEVICE", Short: "Show everything that is kept about a device", Args: cobra.ExactArgs(1)}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		id, err := deviceID(ctx, cl, args[0])
		if err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodGet, "/devices/"+id+"/history", nil, &raw)
		return raw, err
	}, showHistory)
}

// deviceMove makes a command that moves a device to a state. A warning makes
// it ask first.
func (a *app) deviceMove(name string, action vetting.JobAction, to vetting.DeviceState, about, warning string) *cobra.Command {
	c := &cobra.Command{Use: name + " [DEVICE]", Short: about, Long: about + ". " + warning,
		Example: fmt.Sprintf("  touchmark device %s A-0001 --note 'ticket 815'\n  touchmark device %[1]s --order PO-4711 --line 3 --note 'ticket 815' --dry-run", name)}
	return a.deviceChange(c, action, warning, func(*vetting.Device) (vetting.DeviceState, error) { return to, nil })
}

func (a *app) deviceRelease() *cobra.Command {
	c := &cobra.Command{Use: "release [DEVICE]", Short: "Take a device out of quarantine, back to the state it came from"}
	return a.deviceChange(c, vetting.JobRelease, "", func(d *vetting.Device) (vetting.DeviceState, error) {
		if d.State != vetting.DeviceQuarantined {
			return "", fmt.Errorf("device %d (%s) is %s, not in quarantine: there is nothing to release it from", d.ID, d.Serial, d.State)
		}
		return d.Before, nil
	})
}

// deviceScrap uses the door that is open to a site's operators, too, where it
// may.
func (a *app) deviceScrap() *cobra.Command {
	c := a.deviceMove("scrap", vetting.JobScrap, vetting.DeviceScrapped, "Note that a device was destroyed", "Its certificates are revoked, and its unit of the order stays used. That cannot be taken back.")
	c.Long += `
A site's operators may scrap what was never powered on. That uses up a unit of the order, as long as one is left, unless
the order was made with --waste returns.`
	return c
}

func (a *app) deviceReadmit() *cobra.Command {
	return a.deviceEnd(&cobra.Command{Use: "readmit DEVICE", Short: "Let a device start anew, with its first proof",
		Long:    "readmit is for a device in service that lost its key, or whose certificate was revoked: every certificate it has is revoked, and it may enrol once more, with its bootstrap key or at a rig, on the unit of the order that it took.",
		Example: "  touchmark device readmit A-0001 --note 'flash replaced in repair'"},
		"readmit", "Every certificate of device %s is revoked, and it may enrol anew.")
}

func (a *app) deviceRework() *cobra.Command {
	return a.deviceEnd(&cobra.Command{Use: "rework DEVICE", Short: "Scrap a device and give its unit back",
		Long:    "rework is for a board that was replaced: the device is scrapped, its certificate revoked, and the unit of the order that it took is free for the board that replaces it. That cannot be taken back.",
		Example: "  touchmark device rework A-0001 --note 'radio dead, board replaced by A-0815'"},
		"rework", "Device %s is scrapped for good, its certificate revoked, and its unit given back to its order.")
}

// deviceEnd completes a command that ends what a device has; warning names it.
func (a *app) deviceEnd(c *cobra.Command, act, warning string) *cobra.Command {
	note := ""
	c.Args = cobra.ExactArgs(1)
	c.Flags().StringVar(&note, "note", "", "why, for the audit log (required)")
	_ = c.MarkFlagRequired("note")
	a.yesFlag(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		id, err := deviceID(ctx, cl, args[0])
		if err != nil {
			return nil, err
		}
		if err := a.confirm(fmt.Sprintf(warning, args[0])); err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, "/devices/"+id+"/"+act, api.ReasonInput{Note: note}, &raw)
		return raw, err
	}, showDevice)
}

func (a *app) deviceRevoke() *cobra.Command {
	var in api.RevocationInput
	c := &cobra.Command{Use: "revoke [DEVICE]", Short: "Revoke a device's certificates",
		Long: `revoke ends all certificates that a device has, superseded ones among them. The device stays in its state, but has no way to
another certificate until an administrator readmits it. That cannot be taken back; suspend and quarantine can.`,
		Example: "  touchmark device revoke A-0001 --reason keyCompromise --note 'ticket 815'\n  touchmark device revoke --order PO-4711 --made-before 2026-03-01 --reason keyCompromise --note 'ticket 815'"}
	revocationFlags(c, &in)
	a.yesFlag(c)
	c = objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		id, err := deviceID(ctx, cl, args[0])
		if err != nil {
			return nil, err
		}
		if err := a.confirm("All certificates of device " + args[0] + " are revoked (" + string(in.Reason) + "). That cannot be taken back."); err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, "/devices/"+id+"/revoke", in, &raw)
		return raw, err
	}, showDevice)
	return a.orMany(c, vetting.JobRevoke, func(b *bulk) { b.in.Note, b.in.Reason = in.Note, in.Reason })
}

func (a *app) deviceChange(c *cobra.Command, action vetting.JobAction, warning string, to func(*vetting.Device) (vetting.DeviceState, error)) *cobra.Command {
	note := ""
	c.Flags().StringVar(&note, "note", "", "why, for the audit log (required)")
	_ = c.MarkFlagRequired("note")
	a.yesFlag(c)
	c = objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		id, err := deviceID(ctx, cl, args[0])
		if err != nil {
			return nil, err
		}
		var d vetting.Device
		if err := cl.api(ctx, http.MethodGet, "/devices/"+id, nil, &d); err != nil {
			return nil, err
		}
		state, err := to(&d)
		if err != nil {
			return nil, err
		}
		if warning != "" && d.MayBecome(state) { // else the server says why not
			what := fmt.Sprintf("Device %d (%v, %s of order %s at %s) goes from %s to %s. %s", d.ID, d.Identity, d.Product, d.Order, d.Site, d.State, state, warning)
			if err := a.confirm(what); err != nil {
				return nil, err
			}
		}
		if state == vetting.DeviceScrapped && d.State == vetting.DeviceManufactured {
			err = cl.api(ctx, http.MethodPost, "/devices/"+id+"/scrap", api.ScrapInput{Note: note}, &raw)
			return raw, err
		}
		err = cl.api(ctx, http.MethodPost, "/devices/"+id+"/state", api.DeviceStateInput{State: state, Note: note}, &raw)
		return raw, err
	}, showDevice)
	return a.orMany(c, action, func(b *bulk) { b.in.Note = note })
}

func showDevice(w io.Writer, d *vetting.Device) {
	field(w, "device", d.ID)
	field(w, "serial", d.Serial)
	field(w, "MAC", d.MAC)
	field(w, "UID", d.UID)
	field(w, "product", d.Product)
	field(w, "order", d.Order)
	field(w, "site", d.Site)
	field(w, "state", d.State)
	field(w, "owner", d.Owner)
	field(w, "transfer", number(d.Transfer))
	field(w, "came from", d.Before)
	if d.Contested {
		field(w, "contested", "another record claims the same identity or key")
	}
	field(w, "bootstrap key", d.BootstrapKey)
	field(w, "key", d.Key)
	field(w, "certificate", d.Certificate)
	field(w, "issued", d.Issued)
	field(w, "activated", d.Activated)
	if d.Test != nil {
		field(w, "test", d.Test.Text())
	}
	field(w, "replaced by", number(d.ReplacedBy))
	field(w, "replaces", number(d.Replaces))
	field(w, "updated", d.Updated)
}

func showHistory(w io.Writer, h *vetting.History) {
	showDevice(w, &h.Device)
	fmt.Fprintf(w, "record\trow %d of manifest %d\n", h.Record.Row, h.Record.ManifestID)
	field(w, "hardware", h.Record.Made.HardwareRevision)
	field(w, "firmware", h.Record.Made.Firmware)
	field(w, "line", h.Record.Made.Line)
	field(w, "rig", h.Record.Made.Rig)
	field(w, "made", h.Record.Made.Time)
	for _, c := range h.Certificates {
		fmt.Fprintf(w, "certificate\t%s  %s  issued %s  until %s\n", c.Serial, c.State, text(c.Issued), text(c.NotAfter))
	}
	for _, r := range h.Registrations {
		fmt.Fprintf(w, "registration\t%d  %s  %s  %s\n", r.ID, text(r.At), r.Outcome, text(r.Text()))
	}
	for _, r := range h.Tests {
		showTestResult(w, r)
	}
	for _, e := range h.Evidence {
		showEvidence(w, e)
	}
	for _, d := range h.Disputes {
		fmt.Fprintf(w, "dispute\t%d  row %d of manifest %d: %s\n", d.ID, d.Record.Row, d.Record.ManifestID, join(d.Kinds))
	}
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
