package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
)

func (a *app) rigReplace() *cobra.Command {
	var in api.ReplacementInput
	c := &cobra.Command{Use: "replace", Args: cobra.NoArgs, Short: "Replace a unit that failed by another one",
		Long: `replace lets another unit of the same order take the place of one that failed its test after it got its certificate and before it used it.
The unit that failed is scrapped, its certificate revoked, and its unit of the order is free again; then register the other one. That
cannot be taken back. The order must leave it to its site (` + "`touchmark order set-rework`" + `); if it does not, an administrator
does it with ` + "`touchmark device rework`" + `.`,
		Example: "  touchmark --dir rig-7 rig replace --serial A-0001 --by A-0815 --note 'radio dead'"}
	unitFlags(c, &in.Unit)
	f := c.Flags()
	f.StringVar(&in.By.Serial, "by", "", "the serial number of the unit that takes its place (required)")
	f.StringVar(&in.Note, "note", "", "why, for the audit log (required)")
	_ = c.MarkFlagRequired("by")
	_ = c.MarkFlagRequired("note")
	a.yesFlag(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, _ []string) (raw []byte, err error) {
		in.By.Product = in.Product
		if err := a.confirm("The unit that failed is scrapped for good and its certificate revoked; " + in.By.Serial + " takes its place."); err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, "/replacements", in, &raw)
		return raw, err
	}, showReplacement)
}

func showReplacement(w io.Writer, r *api.Replacement) {
	for _, u := range []struct {
		what, serial string
		id           int64
	}{{"scrapped", r.Device.Serial, r.Device.ID}, {"replaced by", r.By.Serial, r.By.ID}} {
		field(w, u.what, fmt.Sprintf("%s (device %d)", u.serial, u.id))
	}
	field(w, "next", "register it: touchmark rig register --serial "+r.By.Serial)
}
