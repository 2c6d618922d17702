package main

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/devicesim"
)

func enrolCommand() *cobra.Command {
	var rootFile, serial, kind string
	c := &cobra.Command{
		Use:   "enrol --root FILE DIR LABEL",
		Short: "Plays one device that enrols by the code on its label",
		Long: `Plays a device that enrols by the code on its label: LABEL is what its QR code
holds, touchmark://HOST:PORT/PRODUCT?code=CODE. Where the label names no
serial number, --serial does. The key and the certificate are kept in DIR; a
bootstrap.pem that is there is shown as well.

Called again, it uses the certificate once more. The exit status is 0 only if
the device was admitted.`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			root, err := devicesim.LoadCertificate(rootFile)
			if err != nil {
				return err
			}
			label, err := device.ParseLabel(args[1])
			if err != nil {
				return err
			}
			if label.Serial != "" && serial != "" && label.Serial != serial {
				return fmt.Errorf("--serial is %s, but the label is for %s", serial, label.Serial)
			}
			store, err := device.OpenFileStore(args[0])
			if err != nil {
				return err
			}
			client := devicesim.Server{EST: label.Server, Label: label.Product, Root: root}.Client()
			client.Login = &device.Login{User: cmp.Or(label.Serial, serial), Code: label.Code}
			d := &device.Device{Serial: client.Login.User, Store: store, Client: client, Root: root, Kind: device.KeyKind(kind)}
			official, err := d.PowerOn(c.Context())
			var held *device.PendingError
			switch {
			case errors.As(err, &held):
				return fmt.Errorf("held: %s; try again in %s", held.Text, held.RetryAfter)
			case err != nil:
				return err
			}
			if err := d.Use(c.Context()); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "admitted, certificate %x until %s\n", official.Leaf().SerialNumber.Bytes(), official.Leaf().NotAfter.Format("2006-01-02"))
			return nil
		},
	}
	c.Flags().StringVar(&rootFile, "root", "", "the server's root certificate")
	c.Flags().StringVar(&serial, "serial", "", "the device's serial number, where the label does not name it")
	c.Flags().StringVar(&kind, "key-type", "", "kind of the device's key; P-256 if empty")
	_ = c.MarkFlagRequired("root") // it exists
	return c
}
