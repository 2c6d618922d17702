package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func runCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Enrols this machine and keeps its certificate fresh, until it is stopped",
		Long: `Enrols this machine, activates its certificate, and renews it in time or when
the server wants it. It has patience: with a server that is away, with people
who must decide, with a clock that is not set yet, with a full disk. After a
refusal it asks again now and then, and says why it was refused.

SIGUSR1 makes it renew now, as the command renew does.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, lock, err := open(*file, c)
			if err != nil {
				return err
			}
			defer lock.Release()
			wanted := make(chan os.Signal, 1)
			signal.Notify(wanted, syscall.SIGUSR1)
			defer signal.Stop(wanted)
			go func() {
				for range wanted {
					s.RenewNow()
				}
			}()
			return s.Run(c.Context())
		},
	}
}
