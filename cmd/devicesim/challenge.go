package main

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/devicesim"
)

func challengeCommand() *cobra.Command {
	var est, rootFile string
	c := &cobra.Command{
		Use:   "challenge DIR SERIAL NONCE",
		Short: "Has a unit answer a challenge",
		Long: `Has the unit DIR/SERIAL prove that it holds its official key. Without --est it
signs the nonce and prints the signature in base64, for somebody to pass on
("touchmark device answer"). With --est it connects to the server itself.`,
		Args: cobra.ExactArgs(3),
		RunE: func(c *cobra.Command, args []string) error {
			nonce, err := device.ParseNonce(args[2])
			if err != nil {
				return err
			}
			units, err := readUnits(args[0], args[1:2])
			if err != nil {
				return err
			}
			d := &device.Device{Serial: units[0].Serial, Store: units[0].Store}
			if est == "" {
				p, err := d.Prove(nonce)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), base64.StdEncoding.EncodeToString(p.Signature))
				return err
			}
			if rootFile == "" {
				return errors.New("--est wants --root, the server's root certificate")
			}
			root, err := devicesim.LoadCertificate(rootFile)
			if err != nil {
				return err
			}
			roots := x509.NewCertPool()
			roots.AddCert(root)
			d.Root, d.Client = root, &device.Client{URL: est, Roots: roots}
			return d.AnswerChallenge(c.Context(), nonce)
		},
	}
	c.Flags().StringVar(&est, "est", "", "the server's EST address, to answer by TLS")
	c.Flags().StringVar(&rootFile, "root", "", "the server's root certificate")
	return c
}
