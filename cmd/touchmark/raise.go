package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) orderQuantity() *cobra.Command {
	note := ""
	c := &cobra.Command{Use: "set-quantity NAME N", Short: "Change an order's quantity; not below what was issued", Args: cobra.ExactArgs(2),
		Long: `set-quantity changes how many units may be issued. Where the order wants approvals of a larger quantity, it only asks for it: the order
changes when others have approved (approve-raise). Such a raise expires after seven days, and is void once the order is changed.`,
		Example: "  touchmark order set-quantity PO-4711 550\n  touchmark order set-quantity PO-4711 600 --note 'customer ordered 50 more'", ValidArgsFunction: a.completeFirst("/orders")}
	c.Flags().StringVar(&note, "note", "", "why, for those who approve it")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		n, err := parseQuantity(args[1])
		if err != nil {
			return err
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		return a.setQuantity(cmd.Context(), cl, args[0], n, note)
	}
	return a.jsonFlag(c)
}

func parseQuantity(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, usagef("the quantity %q is no number", s)
	}
	return n, nil
}

// setQuantity changes an order, or asks for a raise of it.
func (a *app) setQuantity(ctx context.Context, cl *client, name string, n int64, note string) error {
	var o vetting.Order
	if err := cl.api(ctx, http.MethodGet, "/orders/"+segment(name), nil, &o); err != nil {
		return err
	}
	wanted, err := raiseApprovals(ctx, cl, &o, n)
	if err != nil {
		return err
	}
	if wanted == 0 || n <= o.Quantity {
		raw, err := changeOrder(ctx, cl, name, api.OrderPatch{Quantity: &n})
		if err != nil {
			return err
		}
		return show(a, raw, showOrder)
	}
	if note == "" {
		return usagef("order %s wants %s of a larger quantity: say why with --note", name, counted(int64(wanted), "approval", "approvals"))
	}
	var raw []byte
	if err := cl.api(ctx, http.MethodPost, "/orders/"+segment(name)+"/raises", api.RaiseInput{Quantity: n, Note: note}, &raw); err != nil {
		return err
	}
	return show(a, raw, showRaise)
}

// raiseApprovals is how many others must approve that an order has a quantity.
func raiseApprovals(ctx context.Context, cl *client, o *vetting.Order, n int64) (int, error) {
	var p vetting.Product
	if o.State != vetting.OrderOpen {
		return o.RaiseApprovals, nil
	}
	err := cl.api(ctx, http.MethodGet, "/products/"+segment(o.Product), nil, &p)
	return max(o.RaiseApprovals, p.Approvals.Opening(n)), err
}

func (a *app) orderRaiseApprovals() *cobra.Command {
	return a.orderApprovals("set-raise-approvals", "a larger quantity", func(n *int) api.OrderPatch { return api.OrderPatch{RaiseApprovals: n} })
}

func (a *app) orderManifestApprovals() *cobra.Command {
	return a.orderApprovals("set-manifest-approvals", "each manifest", func(n *int) api.OrderPatch { return api.OrderPatch{ManifestApprovals: n} })
}

// orderApprovals makes a command that says how many others must approve
// something of an order.
func (a *app) orderApprovals(name, what string, patch func(*int) api.OrderPatch) *cobra.Command {
	c := &cobra.Command{Use: name + " NAME N", Short: "Change how many others must approve " + what + "; the number only grows", Args: cobra.ExactArgs(2),
		Example: "  touchmark order " + name + " PO-4711 2", ValidArgsFunction: a.completeFirst("/orders")}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return nil, usagef("%q is no number", args[1])
		}
		return changeOrder(ctx, cl, args[0], patch(&n))
	}, showOrder)
}

func (a *app) orderRaises() *cobra.Command {
	t := table[vetting.Raise]{
		columns: "ASKED\tBY\tFROM\tTO\tSTATE\tAPPROVED BY\tEXPIRES\tWHY", none: "Nobody asked for a raise.",
		row: func(r *vetting.Raise) []any {
			return []any{r.At, r.By, r.From, r.To, r.State, givers(r.Approvals), r.Expires, r.Note}
		},
	}
	c := &cobra.Command{Use: "raises NAME", Short: "List the raises of an order, newest first", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/orders")}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		p, err := cl.list(cmd.Context(), "/orders/"+segment(args[0])+"/raises", url.Values{}, 0)
		if err != nil {
			return err
		}
		raw, err := json.Marshal(p)
		if err != nil {
			return err
		}
		return a.printList(raw, p, func(w io.Writer) error { return t.write(w, p) })
	}
	return a.jsonFlag(c)
}

