package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) codeCommand() *cobra.Command {
	return group("code", "One-time enrolment codes",
		`A code lets one device enrol once, with its serial number as user name and the code as password (HTTP Basic over EST). It is for one
device, or for any one device of an order. It is shown when it is made and never again; the server keeps a hash of it.`,
		a.codeCreate(), a.codeList(), a.codeRevoke())
}

func (a *app) codeCreate() *cobra.Command {
	var in api.CodesInput
	var devices []string
	var valid, out, format, est string
	c := &cobra.Command{
		Use: "create", Short: "Make codes, and labels to print", Args: cobra.NoArgs,
		Long: "create makes codes for an order (--order, --count) or one for each device that is named (--device), and writes labels: an HTML page to print, with a QR code\nfor each, or CSV. The QR code holds touchmark://HOST:PORT/PRODUCT?code=CODE&order=ORDER, and serial=SERIAL if it is for one device.",
		Example: `  touchmark code create --order PO-4711 --count 100 --valid 30d --out labels.html
  touchmark code create --device A-0001`,
	}
	f := c.Flags()
	f.StringVar(&in.Order, "order", "", "make codes for any device of this order")
	f.IntVar(&in.Count, "count", 0, "how many codes to make for the order, at most 1000 at once (default 1)")
	f.StringSliceVar(&devices, "device", nil, "make a code for this `device`, named by number or serial number; may be repeated. An unused code that it has is revoked")
	f.StringVar(&valid, "valid", "30d", "how long the codes can be used, as 30d or 12h")
	f.StringVar(&out, "out", "", "write the labels to this new `file`; otherwise the codes are printed")
	f.StringVar(&format, "format", "", "html, csv or text (default: as --out ends, or text)")
	f.StringVar(&est, "est", "", "`host:port` at which devices reach EST, for the labels (default: the first of the server's names)")
	c.MarkFlagsOneRequired("order", "device")
	c.MarkFlagsMutuallyExclusive("order", "device")
	oneOf(c, "format", "html", "csv", "text")
	a.completeFlags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		write, err := labelWriter(format, out)
		if err != nil {
			return err
		}
		d, err := ca.ParseValidity(valid)
		if err != nil || d == 0 {
			return usagef("--valid %q is no time such as 30d or 12h", valid)
		}
		in.Expires = time.Now().Add(d)
		cl, err := a.client()
		if err != nil {
			return err
		}
		if in.Devices, err = deviceNumbers(cmd.Context(), cl, devices); err != nil {
			return err
		}
		return a.makeCodes(cmd.Context(), cl, in, est, out, write)
	}
	return a.jsonFlag(c)
}

