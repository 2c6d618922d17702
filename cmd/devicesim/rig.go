package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/devicesim"
)

func rigCommand() *cobra.Command {
	var est, api, label, rootFile, cert, key, over string
	c := &cobra.Command{
		Use:   "rig --root FILE --cert FILE --key FILE DIR [SERIAL...]",
		Short: "Plays a QA rig: registers the units that `factory` built, one after the other",
		Long: `Plays a QA rig: has the server register the units in DIR, or those that are
named, and puts their certificates into them. The rig's certificate vouches
for the units: through the API in one call each, or over EST as a
registration authority (RFC 7030 §3.7).

The exit status is 0 only if every unit was admitted.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			root, err := devicesim.LoadCertificate(rootFile)
			if err != nil {
				return err
			}
			rig, err := devicesim.LoadOperator(api, root, cert, key)
			if err != nil {
				return err
			}
			defer rig.Close()
			units, err := readUnits(args[0], args[1:])
			if err != nil {
				return err
			}
			register := map[string]func(context.Context, *devicesim.Operator, devicesim.Server, *devicesim.Unit) (string, string, error){
				"api": throughAPI, "est": overEST,
			}[over]
			if register == nil {
				return fmt.Errorf("unknown --over %q; known are api and est", over)
			}
			admitted := 0
			for _, u := range units {
				verdict, text, err := register(c.Context(), rig, devicesim.Server{EST: est, Label: label, Root: root}, u)
				if err != nil {
					return fmt.Errorf("%s: %w", u.Serial, err)
				}
				fmt.Fprintln(c.OutOrStdout(), strings.TrimSpace(u.Serial+" "+verdict+" "+text))
				if verdict == "admitted" {
					admitted++
				}
			}
			if admitted < len(units) {
				return fmt.Errorf("%d of %d units were not admitted", len(units)-admitted, len(units))
			}
			return nil
		},
	}
	c.Flags().StringVar(&est, "est", "https://localhost:8443", "the server's EST address")
	c.Flags().StringVar(&api, "api", "https://localhost:8444", "the server's API address")
	c.Flags().StringVar(&label, "label", "", "the product that the units should be")
	c.Flags().StringVar(&rootFile, "root", "", "the server's root certificate")
	c.Flags().StringVar(&cert, "cert", "", "the rig's certificate")
	c.Flags().StringVar(&key, "key", "", "that certificate's key")
	c.Flags().StringVar(&over, "over", "api", "api or est")
	for _, name := range []string{"root", "cert", "key"} {
		_ = c.MarkFlagRequired(name) // they exist
	}
	return c
}

func throughAPI(ctx context.Context, rig *devicesim.Operator, s devicesim.Server, u *devicesim.Unit) (verdict, text string, err error) {
	r, err := rig.Register(ctx, s, u)
	return r.Verdict, r.Text(), err
}

// overEST turns the status of an EST answer into a verdict.
func overEST(ctx context.Context, rig *devicesim.Operator, s devicesim.Server, u *devicesim.Unit) (verdict, text string, err error) {
	_, err = rig.RegisterOverEST(ctx, s, u)
	var held *device.PendingError
	var refused *device.StatusError
	switch {
	case err == nil:
		return "admitted", "", nil
	case errors.As(err, &held):
		return "held", held.Text, nil
	case errors.As(err, &refused) && refused.Final():
		return "refused", refused.Text, nil
	}
	return "", "", err
}
