package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/server"
)

// listedCA is one CA in the JSON of ca list.
type listedCA struct {
	Name      string    `json:"name"`
	Subject   string    `json:"subject"`
	KeyID     string    `json:"keyIdentifier"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	SignedBy  string    `json:"signedBy"`
	Use       string    `json:"use"`
	SHA256    string    `json:"sha256"` // of the certificate
	Warnings  []string  `json:"warnings"`
}

func (a *app) caList() *cobra.Command {
	config := ""
	c := &cobra.Command{Use: "list", Short: "List every CA certificate: whose it is, until when, who signed it, what for", Args: cobra.NoArgs,
		Long: `list reads the data directory and the database, whether a server runs or not. It warns of what ends within two years, or before the
certificates that it issues, and of what outlives the CA that signed it.`,
		Example: "  touchmark ca list --dir /var/lib/touchmark"}
	configFlag(c, &config)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		settings, err := a.config(config)
		if err != nil {
			return err
		}
		have, err := server.Authorities(cmd.Context(), settings, server.Environment{})
		if err != nil {
			return err
		}
		longest, err := server.LongestValidity(cmd.Context(), settings)
		if err != nil {
			return err
		}
		list := listed(have, time.Now(), longest)
		raw, err := json.Marshal(list)
		if err != nil {
			return err
		}
		return a.print(raw, func(w io.Writer) { showCAs(w, list) })
	}
	return a.jsonFlag(c)
}

func listed(have *ca.Authorities, now time.Time, longest time.Duration) []listedCA {
	list := []listedCA{}
	for _, c := range have.List() {
		cert := c.Certificate
		list = append(list, listedCA{Name: c.Name, Subject: cert.Subject.String(), KeyID: fmt.Sprintf("%x", cert.SubjectKeyId), Serial: cert.SerialNumber.Text(16),
			NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, SignedBy: c.SignedBy, Use: c.Use, SHA256: fingerprint(cert.Raw), Warnings: c.Warnings(now, longest)})
	}
	return list
}

func showCAs(w io.Writer, list []listedCA) {
	fmt.Fprintln(w, "NAME\tSUBJECT\tKEY IDENTIFIER\tSERIAL\tFROM\tUNTIL\tSIGNED BY\tUSED FOR")
	for _, c := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Name, c.Subject, c.KeyID, c.Serial, c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly), c.SignedBy, c.Use)
	}
	for _, c := range list {
		for _, text := range c.Warnings {
			fmt.Fprintf(w, "WARNING: %s %s\n", c.Name, text)
		}
	}
}
