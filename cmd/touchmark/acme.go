package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) acmeCommand() *cobra.Command {
	return group("acme", "ACME accounts", "ACME clients ask for the certificates of devices that attest their keys.",
		group("eab", "Account keys (external account binding)",
			`An account key opens one ACME account, which may then ask for certificates for the devices of one order, or of one site. Its secret is
shown when it is made and never again.`,
			a.accountKeyCreate(), a.accountKeyList(), a.accountKeyRevoke()))
}

func (a *app) accountKeyCreate() *cobra.Command {
	var in api.AccountKeyInput
	var valid string
	c := &cobra.Command{
		Use: "create", Short: "Make an account key", Args: cobra.NoArgs,
		Example: "  touchmark acme eab create --order PO-4711 --note 'gateway line 2'\n  touchmark acme eab create --site hsinchu --valid 7d",
	}
	f := c.Flags()
	f.StringVar(&in.Order, "order", "", "the account may speak for the devices of this order")
	f.StringVar(&in.Site, "site", "", "the account may speak for the devices of all orders of this site")
	f.StringVar(&in.Note, "note", "", "who gets it, and what for")
	f.StringVar(&valid, "valid", "30d", "how long an account can be opened with it, as 30d or 12h")
	c.MarkFlagsOneRequired("order", "site")
	c.MarkFlagsMutuallyExclusive("order", "site")
	a.completeFlags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := ca.ParseValidity(valid)
		if err != nil || d == 0 {
			return usagef("--valid %q is no time such as 30d or 12h", valid)
		}
		in.Expires = time.Now().Add(d)
		cl, err := a.client()
		if err != nil {
			return err
		}
		var raw []byte
		if err := cl.api(cmd.Context(), http.MethodPost, "/account-keys", in, &raw); err != nil {
			return err
		}
		return show(a, raw, func(w io.Writer, k *api.AccountKeyCreated) {
			fmt.Fprintf(w, "directory  %s\nkid        %s\nhmac       %s\n", k.Directory, k.KeyID, k.Secret)
			fmt.Fprintf(a.err, "The secret is not shown again. An account can be opened with it until %s.\n", k.Key.Expires.Format(time.RFC3339))
		})
	}
	return a.jsonFlag(c)
}

func (a *app) accountKeyList() *cobra.Command {
	q := url.Values{}
	c := &cobra.Command{Use: "list", Short: "List account keys, newest first; never their secrets", Example: "  touchmark acme eab list --order PO-4711"}
	filter(c, q, "order", "only account keys of this order")
	filter(c, q, "site", "only account keys of this site and its orders")
	a.completeFlags(c)
	return listCommand(a, c, "/account-keys", func() url.Values { return q }, table[vetting.AccountKey]{
		columns: "ID\tORDER\tSITE\tSTATE\tEXPIRES\tUSED\tACCOUNT\tMADE BY\tNOTE", none: "There are no such account keys.",
		row: func(k *vetting.AccountKey) []any {
			account := ""
			if k.Account != 0 {
				account = fmt.Sprint(k.Account)
			}
			return []any{k.ID, k.Order, k.Site, k.State, k.Expires, k.Used, account, k.By, k.Note}
		},
	})
}

func (a *app) accountKeyRevoke() *cobra.Command {
	c := &cobra.Command{
		Use: "revoke ID...", Short: "Revoke account keys, and end the accounts that were opened with them", Args: cobra.MinimumNArgs(1),
		Example: "  touchmark acme eab revoke 4713",
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		return revokeEach(cmd.Context(), a, cl, "/account-keys/", args, func(w io.Writer, k *vetting.AccountKey) {
			fmt.Fprintf(w, "account key %d is %s\n", k.ID, k.State)
		})
	}
	return a.jsonFlag(c)
}
