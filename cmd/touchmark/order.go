package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) orderCommand() *cobra.Command {
	return group("order", "Production orders and their quotas",
		`An order entitles a site to build a quantity of a product. A draft holds devices, an open order admits them, a closed one
gives out no further unit, a cancelled one gives out nothing any more. A paused order holds devices until it is opened again.`,
		a.orderCreate(), a.orderList(), a.orderShow(),
		a.orderOpen(),
		a.orderState("pause NAME", "Pause an open order: devices are held until it is opened again", vetting.OrderPaused, false),
		a.orderState("close NAME", "Close an order: no further unit; issued ones may still fetch theirs", vetting.OrderClosed, false),
		a.yesFlag(a.orderState("cancel NAME", "Cancel an order for good: nothing is issued any more", vetting.OrderCancelled, true)),
		a.orderQuantity(), a.orderWindow(), a.orderLimits(), a.orderRework(),
		a.orderRaiseApprovals(), a.orderManifestApprovals(), a.orderRaises(), a.orderApproveRaise(), a.orderWithdrawRaise())
}

func (a *app) orderCreate() *cobra.Command {
	var in api.OrderInput
	var open bool
	var from, to string
	c := &cobra.Command{
		Use: "create NAME", Short: "Create an order", Args: cobra.ExactArgs(1),
		Example: `  touchmark order create PO-4711 --product thermostat --site penang --quantity 500 --open
  touchmark order create PO-4712 --product thermostat --site penang --quantity 1000 \
      --serials A-1000..A-1999 --not-after 2027-03-31 --signatures 2`,
	}
	f := c.Flags()
	f.StringVar(&in.Product, "product", "", "what is built (required)")
	f.StringVar(&in.Site, "site", "", "where it is built (required)")
	f.Int64Var(&in.Quantity, "quantity", 0, "the most units that may be issued (required)")
	f.BoolVar(&open, "open", false, "admit devices at once; otherwise the order is a draft. One that wants approvals is a draft first: ask with order open")
	f.StringSliceVar(&in.Identifiers.Serials, "serials", nil, "serial number or `range` FROM..TO that manifests may list; may be repeated")
	f.StringSliceVar(&in.Identifiers.MACs, "macs", nil, "MAC address or `range`; may be repeated")
	f.StringSliceVar(&in.Identifiers.UIDs, "uids", nil, "chip UID or `range`; may be repeated")
	f.StringVar(&from, "not-before", "", "from when devices may first enrol: `time` as 2026-12-01 or RFC 3339")
	f.StringVar(&to, "not-after", "", "until when devices may first enrol")
	limitFlags(c, &in.Limits)
	f.StringVar((*string)(&in.Waste), "waste", string(vetting.WasteCounts), "what becomes of the unit of a record that is scrapped before power-on: counts (it is used up) or returns")
	oneOf(c, "waste", vetting.WasteCounts, vetting.WasteReturns)
	f.StringVar((*string)(&in.Rework), "rework", string(vetting.ReworkByAdministrator), "who may replace units that failed before they used their certificate: administrator, or site for its rigs, too")
	oneOf(c, "rework", vetting.ReworkByAdministrator, vetting.ReworkBySite)
	f.Int64Var(&in.MaxReplacements, "max-replacements", 0, "with --rework site: how many units its rigs may replace; 0 means 2 % of the quantity")
	f.IntVar(&in.RaiseApprovals, "raise-approvals", 0, "how many others must approve a larger quantity")
	f.IntVar(&in.ManifestApprovals, "manifest-approvals", 0, "how many others must approve each manifest")
	f.IntVar(&in.ManifestSignatures, "signatures", 1, "how many site operators must sign each manifest")
	for _, flag := range []string{"product", "site", "quantity"} {
		_ = c.MarkFlagRequired(flag)
	}
	a.completeFlags(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		in.Name, in.State = args[0], vetting.OrderDraft
		if open {
			in.State = vetting.OrderOpen
		}
		if in.NotBefore, err = parseTime("--not-before", from, false); err != nil {
			return nil, err
		}
		if in.NotAfter, err = parseTime("--not-after", to, true); err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, "/orders", in, &raw)
		return raw, err
	}, showOrder)
}

