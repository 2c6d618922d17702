package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/devicesim"
)

func factoryCommand() *cobra.Command {
	f := devicesim.Factory{Now: time.Now}
	var out, cert, key string
	var first, count int
	c := &cobra.Command{
		Use:   "factory --out DIR",
		Short: "Builds units: bootstrap keys and certificates, and the manifest that lists them",
		Long: `Builds units below DIR: DIR/SERIAL/bootstrap.pem with key and bootstrap
certificate, and DIR/manifest.jsonl. Hand the manifest in with "touchmark
manifest upload --sign", or sign it here with --cert and --key of a site
operator: DIR/manifest.p7s is the detached CMS signature in DER.

A unit that is there already keeps its key.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if count < 1 || first < 0 {
				return fmt.Errorf("--count %d, --first %d: want at least one unit, and numbers from 0", count, first)
			}
			f.Stores = func(serial string) (device.KeyStore, error) {
				return device.OpenFileStore(filepath.Join(out, serial))
			}
			units, err := f.Build(first, first+count)
			if err != nil {
				return err
			}
			manifest := f.Manifest(units)
			name := filepath.Join(out, manifestFile)
			if err := os.WriteFile(name, manifest, 0o644); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%d units built; their manifest is %s\n", count, name)
			return signManifest(manifest, filepath.Join(out, "manifest.p7s"), cert, key)
		},
	}
	c.Flags().StringVar(&out, "out", "", "directory for the units")
	c.Flags().StringVar(&f.Prefix, "prefix", "SN-", "beginning of the serial numbers")
	c.Flags().Uint8Var(&f.Block, "block", 2, "distinguishes the MAC addresses and UIDs of several factories, 0 to 255")
	c.Flags().IntVar(&first, "first", 0, "number of the first unit")
	c.Flags().IntVar(&count, "count", 10, "how many units")
	c.Flags().StringVar(&cert, "cert", "", "a site operator's certificate, to sign the manifest")
	c.Flags().StringVar(&key, "key", "", "that certificate's key")
	_ = c.MarkFlagRequired("out") // it exists
	return c
}

// signManifest writes a site operator's signature, if there is an operator.
func signManifest(manifest []byte, name, cert, key string) error {
	if cert == "" && key == "" {
		return nil
	}
	if cert == "" || key == "" {
		return errors.New("to sign the manifest, name both --cert and --key")
	}
	o, err := devicesim.LoadOperator("", nil, cert, key)
	if err != nil {
		return err
	}
	signature, err := devicesim.Sign(manifest, o.Cert, o.Key)
	if err != nil {
		return err
	}
	return os.WriteFile(name, signature, 0o644)
}