func (a *app) orderApproveRaise() *cobra.Command {
	c := &cobra.Command{Use: "approve-raise NAME N", Short: "Approve that an order's quantity is raised to N", Args: cobra.ExactArgs(2),
		Long: `approve-raise is your signed yes to the raise that waits, and says to which quantity, so that you approve what you looked at. Whoever asked for it
cannot approve it, and nobody counts twice. With the last approval the order has the new quantity.`,
		Example: "  touchmark order raises PO-4711\n  touchmark order approve-raise PO-4711 600", ValidArgsFunction: a.completeFirst("/orders")}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		n, err := parseQuantity(args[1])
		if err != nil {
			return nil, err
		}
		id, err := latestRaise(ctx, cl, args[0])
		if err != nil {
			return nil, err
		}
		signature, err := a.signProposal(ctx, cl, fmt.Sprintf("/proposals/%d", id), func(t *approval.Terms) error { return raises(t, args[0], n) })
		if err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, raisePath(args[0], id)+"/approve", api.RaiseApprovalInput{Quantity: n, Signature: signature}, &raw)
		return raw, err
	}, showRaise)
}

// raises checks that the terms are those of a raise of an order to a quantity.
func raises(t *approval.Terms, order string, to int64) error {
	var st vetting.RaiseStatement
	if t.Kind != approval.OrderRaise {
		return fmt.Errorf("the server asks you to sign %s %s: nothing was signed", t.Kind, t.Subject)
	}
	if err := t.Read(&st); err != nil {
		return err
	}
	if st.Order != order || st.To != to {
		return fmt.Errorf("the raise of order %s is to %d units, not to %d: look at it again", st.Order, st.To, to)
	}
	return nil
}

func (a *app) orderWithdrawRaise() *cobra.Command {
	note := ""
	c := &cobra.Command{Use: "withdraw-raise NAME", Short: "Withdraw the raise that waits: yours, or another's", Args: cobra.ExactArgs(1),
		Example: "  touchmark order withdraw-raise PO-4711 --note 'the customer cancelled'", ValidArgsFunction: a.completeFirst("/orders")}
	c.Flags().StringVar(&note, "note", "", "why, for the audit log (required)")
	_ = c.MarkFlagRequired("note")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		id, err := latestRaise(ctx, cl, args[0])
		if err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, raisePath(args[0], id)+"/withdraw", api.ReasonInput{Note: note}, &raw)
		return raw, err
	}, showRaise)
}

// latestRaise is the number of an order's newest raise, the only one that can
// be waiting.
func latestRaise(ctx context.Context, cl *client, order string) (int64, error) {
	p, err := cl.list(ctx, "/orders/"+segment(order)+"/raises", url.Values{}, 1)
	if err != nil {
		return 0, err
	}
	if len(p.Items) == 0 {
		return 0, fmt.Errorf("nobody asked for a raise of order %s", order)
	}
	r, err := answered[vetting.Raise](p.Items[0])
	if err != nil {
		return 0, err
	}
	return r.ID, nil
}

func raisePath(order string, id int64) string {
	return fmt.Sprintf("/orders/%s/raises/%d", segment(order), id)
}

func showRaise(w io.Writer, r *vetting.Raise) {
	field(w, "raise", fmt.Sprintf("order %s from %s to %s", r.Order, count(r.From), count(r.To)))
	field(w, "state", r.State)
	field(w, "asked by", r.By)
	field(w, "why", r.Note)
	field(w, "asked", r.At)
	field(w, "approved by", givers(r.Approvals))
	if missing := r.Wanted - len(r.Approvals); missing > 0 && r.State == vetting.RaisePending {
		field(w, "still wanted", counted(int64(missing), "approval", "approvals")+" by others")
	}
	field(w, "expires", r.Expires)
}
