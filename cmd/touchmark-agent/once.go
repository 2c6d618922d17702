package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func onceCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:     "once",
		Aliases: []string{"enrol"},
		Short:   "Enrols this machine if it is not enrolled, without waiting for anything",
		Long: `Brings this machine to an official certificate, activates it, writes the files
and runs the hook; finishes what an earlier run began. It waits for nothing:
if the server is away, holds the registration or refuses it, the command says
so and fails. It is for first tries and for machines that run it by a timer.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, lock, err := open(*file, c)
			if err != nil {
				return err
			}
			defer lock.Release()
			if err := s.Once(c.Context()); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), s.Line())
			return nil
		},
	}
}