func deviceNumbers(ctx context.Context, cl *client, names []string) (ids []int64, err error) {
	for _, name := range names {
		text, err := deviceID(ctx, cl, name)
		if err != nil {
			return nil, err
		}
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, usagef("%q is no device's number", name)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// makeCodes asks for codes only when the file that they go into is there: they
// are not shown again.
func (a *app) makeCodes(ctx context.Context, cl *client, in api.CodesInput, est, out string, write func(io.Writer, *api.CodesCreated) error) error {
	to, done := a.out, func() error { return nil }
	if out != "" {
		file, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("the labels: %w; name a new file, for labels are written once", err)
		}
		to, done = file, file.Close
	}
	var raw []byte
	if err := cl.api(ctx, http.MethodPost, "/codes", in, &raw); err != nil {
		if out != "" {
			return errors.Join(err, done(), os.Remove(out)) // nothing is in it
		}
		return err
	}
	made := new(api.CodesCreated)
	if err := decode(raw, made); err != nil {
		return err
	}
	if est != "" {
		if err := moveTo(made, est); err != nil {
			return err
		}
	}
	if a.json {
		raw, err := json.Marshal(made)
		if err != nil {
			return err
		}
		if err := a.print(raw, nil); err != nil || out == "" {
			return err
		}
	}
	if err := errors.Join(write(to, made), done()); err != nil {
		return fmt.Errorf("the codes of batch %d were made, and could not be written: %w; revoke them with `touchmark code revoke --batch %d`", made.Batch, err, made.Batch)
	}
	if out != "" {
		fmt.Fprintf(a.err, "%d codes, batch %d, are in %s. Whoever reads it can use them.\n", len(made.Codes), made.Batch, out)
	}
	return nil
}

// moveTo makes labels name another host and port.
func moveTo(made *api.CodesCreated, est string) error {
	made.EST = est
	for i := range made.Codes {
		u, err := url.Parse(made.Codes[i].URI)
		if err != nil {
			return fmt.Errorf("the server's answer is not what this program knows: %w", err)
		}
		u.Host = est
		made.Codes[i].URI = u.String()
	}
	return nil
}

func (a *app) codeList() *cobra.Command {
	q := url.Values{}
	c := &cobra.Command{Use: "list", Short: "List codes, newest first; never the codes themselves", Example: "  touchmark code list --order PO-4711 --state unused"}
	filter(c, q, "order", "only codes of this order")
	filter(c, q, "site", "only codes of this site's orders")
	a.deviceFilter(c, q, "only codes made for this device")
	filter(c, q, "batch", "only codes that were made together")
	filter(c, q, "state", "only codes in this state: unused, used, expired, revoked")
	oneOf(c, "state", vetting.CodeUnused, vetting.CodeUsed, vetting.CodeExpired, vetting.CodeRevoked)
	a.completeFlags(c)
	return listCommand(a, c, "/codes", func() url.Values { return q }, table[vetting.EnrolmentCode]{
		columns: "ID\tBATCH\tORDER\tFOR\tSTATE\tEXPIRES\tUSED\tUSED BY\tMADE BY", none: "There are no such codes.",
		row: func(c *vetting.EnrolmentCode) []any {
			usedBy := ""
			if c.UsedBy != 0 {
				usedBy = strconv.FormatInt(c.UsedBy, 10)
			}
			return []any{c.ID, c.Batch, c.Order, codeFor(c.Serial), c.State, c.Expires, c.Used, usedBy, c.By}
		},
	})
}

// codeFor says which device may use a code.
func codeFor(serial string) string {
	if serial == "" {
		return "any device"
	}
	return serial
}

func (a *app) codeRevoke() *cobra.Command {
	var batch int64
	c := &cobra.Command{
		Use: "revoke [ID]...", Short: "Revoke unused codes, by their numbers or a whole batch",
		Example: "  touchmark code revoke 4713 4714\n  touchmark code revoke --batch 4712",
	}
	c.Flags().Int64Var(&batch, "batch", 0, "revoke what is unused of this batch")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if (batch == 0) == (len(args) == 0) {
			return usagef("name codes by their numbers, or a batch with --batch; `touchmark code list` shows both")
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		if batch != 0 {
			return a.revokeBatch(cmd.Context(), cl, batch)
		}
		return revokeEach(cmd.Context(), a, cl, "/codes/", args, func(w io.Writer, c *vetting.EnrolmentCode) {
			fmt.Fprintf(w, "code %d is %s\n", c.ID, c.State)
		})
	}
	return a.jsonFlag(c)
}

// revokeEach revokes what has these ids below a path of the API, one after the
// other, and says of each what it is now.
func revokeEach[T any](ctx context.Context, a *app, cl *client, path string, ids []string, say func(io.Writer, *T)) error {
	for _, id := range ids {
		var raw []byte
		if err := cl.api(ctx, http.MethodPost, path+segment(id)+"/revoke", nil, &raw); err != nil {
			return err
		}
		if err := show(a, raw, say); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) revokeBatch(ctx context.Context, cl *client, batch int64) error {
	var raw []byte
	if err := cl.api(ctx, http.MethodPost, fmt.Sprintf("/code-batches/%d/revoke", batch), nil, &raw); err != nil {
		return err
	}
	return show(a, raw, func(w io.Writer, r *api.CodesRevoked) { fmt.Fprintf(w, "%d codes are revoked\n", r.Revoked) })
}
