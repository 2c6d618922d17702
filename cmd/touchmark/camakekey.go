package main

import (
	"crypto/x509"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/keys"
)

func (a *app) caMakeKey() *cobra.Command {
	config := ""
	c := &cobra.Command{Use: "make-key NAME...", Short: "Make keys of a server's own, where its configuration says", Args: cobra.MinimumNArgs(1), ValidArgs: ca.OwnKeys,
		Long: `make-key gives an installation a key that init did not make, in a file, an HSM or KMS: responder, which signs OCSP answers;
attestation, which certifies the attestation keys of TPMs; timestamp, which signs time stamps; tls, of the servers' own
certificates. Put its URI under keys: in the
configuration of every server first, make it once, on one of them, and restart them. A key that is there is not touched.
The keys of CAs are made by issuer create; the log has its key for life.`,
		Example: "  touchmark-pkcs11 ca make-key responder attestation --dir /var/lib/touchmark"}
	configFlag(c, &config)
	c.RunE = func(cmd *cobra.Command, names []string) error {
		settings, err := a.config(config)
		if err != nil {
			return err
		}
		places := settings.Places()
		for _, name := range names {
			public, err := places.MakeKey(cmd.Context(), name)
			if err != nil {
				return err
			}
			spki, err := x509.MarshalPKIXPublicKey(public)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s: made in %s\n  key (SHA-256)   %s\n", name, keys.Redact(places.Keys[name]), fingerprint(spki))
		}
		fmt.Fprintln(a.out, "Restart every server whose configuration names the keys.")
		return nil
	}
	return c
}
