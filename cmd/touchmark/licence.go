package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) licenceCommand() *cobra.Command {
	return group("licence", "Licences that let firmware run on single chips",
		`A licence is a signature over a chip's UID. A site asks for it when it programs the chip; an order has as many as units. docs/licences.md
has the format, and the check that firmware makes.`,
		a.licenceSign(), a.licenceConfirm(), a.licenceList(), a.licenceShow(), a.licenceKeyCommand())
}

func (a *app) licenceSign() *cobra.Command {
	var file, out string
	c := &cobra.Command{
		Use: "sign ORDER [UID]...", Short: "Get licences for chips", Args: cobra.MinimumNArgs(1),
		Long: `sign asks for licences for chips, named by their UIDs in hexadecimal, and prints each, or writes it to DIR/UID.lic (80 bytes). A chip that
asks again gets the same licence and takes nothing from the order. If one gets none, the exit status is 1.`,
		Example:           "  touchmark licence sign PO-4711 0032001e5138343930393635\n  touchmark licence sign PO-4711 --file uids.txt --out licences",
		ValidArgsFunction: a.completeFirst("/orders"),
	}
	c.Flags().StringVar(&file, "file", "", "read UIDs from this `file`, one a line; - for standard input")
	c.Flags().StringVar(&out, "out", "", "write the licences into this `directory`")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		uids, err := a.readUIDs(args[1:], file)
		if err != nil {
			return err
		}
		return a.signLicences(cmd.Context(), args[0], uids, out)
	}
	return a.jsonFlag(c)
}

// readUIDs are those of the command line and of a file.
func (a *app) readUIDs(uids []string, file string) ([]string, error) {
	var from io.Reader = strings.NewReader("")
	switch file {
	case "":
	case "-":
		from = a.in
	default:
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		if uid := strings.TrimSpace(lines.Text()); uid != "" {
			uids = append(uids, uid)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("the UIDs: %w", err)
	}
	if len(uids) == 0 {
		return nil, usagef("which chips? Name their UIDs, or a file with --file")
	}
	return uids, nil
}

func (a *app) signLicences(ctx context.Context, order string, uids []string, out string) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	refused := 0
	for part := range slices.Chunk(uids, vetting.MaxLicences) {
		var raw []byte
		if err := cl.api(ctx, http.MethodPost, "/licences", api.LicencesInput{Order: order, UIDs: part}, &raw); err != nil {
			return err
		}
		got, err := answered[api.LicencesAnswer](raw)
		if err == nil {
			err = a.takeLicences(got.Licences, out)
		}
		if err == nil && a.json {
			err = a.print(raw, nil)
		}
		if err != nil {
			return err
		}
		for _, l := range got.Licences {
			if l.Refused != nil {
				refused++
			}
		}
	}
	if refused > 0 {
		return fmt.Errorf("%d of %d chips got no licence", refused, len(uids))
	}
	return nil
}

// takeLicences writes licences to files, or tells people.
func (a *app) takeLicences(list []api.ChipLicence, out string) error {
	var errs []error
	err := tabbed(a.people(), func(w io.Writer) {
		for _, l := range list {
			switch {
			case l.Refused != nil:
				fmt.Fprintf(w, "%s\trefused: %s\n", text(l.UID), text(l.Refused.Text))
			case out != "":
				name := strings.NewReplacer(":", "", "-", "", " ", "").Replace(strings.ToLower(l.UID)) // hexadecimal, or it would have no licence
				errs = append(errs, os.MkdirAll(out, 0o755), os.WriteFile(filepath.Join(out, name+".lic"), l.Licence, 0o644))
			default:
				fmt.Fprintf(w, "%s\t%x\n", text(l.UID), l.Licence)
			}
		}
	})
	return errors.Join(append(errs, err)...)
}

// people is where they read, which is nowhere if the answer is for programs.
func (a *app) people() io.Writer {
	if a.json {
		return io.Discard
	}
	return a.out
}

func (a *app) licenceConfirm() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "confirm [UID]...", Short: "Confirm that chips have their licences",
		Long:    "confirm is for chips from which the licence was read back. It changes nothing about quotas. If one cannot be confirmed, the exit status is 1.",
		Example: "  touchmark licence confirm 0032001e5138343930393635\n  touchmark licence confirm --file uids.txt",
	}
	c.Flags().StringVar(&file, "file", "", "read UIDs from this `file`, one a line; - for standard input")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		uids, err := a.readUIDs(args, file)
		if err != nil {
			return err
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		refused := 0
		for part := range slices.Chunk(uids, vetting.MaxLicences) {
			var raw []byte
			if err := cl.api(cmd.Context(), http.MethodPost, "/licences/confirm", api.ConfirmationInput{UIDs: part}, &raw); err != nil {
				return err
			}
			if err := show(a, raw, func(w io.Writer, c *api.ConfirmationAnswer) {
				fmt.Fprintf(w, "%s confirmed\n", counted(int64(c.Confirmed), "licence is", "licences are"))
				for _, r := range c.Refused {
					fmt.Fprintf(w, "%s\t%s\n", text(r.UID), text(r.Reason.Text))
				}
				refused += len(c.Refused)
			}); err != nil {
				return err
			}
		}
		if refused > 0 {
			return fmt.Errorf("%d of %d chips cannot be confirmed", refused, len(uids))
		}
		return nil
	}
	return a.jsonFlag(c)
}

