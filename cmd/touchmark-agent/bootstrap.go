package main

import (
	"encoding/json"

	"github.com/spf13/cobra"
)

func bootstrapCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "bootstrap",
		Short: "Makes the bootstrap key, and prints the manifest's line for this machine",
		Long: `Makes the machine's bootstrap key where the configuration wants keys, with a
self-signed certificate, as a step on the line does, and prints a line for the
manifest: the serial number and the key's fingerprint. Called again it makes
nothing and prints the same.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, lock, err := open(*file, c)
			if err != nil {
				return err
			}
			defer lock.Release()
			record, err := s.Bootstrap()
			if err != nil {
				return err
			}
			return json.NewEncoder(c.OutOrStdout()).Encode(record)
		},
	}
}
