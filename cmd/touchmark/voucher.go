package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
)

func (a *app) transferVoucher() *cobra.Command {
	var in api.HandoutInput
	var pinned, out string
	var life time.Duration
	c := &cobra.Command{Use: "voucher DEVICE --pinned-domain-cert FILE", Short: "Hand a device out with a voucher, to an owner outside of this server", Args: cobra.ExactArgs(1),
		Long: `voucher makes a voucher (RFC 8366), by which the device knows its next owner's domain, and lets the device go: its certificates are
revoked, and it gets none here until its transfer is reversed. The same command again writes the same voucher.`,
		Example: "  touchmark transfer voucher A-0001 --pinned-domain-cert domain.crt --note 'sold to Beta'\n  touchmark transfer voucher A-0001 --pinned-domain-cert domain.crt --nonce 8J2Xn0bq1aY= --out A-0001.vcj"}
	f := c.Flags()
	f.StringVar(&pinned, "pinned-domain-cert", "", "the next owner's domain certificate, a `file` (required)")
	f.StringVar(&in.Nonce, "nonce", "", "the device's nonce, in base64")
	f.DurationVar(&life, "for", 0, "how long a voucher without a nonce is good (default 720h)")
	f.StringVar(&in.Note, "note", "", "a few words for the audit log")
	f.StringVar(&out, "out", "", "where the voucher goes, a `file` (default: DEVICE.vcj)")
	_ = c.MarkFlagRequired("pinned-domain-cert")
	a.yesFlag(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		text, err := os.ReadFile(pinned)
		if err != nil {
			return nil, err
		}
		if out == "" {
			out = args[0] + ".vcj"
		}
		in.PinnedDomainCert, in.Seconds = string(text), int64(life/time.Second)
		return a.handOut(ctx, cl, args[0], in, out)
	}, func(w io.Writer, h *api.HandedOut) {
		showTransfer(w, &h.Transfer)
		field(w, "voucher", out)
	})
}

func (a *app) handOut(ctx context.Context, cl *client, device string, in api.HandoutInput, out string) (raw []byte, err error) {
	id, err := deviceID(ctx, cl, device)
	if err != nil {
		return nil, err
	}
	if in.Device, err = strconv.ParseInt(id, 10, 64); err != nil {
		return nil, err
	}
	if err := a.confirm(fmt.Sprintf("Device %s leaves this server's care, and all its certificates are revoked.", device)); err != nil {
		return nil, err
	}
	if err := cl.api(ctx, http.MethodPost, "/vouchers", in, &raw); err != nil {
		return nil, err
	}
	var made api.HandedOut
	if err := decode(raw, &made); err != nil {
		return nil, err
	}
	return raw, os.WriteFile(out, made.Voucher, 0o644)
}
