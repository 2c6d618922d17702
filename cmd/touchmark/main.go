// Command touchmark is the Touchmark server and the command line of those who
// work with it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// Set by the build (-ldflags "-X main.version=… -X main.commit=…").
var version, commit string

// Exit codes.
const (
	exitFailed = 1  // the command failed, or a check found something
	exitUsage  = 2  // the command line makes no sense
	exitHeld   = 75 // EX_TEMPFAIL of sysexits.h: a unit is held, or a release waits for approvals; ask again later

	// What verify came to; 0 is genuine, and exitFailed also counterfeit.
	exitSuspect = 3
	exitUnknown = 4

	// What revocation check came to; 0 is good.
	exitNotGood    = 3
	exitCannotTell = 4
)

func main() {
	a := newApp(os.Stdin, os.Stdout, os.Stderr)
	os.Exit(a.main(context.Background(), os.Args[1:]))
}

func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFound):
		return exitFailed // the findings were printed already
	case errors.Is(err, errHeld), errors.Is(err, errPending):
		return exitHeld
	case errors.Is(err, errSuspect):
		return exitSuspect
	case errors.Is(err, errUnknown):
		return exitUnknown
	case errors.Is(err, errNotGood):
		return exitNotGood
	case errors.Is(err, errCannotTell):
		return exitCannotTell
	case errors.As(err, &usage):
		fmt.Fprintf(a.err, "touchmark: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(a.err, "touchmark: %v\n", err)
	return exitFailed
}

// errFound ends a command that printed what it found.
var errFound = errors.New("something was found")

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "touchmark",
		Short: "Device identities from the factory on",
		Long: `Touchmark gives each device an identity at manufacture that only that device holds, lets it into service only if the
factory was entitled to build it, and can prove what it did.

A server is made with init and run with serve. The other commands work against a running server; they find it and
your operator's certificate through --dir DIR (the file DIR/cli.yaml; without --dir, cli.yaml in the current directory),
through --server, --cert, --key and --ca, or through TOUCHMARK_DIR, TOUCHMARK_SERVER, TOUCHMARK_CERT, TOUCHMARK_KEY and
TOUCHMARK_CA. A flag goes before the environment, the environment before the file.

Exit status: 0 success; 1 the command failed, or a check found something; 2 the command line makes no sense; 3 a device is suspect,
4 unknown (verify), or a certificate is not good, or that cannot be told (revocation check); 75 a unit is held (rig register), or a release waits for
approvals (firmware sign, collect).`,
		Example:       "  touchmark init /var/lib/touchmark --name 'Example AG' --dns touchmark.example.com\n  touchmark serve --dir /var/lib/touchmark\n  touchmark --dir /var/lib/touchmark product create thermostat --proof bootstrap-key",
		SilenceErrors: true, SilenceUsage: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v; `%s --help` lists the flags", err, cmd.CommandPath())
	})
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	a.profileFlags(root)
	root.AddGroup(&cobra.Group{ID: "server", Title: "The server:"}, &cobra.Group{ID: "work", Title: "Working with a running server:"})
	for _, c := range []*cobra.Command{a.initCommand(), a.serveCommand(), a.configCommand(), a.caCommand(), a.backupCommand(), a.restoreCommand()} {
		c.GroupID = "server"
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{a.productCommand(), a.ruleCommand(), a.vendorCommand(), a.tpmCommand(), a.siteCommand(), a.ownerCommand(), a.issuerCommand(), a.crlCommand(), a.transferCommand(), a.orderCommand(), a.approvalCommand(), a.manifestCommand(), a.registrationCommand(),
		a.deviceCommand(), a.jobCommand(), a.verifyCommand(), a.observationCommand(), a.evidenceCommand(), a.eventCommand(), a.webhookCommand(), a.certificateCommand(), a.revocationCommand(), a.codeCommand(), a.licenceCommand(), a.acmeCommand(), a.firmwareCommand(), a.tufCommand(), a.operatorCommand(), a.rigCommand(), a.auditCommand()} {
		c.GroupID = "work"
		root.AddCommand(c)
	}
	root.AddCommand(a.versionCommand())
	strict(root)
	return root
}
