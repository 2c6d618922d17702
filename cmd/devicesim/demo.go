package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/touchmark/touchmark/devicesim"
	"golang.org/x/term"
)

// target is the server that a command works on, and whose credentials.
type target struct {
	dir, est, mqtt, api string
}

func (t *target) flags(c *cobra.Command) {
	c.Flags().StringVar(&t.dir, "dir", "", "data directory of `touchmark init`, for its root certificate and first operator")
	c.Flags().StringVar(&t.est, "est", "https://localhost:8443", "the server's EST address")
	c.Flags().StringVar(&t.mqtt, "mqtt", "", "the server's MQTT address, HOST:PORT; empty leaves MQTT out")
	c.Flags().StringVar(&t.api, "api", "https://localhost:8444", "the server's API address")
	_ = c.MarkFlagRequired("dir") // it exists
}

func (t *target) open() (server devicesim.Server, admin *devicesim.Operator, err error) {
	root, err := devicesim.LoadCertificate(filepath.Join(t.dir, "ca", "root.crt"))
	if err != nil {
		return server, nil, err
	}
	admin, err = devicesim.LoadOperator(t.api, root, filepath.Join(t.dir, "admin.crt"), filepath.Join(t.dir, "admin.key"))
	return devicesim.Server{EST: t.est, MQTT: t.mqtt, Root: root}, admin, err
}

func demoCommand() *cobra.Command {
	var t target
	d := devicesim.Demo{Out: os.Stdout}
	c := &cobra.Command{
		Use:   "demo --dir DIR",
		Short: "A day at a factory: an order, its manifest, honest devices and others",
		Long: `A day at a factory, on a server that was made for it: creates a product, a
site and orders, hands in a signed manifest, powers on honest devices, a
rig's, over-production, an unknown device, one with a wrong record, a clone, a
second unit of one serial number, devices that speak MQTT, one that replays another's request, and one
whose order is still a draft. Some honest devices lose answers and power on the
way. Prints who got in, and exits with 0 only
if everybody ended as they should.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if d.Quantity < 6 {
				return errors.New("the demo needs an order of at least 6 units (--quantity)")
			}
			server, admin, err := t.open()
			if err != nil {
				return err
			}
			defer admin.Close()
			d.Server, d.Admin = server, admin
			d.Live = term.IsTerminal(int(os.Stdout.Fd()))
			good, err := d.Run(c.Context())
			if err == nil && !good {
				err = errors.New("the demo did not come out as it should")
			}
			return err
		},
	}
	t.flags(c)
	c.Flags().IntVar(&d.Quantity, "quantity", 500, "units of the order")
	c.Flags().IntVar(&d.Over, "over", 20, "units built beyond the order")
	c.Flags().IntVar(&d.Workers, "workers", 32, "units that power on at the same time")
	c.Flags().Float64Var(&d.LostReplies, "lost-replies", 0.03, "share of honest units' requests whose answer is lost, 0 to 1")
	c.Flags().Float64Var(&d.PowerCuts, "power-cuts", 0.03, "share of honest units' boots that a power cut ends, 0 to 1")
	return c
}
