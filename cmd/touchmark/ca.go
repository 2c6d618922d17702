package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/server"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) caCommand() *cobra.Command {
	return group("ca", "The CAs of a server, and ceremonies with the root's key",
		`A CA below the root gets its certificate in three steps: request on the server's machine, sign where the root's key is, which
needs no server and no network, and import on the server's machine. list shows what there is. root-rollover changes the root's key.`,
		a.caList(), a.caRequest(), a.caSign(), a.caImport(), a.rootRollover(), a.caMakeKey())
}

func (a *app) caRequest() *cobra.Command {
	var config, out, purpose string
	all := false
	c := &cobra.Command{Use: "request [NAME...]", Short: "Ask for certificates of CAs, by the keys that they have",
		Long: `request writes requests (PKCS#10) for CAs that this server has: device-ca, factory-ca, operator-ca, codesign-ca, issuing CAs;
--all is all of them. Subject and key stay as they are. A name that no CA has is that of a new one, and its key is made as the file
keys/issuer-NAME.key, or where the configuration says under keys:. It is to issue to devices, or to what --for says, in the place of
factory-ca, operator-ca or codesign-ca. The file holds no secret; take it to where the root's key is.`,
		Example: "  touchmark ca request --dir /var/lib/touchmark factory-2027 --for sites -o requests.pem\n  touchmark ca request --dir /var/lib/touchmark devices-2027 -o requests.pem\n  touchmark ca request --dir /var/lib/touchmark --all -o requests.pem"}
	configFlag(c, &config)
	c.Flags().BoolVar(&all, "all", false, "every CA below the root")
	purposeFlag(c, &purpose)
	outFlag(c, &out)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if all != (len(args) == 0) {
			return usagef("which CAs? Name them, or say --all, and not both")
		}
		what, err := purposeOf(purpose)
		if err != nil {
			return err
		}
		settings, err := a.config(config)
		if err != nil {
			return err
		}
		have, err := server.Authorities(cmd.Context(), settings, server.Environment{})
		if err != nil {
			return err
		}
		if all {
			args = have.BelowRoot()
		}
		text, err := have.Requests(cmd.Context(), args, what)
		if err != nil {
			return err
		}
		requests, err := ca.ParseRequests(text)
		if err != nil {
			return err
		}
		for _, r := range requests {
			fmt.Fprintf(a.err, "  subject         %s\n  key (SHA-256)   %s\n", r.Subject, fingerprint(r.RawSubjectPublicKeyInfo))
		}
		return a.writeNew(out, text)
	}
	return c
}

// purposeFlag says whom a new CA is to issue to.
func purposeFlag(c *cobra.Command, purpose *string) {
	c.Flags().StringVar(purpose, "for", forDevices, "whom a new CA is to issue to: "+purposes())
	oneOf(c, "for", append([]vetting.Purpose{forDevices}, vetting.Purposes[1:]...)...)
}

func purposes() string {
	return join(append([]vetting.Purpose{forDevices}, vetting.Purposes[1:]...))
}

// forDevices is the purpose of the CAs that issue to devices, as people write
// it.
const forDevices = "devices"

func purposeOf(text string) (vetting.Purpose, error) {
	p := vetting.Purpose(text)
	if text == forDevices {
		p = vetting.ForDevices
	}
	if text == "" || !slices.Contains(vetting.Purposes, p) {
		return p, usagef("a CA issues to %s, and not to %q (--for)", purposes(), text)
	}
	return p, nil
}

func outFlag(c *cobra.Command, out *string) {
	c.Flags().StringVarP(out, "out", "o", "", "write to this `file`, which must not exist; - for standard output (required)")
	_ = c.MarkFlagRequired("out")
}

// writeNew writes a file that was not there before.
func (a *app) writeNew(path string, text []byte) error {
	if path == "-" {
		_, err := a.out.Write(text)
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}