func (a *app) licenceList() *cobra.Command {
	q := url.Values{}
	c := &cobra.Command{Use: "list", Short: "List licences, newest first", Example: "  touchmark licence list --order PO-4711 --state signed"}
	filter(c, q, "order", "only licences of this order")
	filter(c, q, "site", "only licences of this site")
	filter(c, q, "product", "only licences of this product")
	filter(c, q, "state", "only licences in this state: reserved, signed, programmed")
	oneOf(c, "state", vetting.LicenceStates...)
	a.completeFlags(c)
	return listCommand(a, c, "/licences", func() url.Values { return q }, table[vetting.Licence]{
		columns: "UID\tORDER\tSITE\tSTATE\tRESERVED\tPROGRAMMED\tBY", none: "There are no such licences.",
		row: func(l *vetting.Licence) []any {
			return []any{l.UID, l.Order, l.Site, l.State, l.Reserved, l.Programmed, l.By}
		},
	})
}

func (a *app) licenceShow() *cobra.Command {
	c := &cobra.Command{Use: "show UID", Short: "Show a chip's licence", Args: cobra.ExactArgs(1), Example: "  touchmark licence show 0032001e5138343930393635"}
	return objectCommand(a, c, getter("/licences/"), func(w io.Writer, l *vetting.Licence) {
		field(w, "uid", l.UID)
		field(w, "product", l.Product)
		field(w, "order", l.Order)
		field(w, "site", l.Site)
		field(w, "lot", l.Lot)
		field(w, "state", l.State)
		field(w, "licence", fmt.Sprintf("%x", l.Bytes))
		field(w, "by", l.By)
		field(w, "reserved", l.Reserved)
		field(w, "signed", l.Signed)
		field(w, "programmed", l.Programmed)
		if l.DeviceID != 0 {
			field(w, "device", l.DeviceID)
		}
	})
}

func (a *app) licenceKeyCommand() *cobra.Command {
	return group("key", "The keys that sign a product's licences",
		"The server makes them in its key store, as licence-PRODUCT-NUMBER. Firmware knows the public keys by their numbers.",
		a.licenceKeyCreate(), a.licenceKeyList(), a.licenceKeyUse())
}

func (a *app) licenceKeyCreate() *cobra.Command {
	var in api.LicenceKeyInput
	c := &cobra.Command{
		Use: "create PRODUCT", Short: "Make a licence key", Args: cobra.ExactArgs(1),
		Long: `create makes a product's next key. The first one signs at once; a later one when "key use" says so, because firmware must know it first. Where
several servers run, each needs the file, unless the key is in an HSM (under keys: in the configuration).`,
		Example:           "  touchmark licence key create thermostat\n  touchmark licence key create thermostat --algorithm P-256",
		ValidArgsFunction: a.completeFirst("/products"),
	}
	c.Flags().StringVar(&in.Algorithm, "algorithm", "Ed25519", "Ed25519 or P-256; an HSM may know P-256 only")
	oneOf(c, "algorithm", "Ed25519", "P-256")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		err = cl.api(ctx, http.MethodPost, "/products/"+segment(args[0])+"/licence-keys", in, &raw)
		return raw, err
	}, showLicenceKey)
}

func showLicenceKey(w io.Writer, k *vetting.LicenceKey) {
	field(w, "product", k.Product)
	field(w, "key", k.Number)
	field(w, "algorithm", k.Algorithm)
	field(w, "signing", k.Signing)
	field(w, "public key", fmt.Sprintf("%x", k.Public))
	field(w, "created", k.Created)
	field(w, "by", k.By)
}

func (a *app) licenceKeyList() *cobra.Command {
	c := &cobra.Command{Use: "list PRODUCT", Short: "List a product's licence keys", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/products")}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		err = cl.api(ctx, http.MethodGet, "/products/"+segment(args[0])+"/licence-keys", nil, &raw)
		return raw, err
	}, func(w io.Writer, l *api.List[vetting.LicenceKey]) {
		fmt.Fprintln(w, "KEY\tALGORITHM\tSIGNING\tCREATED\tBY")
		for _, k := range l.Items {
			fmt.Fprintf(w, "%d\t%s\t%v\t%s\t%s\n", k.Number, k.Algorithm, k.Signing, text(k.Created), text(k.By))
		}
	})
}

func (a *app) licenceKeyUse() *cobra.Command {
	c := &cobra.Command{
		Use: "use PRODUCT NUMBER", Short: "Sign licences with this key from now on", Args: cobra.ExactArgs(2),
		Long:              "use changes the key that signs. Firmware that is out must know it already; licences that were given stay as they are.",
		Example:           "  touchmark licence key use thermostat 2",
		ValidArgsFunction: a.completeFirst("/products"),
	}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		if _, err := strconv.ParseUint(args[1], 10, 8); err != nil {
			return nil, usagef("%q is no key's number; `touchmark licence key list %s` shows them", args[1], args[0])
		}
		err = cl.api(ctx, http.MethodPost, "/products/"+segment(args[0])+"/licence-keys/"+args[1]+"/use", nil, &raw)
		return raw, err
	}, showLicenceKey)
}
