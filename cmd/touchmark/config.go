package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server"
)

func (a *app) configCommand() *cobra.Command {
	return &cobra.Command{
		Use: "config", Short: "Print the configuration's manual: every key with its meaning and default", Args: cobra.NoArgs,
		Example: "  touchmark config > touchmark.yaml",
		RunE: func(*cobra.Command, []string) error {
			c := server.Default()
			c.Audit.Origin = "touchmark.example.com/audit"
			_, err := fmt.Fprint(a.out, server.Sample(c))
			return err
		},
	}
}