// parseTime reads a day or an instant; end takes a day to its last second.
func parseTime(flag, s string, end bool) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	t, err := time.ParseInLocation(time.DateOnly, s, time.Local)
	if err != nil {
		return time.Time{}, usagef("%s %q is no time: want a day such as 2026-12-01, or RFC 3339 such as 2026-12-01T08:00:00Z", flag, s)
	}
	if end {
		t = t.AddDate(0, 0, 1).Add(-time.Second)
	}
	return t, nil
}

func (a *app) orderList() *cobra.Command {
	q := url.Values{}
	c := &cobra.Command{Use: "list", Short: "List orders", Example: "  touchmark order list --state open --site penang"}
	filter(c, q, "site", "only orders of this site")
	filter(c, q, "product", "only orders of this product")
	filter(c, q, "state", "only orders in this state: draft, open, paused, closed, cancelled")
	oneOf(c, "state", vetting.OrderDraft, vetting.OrderOpen, vetting.OrderPaused, vetting.OrderClosed, vetting.OrderCancelled)
	a.completeFlags(c)
	return listCommand(a, c, "/orders", func() url.Values { return q }, table[vetting.Order]{
		columns: "NAME\tPRODUCT\tSITE\tSTATE\tISSUED\tQUANTITY\tUPDATED", none: "There are no such orders.",
		row: func(o *vetting.Order) []any {
			return []any{o.Name, o.Product, o.Site, o.State, o.Issued, o.Quantity, o.Updated}
		},
	})
}

// filter adds a flag that narrows a list; the query takes its value.
func filter(c *cobra.Command, q url.Values, name, about string) {
	c.Flags().Var(queryValue{q, name}, name, about)
}

// queryValue is a flag whose value is a query parameter.
type queryValue struct {
	query url.Values
	name  string
}

func (v queryValue) Set(s string) error { v.query.Set(v.name, s); return nil }
func (v queryValue) Type() string       { return "string" }
func (v queryValue) String() string {
	if v.query == nil {
		return ""
	}
	return v.query.Get(v.name)
}

func (a *app) orderShow() *cobra.Command {
	c := &cobra.Command{Use: "show NAME", Short: "Show an order and how far it is filled", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/orders")}
	return objectCommand(a, c, getter("/orders/"), showOrder)
}

func (a *app) orderState(use, about string, to vetting.OrderState, ask bool) *cobra.Command {
	c := &cobra.Command{Use: use, Short: about, Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/orders")}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		if ask {
			var o vetting.Order
			if err := cl.api(ctx, http.MethodGet, "/orders/"+segment(args[0]), nil, &o); err != nil {
				return nil, err
			}
			if err := a.confirm(fmt.Sprintf("Order %s (%s, %s of %s units issued) will be %s for good. The %s units that are left are lost, and issued devices that have not fetched their certificate cannot any more.",
				o.Name, o.State, count(o.Issued), count(o.Quantity), to, count(o.Left()))); err != nil {
				return nil, err
			}
		}
		return changeOrder(ctx, cl, args[0], api.OrderPatch{State: &to})
	}, showOrder)
}

func (a *app) orderOpen() *cobra.Command {
	note := ""
	c := &cobra.Command{Use: "open NAME", Short: "Open a draft, paused or closed order: devices are admitted", Args: cobra.ExactArgs(1),
		Long: `open has an order admit devices. Where its product wants the approval of others for that (product update --order-approvals), it only asks for it: the
order opens when they have approved (touchmark approval). What they sign says all of the order, and is void once the order or its product is changed.`,
		Example: "  touchmark order open PO-4711\n  touchmark order open PO-4712 --note 'the customer ordered'", ValidArgsFunction: a.completeFirst("/orders")}
	c.Flags().StringVar(&note, "note", "", "why, for those who approve it")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		return a.openOrder(cmd.Context(), cl, args[0], note)
	}
	return a.jsonFlag(c)
}

