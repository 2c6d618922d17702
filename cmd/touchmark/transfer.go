package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) transferCommand() *cobra.Command {
	return group("transfer", "Devices change hands",
		`A transfer is offered by the present owner of devices and accepted by the next. Until then it can be withdrawn or
declined; afterwards only reversed. When it is accepted, all certificates of the devices are revoked, and each enrols anew: with its first
proof, or by a renewal with the certificate that it had.`,
		a.transferOffer(),
		a.transferStep("accept", "Accept devices that were offered", "The devices of transfer %s change hands, and all their certificates are revoked.", false),
		a.transferStep("decline", "Turn an offer down", "", false),
		a.transferStep("withdraw", "Take an offer back", "", false),
		a.transferStep("reverse", "Give the devices of an accepted transfer back", "The devices of transfer %s go back to the earlier owner, and all their certificates are revoked.", true),
		a.transferList(), a.transferShow(), a.transferDevices(), a.transferVoucher())
}

func (a *app) transferOffer() *cobra.Command {
	var in api.OfferInput
	var file string
	var stands time.Duration
	c := &cobra.Command{Use: "offer --to OWNER [SERIAL]...", Short: "Offer devices to another owner",
		Long:    "offer names devices by their serial numbers, as arguments or one a line in a file: at most 10,000. Nothing becomes of them before the offer is accepted.",
		Example: "  touchmark transfer offer A-0001 A-0002 --to acme --note 'delivery 4711'\n  touchmark transfer offer --file sold.txt --to acme --for 72h"}
	f := c.Flags()
	f.StringVar(&in.To, "to", "", "the next owner; manufacturer gives devices back (required)")
	f.StringVar(&in.From, "from", "", "the present owner (default: your own, or the manufacturer)")
	f.StringVar(&in.Product, "product", "", "their product, where several have devices with these serial numbers")
	f.StringVar(&file, "file", "", "serial numbers, one a line, a `file`; - for standard input")
	f.DurationVar(&stands, "for", vetting.DefaultOfferTime, "how long the offer stands")
	f.StringVar(&in.Note, "note", "", "a few words for the next owner, and the audit log")
	_ = c.MarkFlagRequired("to")
	a.completeFlags(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		in.Serials, in.Seconds = args, int64(stands/time.Second)
		if file != "" {
			text, err := a.readSerials(file)
			if err != nil {
				return nil, err
			}
			in.Serials = append(in.Serials, strings.Fields(text)...)
		}
		if len(in.Serials) == 0 {
			return nil, usagef("no device is named: give serial numbers, or --file")
		}
		err = cl.api(ctx, http.MethodPost, "/transfers", in, &raw)
		return raw, err
	}, showTransfer)
}

// readSerials reads a list of as many serial numbers as one transfer takes.
func (a *app) readSerials(file string) (string, error) {
	if file != "-" {
		text, err := os.ReadFile(file)
		return string(text), err
	}
	const most = vetting.MaxTransferred * 256
	text, err := io.ReadAll(io.LimitReader(a.in, most+1))
	if err == nil && len(text) > most {
		err = fmt.Errorf("the list is longer than %d bytes: at most %d devices go into one transfer", most, vetting.MaxTransferred)
	}
	return string(text), err
}

// transferStep makes a command that takes a transfer further. A warning makes
// it ask first.
func (a *app) transferStep(name, about, warning string, needsNote bool) *cobra.Command {
	note := ""
	c := &cobra.Command{Use: name + " NUMBER", Short: about, Args: cobra.ExactArgs(1), Example: "  touchmark transfer " + name + " 4711 --note 'ticket 815'"}
	c.Flags().StringVar(&note, "note", "", "a few words for the audit log")
	if needsNote {
		_ = c.MarkFlagRequired("note")
	}
	if warning != "" {
		a.yesFlag(c)
	}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		if warning != "" {
			if err := a.confirm(fmt.Sprintf(warning, args[0])); err != nil {
				return nil, err
			}
		}
		err = cl.api(ctx, http.MethodPost, "/transfers/"+segment(args[0])+"/"+name, api.TransferNote{Note: note}, &raw)
		return raw, err
	}, showTransfer)
}

func (a *app) transferList() *cobra.Command {
	q := url.Values{}
	c := &cobra.Command{Use: "list", Short: "List transfers, newest first", Example: "  touchmark transfer list --state offered"}
	filter(c, q, "owner", "only transfers from or to this owner, or manufacturer")
	filter(c, q, "state", "only transfers in this state")
	oneOf(c, "state", vetting.TransferStates...)
	return listCommand(a, c, "/transfers", func() url.Values { return q }, table[vetting.Transfer]{
		columns: "NUMBER\tSTATE\tFROM\tTO\tDEVICES\tEXPIRES", none: "There are no such transfers.",
		row: func(t *vetting.Transfer) []any { return []any{t.ID, t.State, t.From, t.To, t.Devices, t.Expires} },
	})
}

func (a *app) transferShow() *cobra.Command {
	c := &cobra.Command{Use: "show NUMBER", Short: "Show a transfer", Args: cobra.ExactArgs(1)}
	return objectCommand(a, c, getter("/transfers/"), showTransfer)
}

func (a *app) transferDevices() *cobra.Command {
	limit := 0
	c := &cobra.Command{Use: "devices NUMBER", Short: "List the devices of a transfer, as they are now", Args: cobra.ExactArgs(1)}
	c.Flags().IntVar(&limit, "limit", 100, "show at most so many; 0 shows all")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return runList(cmd.Context(), a, "/transfers/"+segment(args[0])+"/devices", nil, limit, table[vetting.Device]{
			columns: "ID\tSERIAL\tSTATE\tOWNER\tPRODUCT\tCERTIFICATE", none: "It has no devices.",
			row: func(d *vetting.Device) []any {
				return []any{d.ID, d.Serial, d.State, d.Owner, d.Product, short(d.Certificate)}
			},
		})
	}
	return a.jsonFlag(c)
}

func showTransfer(w io.Writer, t *vetting.Transfer) {
	field(w, "transfer", t.ID)
	field(w, "state", t.State)
	field(w, "from", t.From)
	field(w, "to", t.To)
	field(w, "devices", t.Devices)
	field(w, "expires", t.Expires)
	for _, s := range t.Steps {
		fmt.Fprintf(w, "%s\t%s  by %s  %s\n", s.State, text(s.At), s.By, s.Note)
	}
}
