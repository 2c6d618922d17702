package main

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/touchmark/touchmark/device/licence"
	"github.com/touchmark/touchmark/devicesim"
)

func startCommand() *cobra.Command {
	var key, licences string
	var number, uidType uint8
	var stopped int
	var asJSON bool
	var policy licence.Policy
	c := &cobra.Command{
		Use:   "start --licences DIR --key HEX --product NUMBER UNITS",
		Short: "Starts the units that `factory` built with firmware that asks for licences",
		Long: `Starts the units in UNITS. The firmware of each reads the chip's UID and looks
for a licence in DIR/UID.lic, as touchmark licence sign --out writes it; without
a good one it stops.

The exit status is 0 if as many units stopped as --stopped says.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			der, err := hex.DecodeString(key)
			if err != nil {
				return fmt.Errorf("--key %q: %w", key, err)
			}
			public, err := x509.ParsePKIXPublicKey(der)
			if err != nil {
				return fmt.Errorf("--key: want a public key as touchmark licence key create prints it: %w", err)
			}
			policy.Keys, policy.UIDType = map[uint8]crypto.PublicKey{number: public}, uidType
			units, err := readUnits(args[0], nil)
			if err != nil {
				return err
			}
			s, err := devicesim.Start(units, licences, policy)
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(c.OutOrStdout()).Encode(s)
			} else {
				_, err = fmt.Fprintln(c.OutOrStdout(), s)
			}
			if n := s.Units - s.Running; err == nil && n != stopped {
				err = fmt.Errorf("%d of %d units stopped, where %d should", n, s.Units, stopped)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&licences, "licences", "", "the `directory` with the licences")
	f.StringVar(&key, "key", "", "the public key that licences are checked with, in hexadecimal")
	f.Uint8Var(&number, "key-number", 1, "its number")
	f.Uint32Var(&policy.Product, "product", 0, "the product's number in licences")
	f.Uint16Var(&policy.Epoch, "epoch", 0, "the oldest epoch that counts")
	f.Uint8Var(&uidType, "uid-type", 6, "the type of the chips' UIDs, as docs/licences.md numbers them")
	f.IntVar(&stopped, "stopped", 0, "how many units should stop")
	f.BoolVar(&asJSON, "json", false, "report as JSON")
	for _, name := range []string{"licences", "key", "product"} {
		_ = c.MarkFlagRequired(name) // it exists
	}
	return c
}