// openOrder opens an order, or asks for that.
func (a *app) openOrder(ctx context.Context, cl *client, name, note string) error {
	var o vetting.Order
	if err := cl.api(ctx, http.MethodGet, "/orders/"+segment(name), nil, &o); err != nil {
		return err
	}
	var p vetting.Product
	if err := cl.api(ctx, http.MethodGet, "/products/"+segment(o.Product), nil, &p); err != nil {
		return err
	}
	n := o.Unapproved(p.Approvals)
	if n == 0 || o.State == vetting.OrderOpen {
		to := vetting.OrderOpen
		raw, err := changeOrder(ctx, cl, name, api.OrderPatch{State: &to})
		if err != nil {
			return err
		}
		return show(a, raw, showOrder)
	}
	if note == "" {
		return usagef("order %s opens with %s by others: say why with --note", name, counted(int64(n), "approval", "approvals"))
	}
	var raw []byte
	if err := cl.api(ctx, http.MethodPost, "/orders/"+segment(name)+"/opening", api.ReasonInput{Note: note}, &raw); err != nil {
		return err
	}
	return show(a, raw, showProposal)
}

func changeOrder(ctx context.Context, cl *client, name string, p api.OrderPatch) (raw []byte, err error) {
	err = cl.api(ctx, http.MethodPatch, "/orders/"+segment(name), p, &raw)
	return raw, err
}

func (a *app) orderWindow() *cobra.Command {
	var from, to string
	c := &cobra.Command{Use: "set-window NAME", Short: "Change when devices may first enrol", Args: cobra.ExactArgs(1),
		Long:    "set-window changes the side of the window that a flag names; \"none\" opens that side.",
		Example: "  touchmark order set-window PO-4711 --not-before none --not-after 2027-06-30", ValidArgsFunction: a.completeFirst("/orders")}
	c.Flags().StringVar(&from, "not-before", "", "new begin, or none")
	c.Flags().StringVar(&to, "not-after", "", "new end, or none")
	c.MarkFlagsOneRequired("not-before", "not-after")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (_ []byte, err error) {
		var p api.OrderPatch
		if p.NotBefore, err = parseSide("--not-before", from, false); err != nil {
			return nil, err
		}
		if p.NotAfter, err = parseSide("--not-after", to, true); err != nil {
			return nil, err
		}
		return changeOrder(ctx, cl, args[0], p)
	}, showOrder)
}

func limitFlags(c *cobra.Command, l *vetting.Limits) {
	f := c.Flags()
	f.Int64Var(&l.PerHour, "per-hour", 0, "the most units issued in an hour; devices beyond it are held for a while")
	f.Int64Var(&l.PerDay, "per-day", 0, "the most units issued in a day")
	f.Int64Var(&l.RigPerHour, "rig-per-hour", 0, "the most units by one rig in an hour")
	f.Int64Var(&l.LinePerHour, "line-per-hour", 0, "the most units on one line in an hour, as records name it")
}

func (a *app) orderLimits() *cobra.Command {
	var given vetting.Limits
	c := &cobra.Command{Use: "set-limits NAME", Short: "Change how fast units are issued", Args: cobra.ExactArgs(1),
		Long:    "set-limits changes the limits that flags name; 0 takes one away. A device beyond a limit is held and admitted by itself when it comes again later.",
		Example: "  touchmark order set-limits PO-4711 --per-hour 120 --line-per-hour 60", ValidArgsFunction: a.completeFirst("/orders")}
	f := c.Flags()
	limitFlags(c, &given)
	c.MarkFlagsOneRequired("per-hour", "per-day", "rig-per-hour", "line-per-hour")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		var o vetting.Order
		if err := cl.api(ctx, http.MethodGet, "/orders/"+segment(args[0]), nil, &o); err != nil {
			return nil, err
		}
		for flag, field := range map[string][2]*int64{
			"per-hour": {&o.Limits.PerHour, &given.PerHour}, "per-day": {&o.Limits.PerDay, &given.PerDay},
			"rig-per-hour": {&o.Limits.RigPerHour, &given.RigPerHour}, "line-per-hour": {&o.Limits.LinePerHour, &given.LinePerHour},
		} {
			if f.Changed(flag) {
				*field[0] = *field[1]
			}
		}
		return changeOrder(ctx, cl, args[0], api.OrderPatch{Limits: &o.Limits})
	}, showOrder)
}

