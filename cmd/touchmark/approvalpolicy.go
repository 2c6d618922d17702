package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/server/api"
)

func (a *app) approvalPolicy() *cobra.Command {
	var cas, operators int
	c := &cobra.Command{Use: "policy", Short: "Show or raise how many others must agree to acts on CAs, and to operators who may approve", Args: cobra.NoArgs,
		Long: `Without flags policy shows what holds for the installation. An administrator raises the numbers; nobody lowers them, or one person would do that first.
They are kept in the database, and no number can be larger than there are administrators and approvers besides the one who asks.`,
		Example: "  touchmark approval policy\n  touchmark approval policy --cas 2 --operators 1"}
	f := c.Flags()
	f.IntVar(&cas, "cas", 0, "how many others must approve that an issuing CA is created, becomes the default, is closed or reopened")
	f.IntVar(&operators, "operators", 0, "how many others must approve an operator whose role may approve")
	return objectCommand(a, c, func(ctx context.Context, cl *client, _ []string) (raw []byte, err error) {
		if !f.Changed("cas") && !f.Changed("operators") {
			err = cl.api(ctx, http.MethodGet, "/approval-policy", nil, &raw)
			return raw, err
		}
		var in api.ApprovalPolicyInput
		if err := cl.api(ctx, http.MethodGet, "/approval-policy", nil, &in); err != nil {
			return nil, err
		}
		if f.Changed("cas") {
			in.CAs = cas
		}
		if f.Changed("operators") {
			in.Operators = operators
		}
		err = cl.api(ctx, http.MethodPut, "/approval-policy", in, &raw)
		return raw, err
	}, func(w io.Writer, p *api.ApprovalPolicy) {
		field(w, "issuing CAs", wanted(p.CAs))
		field(w, "operators who may approve", wanted(p.Operators))
	})
}

func wanted(n int) string {
	if n == 0 {
		return "nobody is asked"
	}
	return counted(int64(n), "approval", "approvals") + " by others"
}

// guarded is how many others must agree to a kind of act.
func guarded(ctx context.Context, cl *client, kind approval.Kind) (int, error) {
	var p api.ApprovalPolicy
	err := cl.api(ctx, http.MethodGet, "/approval-policy", nil, &p)
	return approval.Policy{CAs: p.CAs, Operators: p.Operators}.Wanted(kind), err
}

// noted refuses to ask others for something without a reason.
func noted(what string, n int, note string) error {
	if note == "" {
		return usagef("%s wants %s: say why with --note", what, wanted(n))
	}
	return nil
}

// actOnIssuer does something to a CA below the root, or asks for it where
// others must agree.
func (a *app) actOnIssuer(ctx context.Context, in api.IssuerProposalInput, do func(*client) ([]byte, error)) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	n, err := guarded(ctx, cl, in.Act)
	if err != nil {
		return err
	}
	if n == 0 {
		raw, err := do(cl)
		if err != nil {
			return err
		}
		return show(a, raw, showIssuer)
	}
	if err := noted(fmt.Sprintf("%s %s", in.Act, in.Name), n, in.Note); err != nil {
		return err
	}
	var raw []byte
	if err := cl.api(ctx, http.MethodPost, "/issuer-proposals", in, &raw); err != nil {
		return err
	}
	return show(a, raw, showProposal)
}
