package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/durable"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/server/api"
)

func (a *app) operatorRenew() *cobra.Command {
	var csr, out string
	c := &cobra.Command{
		Use: "renew [NAME]", Short: "Get another certificate on an operator's key", Args: cobra.MaximumNArgs(1),
		Long: `renew gets your own next certificate on the key that you have and puts it in the place of the present one, in one step. It is of the CA that
issues now, and lasts as long as a new one; the one before counts until it ends, or its CA is closed. Do it every few months: a rig by a timer.

With a name, an admin gets one for somebody else, or for one whose certificate ran out: give the operator's PKCS#10 request on the same key.`,
		Example: "  touchmark --dir rig-7 operator renew\n  touchmark operator renew paula --csr paula.csr --out paula/paula.crt",
	}
	f := c.Flags()
	f.StringVar(&csr, "csr", "", "the operator's own PKCS#10 request in PEM, a `file`")
	f.StringVar(&out, "out", "", "the `file` for the certificate (default: the one that is used now)")
	c.MarkFlagsRequiredTogether("csr", "out")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		if (len(args) == 1) != (csr != "") {
			return nil, usagef("somebody else's certificate takes a name, --csr and --out; your own takes none of them")
		}
		if csr == "" {
			return a.renewOwn(ctx, cl)
		}
		text, err := os.ReadFile(csr)
		if err != nil {
			return nil, fmt.Errorf("the request (--csr): %w", err)
		}
		return renewOperator(ctx, cl, "/operators/"+segment(args[0])+"/certificate", string(text), out)
	}, func(w io.Writer, o *api.OperatorCreated) { showOperator(w, &o.Operator) })
}

// renewOwn renews the certificate of who asks.
func (a *app) renewOwn(ctx context.Context, cl *client) ([]byte, error) {
	p, err := a.resolve()
	if err != nil {
		return nil, err
	}
	var me api.Whoami
	if err := cl.api(ctx, http.MethodGet, "/whoami", nil, &me); err != nil {
		return nil, err
	}
	key, err := keys.Ring{Dir: "."}.Open(ctx, keyURI(p.Key))
	if err != nil {
		return nil, err
	}
	csr, err := requestFor(key, me.Operator.Name)
	if err != nil {
		return nil, err
	}
	return renewOperator(ctx, cl, "/whoami/certificate", csr, p.Certificate)
}

func renewOperator(ctx context.Context, cl *client, path, csr, out string) (raw []byte, err error) {
	if err := cl.api(ctx, http.MethodPost, path, api.OperatorRenewal{CSR: csr}, &raw); err != nil {
		return nil, err
	}
	var made api.OperatorCreated
	if err := decode(raw, &made); err != nil {
		return nil, err
	}
	return raw, durable.Replace(out, []byte(made.Certificate), 0o644)
}
