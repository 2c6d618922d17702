package main

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/touchmark/touchmark/device/agent"
)

func renewCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "renew",
		Short: "Renews the certificate now",
		Long: `Renews the certificate now. If the agent runs, it is told to, and ` + "`status`" + `
shows how that came out; else the command does it itself.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, lock, err := open(*file, c)
			var busy *agent.BusyError
			switch {
			case errors.As(err, &busy) && busy.PID > 0:
				if err := syscall.Kill(busy.PID, syscall.SIGUSR1); err != nil {
					return fmt.Errorf("tell the agent, process %d: %w", busy.PID, err)
				}
				fmt.Fprintf(c.OutOrStdout(), "the agent, process %d, was told to renew\n", busy.PID)
				return nil
			case err != nil:
				return err
			}
			defer lock.Release()
			if err := s.Renew(c.Context()); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), s.Line())
			return nil
		},
	}
}
