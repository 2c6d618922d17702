// Command devicesim plays factories and fleets against a Touchmark server.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "devicesim:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:           "devicesim",
		Short:         "Plays factories and fleets of devices against a Touchmark server",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.AddCommand(challengeCommand(), demoCommand(), enrolCommand(), factoryCommand(), fleetCommand(), rigCommand(), startCommand(), updateCommand())
	return c
}
