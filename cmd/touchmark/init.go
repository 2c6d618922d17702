package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server"
)

func (a *app) initCommand() *cobra.Command {
	p := server.Plan{Config: server.Default()}
	var dns, ips []string
	c := &cobra.Command{
		Use: "init DIR", Short: "Make a new Touchmark: CAs, keys, database, configuration, first operator",
		Long: `init makes a data directory with everything that a server needs. The directory must be empty or not exist: a CA is
never overwritten. Give the DNS names and addresses by which devices and operators will reach the server.

With --kms the keys go to an HSM or cloud KMS: the URI is used for each, {name} standing for root, device-ca, factory-ca,
operator-ca, codesign-ca, log, responder (which signs OCSP answers), attestation (which certifies the keys of TPMs) and timestamp,
and {id} for a number of its own, which PKCS#11 wants. Keys for firmware and licences are made there too, when they are wanted. The serial number key, which signs nothing, stays a file. PKCS#11 needs the program touchmark-pkcs11.`,
		Example: `  touchmark init /var/lib/touchmark --name 'Example AG' --dns touchmark.example.com
  touchmark init tm --name Test --root-key-dir /media/safe
  touchmark init tm --name Test --database 'postgres://touchmark@db.example.com/touchmark'
  touchmark-pkcs11 init tm --name Test --kms 'pkcs11:module-path=/usr/lib/softhsm/libsofthsm2.so;token=tm;id={id};object={name}?pin-source=/etc/tm/pin'`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&p.Organization, "name", "", "your organisation, as the CA certificates shall name it (required)")
	f.StringSliceVar(&dns, "dns", nil, "DNS `name` of the server; may be repeated (default localhost)")
	f.StringSliceVar(&ips, "ip", nil, "IP `address` of the server; may be repeated (default 127.0.0.1, ::1 if no name is given)")
	f.StringVar(&p.RootKeyDir, "root-key-dir", "", "put the root's key into this `directory`, to be taken offline")
	f.StringVar(&p.KMS, "kms", "", "key `URI` with {name}, for keys in an HSM or KMS")
	f.StringVar(&p.Config.Database, "database", p.Config.Database, "sqlite:PATH or postgres://USER@HOST/NAME")
	f.StringVar(&p.Config.EST.Listen, "est", p.Config.EST.Listen, "`address` where devices enrol")
	f.StringVar(&p.Config.MQTT.Listen, "mqtt", p.Config.MQTT.Listen, "`address` where devices enrol over MQTT; empty for none")
	f.StringVar(&p.Config.API.Listen, "api", p.Config.API.Listen, "`address` of the operators' API")
	f.StringVar(&p.Config.Status.Listen, "status", p.Config.Status.Listen, "`address` where anybody asks whether a certificate counts")
	f.StringVar(&p.Config.Status.URL, "status-url", p.Config.Status.URL, "`URL` of that address, for the certificates to name")
	f.StringVar(&p.Config.Ops.Listen, "ops", p.Config.Ops.Listen, "`address` of /healthz, /readyz and /metrics")
	f.StringVar(&p.Admin, "admin", "admin", "name of the first operator")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(dns)+len(ips) > 0 {
			p.Config.Names = append(dns, ips...)
		}
		p.Dir = args[0]
		made, err := server.Init(cmd.Context(), p, server.Environment{})
		if err != nil {
			return err
		}
		a.tellMade(a.out, made)
		return nil
	}
	return c
}

func (a *app) tellMade(w io.Writer, m *server.Made) {
	fmt.Fprintf(w, "Made in %s:\n", m.Dir)
	for _, f := range m.Files {
		fmt.Fprintf(w, "  %s\n", f)
	}
	advice := "A running server does not need it."
	if strings.HasPrefix(m.RootKey, "file:") {
		advice = "A running server does not need it:\n          move it to a medium in a safe, and check that you can read it back."
	}
	fmt.Fprintf(w, `
Root CA:  %s, until %s
          its key is %s. %s
Log:      auditors check it with this key, give it to them (%s):
          %s

Next:
  touchmark serve --dir %[7]s
  touchmark --dir %[7]s product create PRODUCT --proof bootstrap-key
  touchmark --dir %[7]s site create SITE
  touchmark --dir %[7]s order create ORDER --product PRODUCT --site SITE --quantity 500 --open
`, m.Root.Subject.CommonName, m.Root.NotAfter.Format(time.DateOnly), m.RootKey, advice, filepath.Join("log", "verifier"), m.Verifier, m.Dir)
}