func (a *app) orderRework() *cobra.Command {
	var most int64
	c := &cobra.Command{Use: "set-rework NAME site|administrator", Short: "Change who may replace units that failed before they used their certificate", Args: cobra.ExactArgs(2),
		Long: `set-rework says who may replace a unit that failed its test after it got its certificate and before it used it, so that another one takes
its unit of the order: an administrator only, or the site's rigs, too. Replaced units are scrapped and their certificates revoked; whoever
does not ask whether a certificate is revoked would take one all the same, so leave it to the site only where that is asked, and for no
more units than you would expect to fail. If you give no number, that of before stays; it is 2 % of the quantity at first.`,
		Example: "  touchmark order set-rework PO-4711 site --max-replacements 25", ValidArgsFunction: a.completeFirst("/orders")}
	c.Flags().Int64Var(&most, "max-replacements", 0, "how many units the site's rigs may replace; 0 means 2 % of the quantity")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		to := vetting.Rework(args[1])
		if to != vetting.ReworkBySite && to != vetting.ReworkByAdministrator {
			return nil, usagef("%q is neither site nor administrator", args[1])
		}
		p := api.OrderPatch{Rework: &to}
		if c.Flags().Changed("max-replacements") {
			if to != vetting.ReworkBySite {
				return nil, usagef("--max-replacements bounds what the site replaces: give it with site")
			}
			p.MaxReplacements = &most
		}
		return changeOrder(ctx, cl, args[0], p)
	}, showOrder)
}

// rework is a line about who replaces units, if there is something to tell.
func rework(o *vetting.Order) string {
	units := counted(o.Replaced, "unit", "units")
	switch {
	case o.Rework == vetting.ReworkBySite:
		return fmt.Sprintf("by the site's rigs, too: %s of at most %s replaced", units, count(o.MaxReplacements))
	case o.Replaced > 0:
		return fmt.Sprintf("by an administrator; the site replaced %s before", units)
	}
	return ""
}

// limits is a line about how fast units are issued.
func limits(l vetting.Limits) string {
	var list []string
	for _, b := range []struct {
		n    int64
		what string
	}{{l.PerHour, "an hour"}, {l.PerDay, "a day"}, {l.RigPerHour, "an hour by one rig"}, {l.LinePerHour, "an hour on one line"}} {
		if b.n > 0 {
			list = append(list, count(b.n)+" "+b.what)
		}
	}
	return strings.Join(list, ", ")
}

func parseSide(flag, s string, end bool) (api.OptionalTime, error) {
	if s == "none" {
		return api.OptionalTime{Set: true}, nil
	}
	t, err := parseTime(flag, s, end)
	return api.OptionalTime{Set: s != "", Time: t}, err
}

func showOrder(w io.Writer, o *vetting.Order) {
	field(w, "order", o.Name)
	field(w, "product", o.Product)
	field(w, "site", o.Site)
	field(w, "state", o.State)
	fmt.Fprintf(w, "issued\t%s of %s (%s left)\n", count(o.Issued), count(o.Quantity), count(o.Left()))
	fmt.Fprintf(w, "wasted\t%s (waste %s)\n", count(o.Wasted), o.Waste)
	if o.Lot != 0 {
		field(w, "licensed", fmt.Sprintf("%s of %s, as lot %d", counted(o.Licensed, "chip", "chips"), count(o.Quantity), o.Lot))
	}
	field(w, "serials", join(o.Identifiers.Serials))
	field(w, "MACs", join(o.Identifiers.MACs))
	field(w, "UIDs", join(o.Identifiers.UIDs))
	field(w, "not before", o.NotBefore)
	field(w, "not after", o.NotAfter)
	field(w, "limits", limits(o.Limits))
	if o.RaiseApprovals > 0 {
		field(w, "raises", "need "+counted(int64(o.RaiseApprovals), "approval", "approvals")+"; see touchmark order raises "+o.Name)
	}
	if o.Approved {
		field(w, "approved", "others agreed to it as it is")
	}
	field(w, "rework", rework(o))
	if o.ManifestApprovals > 0 {
		field(w, "manifests", "need "+counted(int64(o.ManifestApprovals), "approval", "approvals"))
	}
	field(w, "signatures", fmt.Sprintf("%d wanted on each manifest", o.ManifestSignatures))
	field(w, "created", o.Created)
	field(w, "updated", o.Updated)
}
