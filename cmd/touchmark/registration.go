package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) registrationCommand() *cobra.Command {
	return group("registration", "Requests to be let in, their verdicts and reasons",
		"A registration is one request of a device to be let in, with its verdict (admitted, held, refused) and the reasons. A held one may wait for your decision.",
		a.registrationList(), a.registrationShow(), a.registrationDecide())
}

func (a *app) registrationList() *cobra.Command {
	q := url.Values{}
	undecided := false
	c := &cobra.Command{Use: "list", Short: "List registrations, newest first",
		Example: "  touchmark registration list --undecided\n  touchmark registration list --order PO-4711 --verdict refused"}
	filter(c, q, "site", "only registrations of this site's devices")
	filter(c, q, "order", "only registrations against this order")
	filter(c, q, "verdict", "only registrations with this verdict: admitted, held, refused")
	a.deviceFilter(c, q, "only registrations of this device")
	c.Flags().BoolVar(&undecided, "undecided", false, "only held ones that wait for a person")
	oneOf(c, "verdict", vetting.Admitted, vetting.Held, vetting.Refused)
	a.completeFlags(c)
	query := func() url.Values {
		if undecided {
			q.Set("undecided", "true")
		}
		return q
	}
	return listCommand(a, c, "/registrations", query, table[vetting.Registration]{
		columns: "ID\tWHEN\tVERDICT\tDEVICE\tORDER\tWHO\tWHY", none: "There are no such registrations.",
		row: func(r *vetting.Registration) []any {
			return []any{r.ID, r.At, r.Outcome, number(r.DeviceID), r.Order, r.Claim.Asserted, r.Text()}
		},
	})
}

func (a *app) registrationShow() *cobra.Command {
	c := &cobra.Command{Use: "show ID", Short: "Show a registration: what was claimed, the verdict and why", Args: cobra.ExactArgs(1)}
	return objectCommand(a, c, getter("/registrations/"), showRegistration)
}

func (a *app) registrationDecide() *cobra.Command {
	var in api.DecisionInput
	c := &cobra.Command{
		Use: "decide ID admit|refuse", Short: "Decide a held registration", Args: cobra.ExactArgs(2),
		Long:    "decide keeps your word on a registration that is held. It takes effect when the device asks again. It lifts a hold, never a quota.",
		Example: "  touchmark registration decide 4711 admit --note 'label misprinted, seen by QA'",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return []string{"admit", "refuse"}, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	c.Flags().StringVar(&in.Note, "note", "", "why, for the device's people and the audit log (required)")
	_ = c.MarkFlagRequired("note")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		switch args[1] {
		case "admit":
			in.Admit = true
		case "refuse":
		default:
			return nil, usagef("%q is no decision: want admit or refuse", args[1])
		}
		err = cl.api(ctx, http.MethodPost, "/registrations/"+segment(args[0])+"/decision", in, &raw)
		return raw, err
	}, showRegistration)
}

func showRegistration(w io.Writer, r *vetting.Registration) {
	field(w, "registration", r.ID)
	field(w, "when", r.At)
	field(w, "verdict", r.Outcome)
	for _, reason := range r.Reasons {
		fmt.Fprintf(w, "reason\t%s: %s\n", reason.Code, text(reason.Text))
	}
	field(w, "device", number(r.DeviceID))
	field(w, "product", r.Product)
	field(w, "order", r.Order)
	field(w, "site", r.Site)
	field(w, "claims to be", r.Claim.Asserted)
	field(w, "proof", r.Claim.Auth.Proof)
	field(w, "proved by key", r.Claim.Auth.Key)
	field(w, "rig", r.Claim.Auth.Operator)
	field(w, "key", r.Claim.Key)
	field(w, "over", r.Claim.Transport+" from "+r.Claim.Remote)
	field(w, "certificate", r.Certificate)
	if r.Repeats > 0 {
		field(w, "came again", fmt.Sprintf("%d times, last %s", r.Repeats, text(r.Last)))
	}
	if d := r.Decision; d != nil {
		word := "refuse"
		if d.Admit {
			word = "admit"
		}
		field(w, "decision", fmt.Sprintf("%s, by %s at %s: %s", word, d.By, text(d.At), d.Note))
	}
	field(w, "log leaf", r.Leaf)
}
