package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/server/api"
)

func (a *app) firmwareRecipient() *cobra.Command {
	return group("recipient", "Keys that encrypted firmware is wrapped for",
		`A recipient is a public key whose private half decrypts firmware: one device's, or a family's, which all devices of a product have. It is another
key than that of the device's certificate. For RAUC a device needs none: the key of its certificate will do.`,
		a.recipientAdd(), a.recipientList(), a.recipientRevoke())
}

func (a *app) recipientAdd() *cobra.Command {
	var product, serial, name string
	c := &cobra.Command{Use: "add FILE", Short: "Register a public key (PEM), or that of a certificate", Args: cobra.ExactArgs(1),
		Long: `add registers the key that a device decrypts firmware with, or under a name a key that all devices of the product have, which only an administrator
may do. X25519 and P-256 are for MCUboot; RSA, P-256, P-384 and P-521 for RAUC. A key is one recipient's alone. Of a device's keys the newest counts.`,
		Example: "  touchmark firmware recipient add device.pem --product thermostat --device S-4711\n" +
			"  touchmark firmware recipient add family.pem --product thermostat --family thermostat-2027"}
	f := c.Flags()
	f.StringVar(&product, "product", "", "the product (required)")
	f.StringVar(&serial, "device", "", "the device's serial number")
	f.StringVar(&name, "family", "", "what the family's key is called")
	_ = c.MarkFlagRequired("product")
	c.MarkFlagsMutuallyExclusive("device", "family")
	c.MarkFlagsOneRequired("device", "family")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		spki, err := publicKeyFile(args[0])
		if err != nil {
			return nil, err
		}
		path := "/products/" + segment(product) + "/firmware/"
		if name != "" {
			err = cl.api(ctx, http.MethodPost, path+"family-keys", api.FamilyKeyInput{Name: name, PublicKey: spki}, &raw)
		} else {
			err = cl.api(ctx, http.MethodPost, path+"device-keys", api.DeviceKeyInput{Serial: serial, PublicKey: spki}, &raw)
		}
		return raw, err
	}, showRecipient)
}

// publicKeyFile reads a public key, or that of a certificate, as a
// SubjectPublicKeyInfo. A private key is refused: it is the device's alone.
func publicKeyFile(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	switch {
	case block != nil && block.Type == "PUBLIC KEY":
		return block.Bytes, nil
	case block != nil && block.Type == "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return cert.RawSubjectPublicKeyInfo, nil
	}
	return nil, fmt.Errorf("%s has no public key and no certificate in PEM; openssl pkey -pubout makes one of a private key, which stays where it is", path)
}

func (a *app) recipientList() *cobra.Command {
	limit := 0
	c := &cobra.Command{Use: "list PRODUCT", Short: "List the keys that a product's firmware is wrapped for", Args: cobra.ExactArgs(1)}
	c.Flags().IntVar(&limit, "limit", 100, "show at most so many; 0 shows all")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return runList(cmd.Context(), a, "/products/"+segment(args[0])+"/firmware/recipients", nil, limit, table[release.Recipient]{
			columns: "NUMBER\tOF\tKIND\tREGISTERED\tBY\tREVOKED", none: "There are no keys yet; register one with `touchmark firmware recipient add`.",
			row: func(r *release.Recipient) []any { return []any{r.ID, r.Called(), r.Kind, r.Created, r.By, r.Revoked} },
		})
	}
	return a.jsonFlag(c)
}

func (a *app) recipientRevoke() *cobra.Command {
	note := ""
	c := &cobra.Command{Use: "revoke NUMBER", Short: "Have nothing wrapped for a key any more", Args: cobra.ExactArgs(1),
		Long:    `revoke takes effect at once. What was wrapped for the key before stays readable with it.`,
		Example: "  touchmark firmware recipient revoke 4711 --note 'a device was opened'"}
	c.Flags().StringVar(&note, "note", "", "why, for the audit log (required)")
	_ = c.MarkFlagRequired("note")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		id, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return nil, usagef("%q is no number: firmware recipient list shows them", args[0])
		}
		err = cl.api(ctx, http.MethodPost, fmt.Sprintf("/firmware-recipients/%d/revoke", id), api.ReasonInput{Note: note}, &raw)
		return raw, err
	}, showRecipient)
}

func showRecipient(w io.Writer, r *release.Recipient) {
	field(w, "recipient", r.ID)
	field(w, "of", r.Called())
	field(w, "kind", r.Kind)
	field(w, "key (SHA-256)", r.Fingerprint())
	field(w, "registered", r.Created)
	field(w, "by", r.By)
	field(w, "revoked", r.Revoked)
	field(w, "why", r.Reason)
}
