package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/server"
)

func (a *app) rootRollover() *cobra.Command {
	return group("root-rollover", "Change the root's key",
		`For a time there are two roots of one name and two keys, and each is signed by the other, too (RFC 4210 §4.4), so that whoever knows one
of them trusts what either signs. begin makes that where the keys are; after its import and a restart devices get both roots. Then the CAs are
signed with the new root (ca request --all, ca sign, ca import), switch puts the new root in force, and finish drops the old one.`,
		a.rolloverBegin(), a.rolloverStep("switch", "Put the new root in force", "the new root is in force", switchRoot,
			"The CAs of files must be signed with it already."),
		a.rolloverStep("finish", "Drop the root that is not in force", "there is one root again", server.FinishRollover,
			"That is the old one after the switch, and before it the new one. Whoever knows only that root trusts nothing any more, so wait until every device has asked for /cacerts."))
}

func (a *app) rolloverBegin() *cobra.Command {
	var r rootFlags
	var next, out string
	c := &cobra.Command{Use: "begin", Short: "Make the new root and the certificates by which both roots sign each other", Args: cobra.NoArgs,
		Long: `begin makes a new root key, unless it is there, and four certificates: both roots, and each signed by the other. It runs where the old root's
key is, and needs no server, no configuration and no network. Its output goes to touchmark ca import.`,
		Example: "  touchmark ca root-rollover begin --root-key root.key --root-cert root.crt --new-key root-2027.key -o rollover.pem"}
	r.add(c)
	c.Flags().StringVar(&next, "new-key", "", "the new root's key, a `file` or URI; made if it is not there (required)")
	_ = c.MarkFlagRequired("new-key")
	outFlag(c, &out)
	a.yesFlag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		old, err := r.open(cmd.Context())
		if err != nil {
			return err
		}
		if err := a.confirm("A new root CA is made, to take the place of\n" + described(old.Certificate)); err != nil {
			return err
		}
		ring, uri := keys.Ring{Dir: "."}, keyURI(next)
		key, err := ring.Open(cmd.Context(), uri)
		if err != nil {
			missing := err
			if key, err = ring.Create(cmd.Context(), uri, keys.P384); err != nil {
				return errors.Join(missing, err)
			}
		}
		rollover, err := ca.NewRollover(old, key, time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintln(a.err, "The new root:\n"+described(rollover.NewWithNew))
		return a.writeNew(out, rollover.PEM())
	}
	return c
}

func switchRoot(_ context.Context, _ *server.Config, have *ca.Authorities) error {
	return have.SwitchRoot()
}

// rolloverStep is a step on the server's machine.
func (a *app) rolloverStep(name, about, done string, step func(context.Context, *server.Config, *ca.Authorities) error, more string) *cobra.Command {
	config := ""
	c := &cobra.Command{Use: name, Short: about, Long: about + ". " + more + " Take this step on each server's machine, and restart the server.", Args: cobra.NoArgs,
		Example: "  touchmark ca root-rollover " + name + " --dir /var/lib/touchmark"}
	configFlag(c, &config)
	a.yesFlag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		settings, err := a.config(config)
		if err != nil {
			return err
		}
		have, err := server.Authorities(cmd.Context(), settings, server.Environment{})
		if err != nil {
			return err
		}
		if err := a.confirm(about + "."); err != nil {
			return err
		}
		if err := step(cmd.Context(), settings, have); err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.out, "Now %s. Restart the server.\n", done)
		return err
	}
	return c
}
