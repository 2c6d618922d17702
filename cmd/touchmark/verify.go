package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// What verify found, after it printed it.
var (
	errSuspect = errors.New("the device is suspect")
	errUnknown = errors.New("the device is unknown")
)

func (a *app) verifyCommand() *cobra.Command {
	var in api.VerifyInput
	c := &cobra.Command{
		Use: "verify [FILE|LABEL]", Short: "Ask whether a device is genuine", Args: cobra.MaximumNArgs(1),
		Long: `verify takes whatever is known of the unit: a file with the certificate that it shows, or what stands on its label, typed or as a
scanner gives it. The flags add to that; all of it must belong together.

Exit status: 0 genuine; 1 counterfeit, or the command failed; 2 the command line makes no sense; 3 suspect; 4 unknown.`,
		Example: "  touchmark verify TH-000001\n  touchmark verify device.crt\n  touchmark verify 'SN:TH-000001;MAC:02:00:00:00:00:01'\n  touchmark verify TH-000001 --product thermostat --history",
	}
	f := c.Flags()
	f.StringVar(&in.Serial, "serial", "", "its serial number, where it could be taken for a file")
	f.StringVar(&in.MAC, "mac", "", "its MAC address")
	f.StringVar(&in.UID, "uid", "", "its chip's UID")
	f.StringVar(&in.Product, "product", "", "the product that it is said to be")
	f.BoolVar(&in.History, "history", false, "show everything that is kept about the device")
	a.jsonFlag(c)
	a.completeFlags(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := shownTo(&in, args); err != nil {
			return err
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		return a.ask(cmd.Context(), cl, in)
	}
	return c
}

// shownTo takes the argument for a certificate's file, if there is one of
// that name, and for a label otherwise.
func shownTo(in *api.VerifyInput, args []string) error {
	if len(args) == 0 {
		if in.Serial == "" && in.MAC == "" && in.UID == "" {
			return usagef("what is known of the device? Name a certificate's file or what stands on its label, or give --serial, --mac or --uid")
		}
		return nil
	}
	file, err := os.ReadFile(args[0])
	switch {
	case errors.Is(err, fs.ErrNotExist):
		in.Scan = args[0]
		return nil
	case err != nil:
		return err
	}
	if _, err := parsePEM(file); err != nil {
		return fmt.Errorf("%s: %w; a label of that name goes into --serial", args[0], err)
	}
	in.Certificate = string(file)
	return nil
}

func (a *app) ask(ctx context.Context, cl *client, in api.VerifyInput) error {
	var raw []byte
	if err := cl.api(ctx, http.MethodPost, "/verify", in, &raw); err != nil {
		return err
	}
	r, err := answered[api.VerifyResult](raw)
	if err != nil {
		return err
	}
	if err := a.print(raw, func(w io.Writer) { showAuthenticity(w, r) }); err != nil {
		return err
	}
	switch r.Verdict {
	case vetting.Genuine:
		return nil
	case vetting.Suspect:
		return errSuspect
	case vetting.Unknown:
		return errUnknown
	}
	return errFound
}

func showAuthenticity(w io.Writer, r *api.VerifyResult) {
	field(w, "verdict", r.Verdict)
	for _, reason := range r.Reasons {
		fmt.Fprintf(w, "\t%s\n", text(reason.Text))
	}
	if r.History != nil {
		showHistory(w, r.History)
		return
	}
	if r.Device != nil {
		showDevice(w, r.Device)
	}
	if r.Certificate != nil {
		field(w, "certificate is", r.Certificate.State)
		field(w, "until", r.Certificate.NotAfter)
	}
	for _, e := range r.Evidence {
		showEvidence(w, e)
	}
}

// showEvidence writes one line of an object.
func showEvidence(w io.Writer, e *vetting.Evidence) {
	standing := ""
	if e.Cleared != nil {
		standing = "  (cleared: " + text(e.Cleared.Note) + ")"
	}
	fmt.Fprintf(w, "evidence\t%d  %s  %s  %s%s\n", e.ID, text(e.At), e.Kind, text(e.Text), standing)
}
