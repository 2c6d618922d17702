package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
)

func (a *app) crlCommand() *cobra.Command {
	return group("crl", "Revocation lists",
		"A CA's revocation lists say which of its certificates do not count: all of them, what changed since that list, and one list for each partition of its certificates. The status listener serves them to everybody.",
		a.crlList(), a.crlShow(), a.crlMake())
}

func crlPath(issuer string) string { return "/issuers/" + segment(issuer) + "/crls" }

func (a *app) crlList() *cobra.Command {
	limit := 0
	c := &cobra.Command{Use: "list ISSUER", Short: "List a CA's revocation lists", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/issuers"),
		Example: "  touchmark crl list device-ca"}
	c.Flags().IntVar(&limit, "limit", 100, "show at most so many; 0 shows all")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return runList(cmd.Context(), a, crlPath(args[0]), noQuery(), limit, table[api.CRL]{
			columns: "LIST\tNUMBER\tMADE\tUNTIL\tENTRIES\tBYTES", none: "There are no revocation lists of this CA: none were made yet, or status.crl.interval is 0s.",
			row: func(l *api.CRL) []any { return []any{l.List, l.Number, l.ThisUpdate, l.NextUpdate, l.Entries, l.Size} },
		})
	}
	return a.jsonFlag(c)
}

func (a *app) crlShow() *cobra.Command {
	c := &cobra.Command{Use: "show ISSUER [LIST]", Short: "Show one of a CA's revocation lists", Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeFirst("/issuers"),
		Long: `show tells of one list: full (also if none is named), delta, or a partition as list names it. What stands on it is for
other tools: curl fetches it from its address, openssl crl -inform DER -text shows it.`,
		Example: "  touchmark crl show device-ca\n  touchmark crl show device-ca 3/16"}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		list := append(args, "full")[1]
		page, err := cl.list(ctx, crlPath(args[0]), noQuery(), 0)
		if err != nil {
			return nil, err
		}
		for _, raw := range page.Items {
			var l api.CRL
			if err := decode(raw, &l); err != nil {
				return nil, err
			}
			if l.List == list {
				return raw, nil
			}
		}
		return nil, fmt.Errorf("there is no revocation list %s of %s: `touchmark crl list %s` shows those that there are", list, args[0], args[0])
	}, showCRL)
}

func (a *app) crlMake() *cobra.Command {
	c := &cobra.Command{Use: "make ISSUER", Short: "Make a CA's revocation lists now", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/issuers"),
		Long: `make has the server make all lists of a CA anew, before they are due, and shows the full one. It returns when they are
served. What caches keep stays there until its time is over.`}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		err = cl.api(ctx, http.MethodPost, crlPath(args[0]), nil, &raw)
		return raw, err
	}, showCRL)
}

func showCRL(w io.Writer, l *api.CRL) {
	field(w, "list", l.List+" of "+l.Issuer)
	field(w, "number", l.Number)
	if l.Base > 0 {
		field(w, "completes", l.Base)
	}
	field(w, "made", l.ThisUpdate)
	field(w, "until", l.NextUpdate)
	field(w, "entries", l.Entries)
	field(w, "bytes", l.Size)
	field(w, "SHA-256", l.Digest)
	field(w, "at", l.URL)
}
