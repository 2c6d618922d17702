package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
)

func (a *app) crlCommand() *cobra.Command {
	return group("crl", "Revocation lists",
		"A CA's revocation lists say which of its certificates do not count: all of them, what changed since that list, and one list for each partition of its certificates. The status listener serves them to everybody.",
		a.crlList(), a.crlShow(), a.crlMake(), a.crlPartitions(), a.crlEnd())
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

func partitionsPath(issuer string) string { return "/issuers/" + segment(issuer) + "/crl-partitions" }

func (a *app) crlPartitions() *cobra.Command {
	limit := 0
	c := &cobra.Command{Use: "partitions ISSUER", Short: "List into how many partitions a CA's certificates are or were divided", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/issuers"),
		Long: `partitions lists the number of partitions that is in force (status.partitions) and former ones, whose lists go on, each with the
certificates that name one of its lists and have not run out. The server reads all certificates of the CA for that.`,
		Example: "  touchmark crl partitions device-ca"}
	c.Flags().IntVar(&limit, "limit", 100, "show at most so many; 0 shows all")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return runList(cmd.Context(), a, partitionsPath(args[0]), noQuery(), limit, table[api.CRLPartitions]{
			columns: "PARTITIONS\tIN FORCE\tCERTIFICATES\tUNTIL", none: "There are no lists of partitions of this CA.",
			row: func(p *api.CRLPartitions) []any { return []any{p.Partitions, p.Current, p.Certificates, p.Until} },
		})
	}
	return a.jsonFlag(c)
}

func (a *app) crlEnd() *cobra.Command {
	c := a.yesFlag(&cobra.Command{Use: "end ISSUER NUMBER", Short: "End the revocation lists of a former number of partitions", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeFirst("/issuers"),
		Long: `end tells how many certificates name one of the lists, and asks. The lists are neither served nor made any more then: who checks
such a certificate by its list finds none, and may refuse it.`,
		Example: "  touchmark crl end device-ca 16"})
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		p, err := partitionsOf(ctx, cl, args[0], args[1])
		if err != nil {
			return nil, err
		}
		naming := "No certificate that is still valid names one of them."
		if p.Certificates > 0 {
			naming = fmt.Sprintf("%s, the last of them valid until %s, name one of them: who looks there finds no list.",
				counted(p.Certificates, "certificate", "certificates"), p.Until.Format(time.RFC3339))
		}
		if err := a.confirm(fmt.Sprintf("The lists of %d partitions of %s end. %s", p.Partitions, args[0], naming)); err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodDelete, partitionsPath(args[0])+"/"+segment(args[1]), nil, &raw)
		return raw, err
	}, func(w io.Writer, e *api.CRLsEnded) {
		fmt.Fprintf(w, "%s of %s ended.\n", counted(int64(e.Lists), "list", "lists"), text(e.Issuer))
	})
}

// partitionsOf finds what the server tells of a number of partitions.
func partitionsOf(ctx context.Context, cl *client, issuer, number string) (*api.CRLPartitions, error) {
	page, err := cl.list(ctx, partitionsPath(issuer), noQuery(), 0)
	if err != nil {
		return nil, err
	}
	for _, raw := range page.Items {
		p := new(api.CRLPartitions)
		if err := decode(raw, p); err != nil || strconv.Itoa(p.Partitions) == number {
			return p, err
		}
	}
	return nil, fmt.Errorf("there are no revocation lists of %s partitions of %s: `touchmark crl partitions %s` shows the numbers that there are", number, issuer, issuer)
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
