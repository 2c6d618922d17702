package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) issuerCommand() *cobra.Command {
	return group("issuer", "The CAs that issue to devices",
		"An issuing CA signs the certificates of devices: of those whose owner names it, and the default of all others. That is device-ca in the beginning.",
		a.issuerCreate(), a.issuerRenew(), a.issuerDefault(), a.issuerStep("close", "Have an issuing CA issue no more",
			"It must not be the default, and no owner may name it. What it issued stays valid, is renewed with the CA in its place, and told the status of."),
		a.issuerStep("reopen", "Let a closed issuing CA issue again", ""), a.issuerList(), a.issuerShow())
}

// ceremony is what creating and renewing an issuing CA need beyond a server.
type ceremony struct{ config, rootKey string }

func (y *ceremony) flags(c *cobra.Command) {
	c.Flags().StringVarP(&y.config, "config", "c", "", "configuration `file` (default: touchmark.yaml in --dir)")
	c.Flags().StringVar(&y.rootKey, "root-key", "", "the root's key, a `file` or URI (default: keys/root.key in the data directory)")
}

// places are where certificates and keys lie, the root's key among them.
func (y *ceremony) places(a *app) (p ca.Places, rootKey string, err error) {
	config, err := a.config(y.config)
	if err != nil {
		return p, "", err
	}
	rootKey = y.rootKey
	if rootKey != "" && !strings.Contains(rootKey, ":") {
		if rootKey, err = filepath.Abs(rootKey); err != nil {
			return p, "", err
		}
		rootKey = "file:" + rootKey
	}
	return config.Places(), rootKey, nil
}

func (a *app) issuerCreate() *cobra.Command {
	var y ceremony
	c := &cobra.Command{Use: "create NAME", Short: "Create an issuing CA, for owners to name", Args: cobra.ExactArgs(1),
		Long: `create makes the key of an issuing CA, signs its certificate with the root's key, and has the running server use it. It
runs on the server's machine, as the server's user; the root's key is needed for that moment, and never by the server. If it
breaks off, run it again.

The key becomes the file keys/issuer-NAME.key. For one in an HSM or KMS put issuer-NAME with its URI under keys: in the
configuration of every server first, and restart them. Other servers of the same database need the key file as well.`,
		Example: "  touchmark issuer create acme --dir /var/lib/touchmark\n  touchmark issuer create beta --dir /var/lib/touchmark --root-key /media/safe/root.key"}
	y.flags(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		name := args[0]
		if err := vetting.CheckIssuingCAName(name); err != nil {
			return nil, err
		}
		p, rootKey, err := y.places(a)
		if err != nil {
			return nil, err
		}
		if err := nameIsFree(ctx, cl, name); err != nil {
			return nil, err // before a key is made
		}
		cert, err := ca.MakeIssuingCA(ctx, p, rootKey, name, time.Now())
		if err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, "/issuers", api.IssuerInput{Name: name, Certificate: string(ca.PEM(cert.Raw))}, &raw)
		return raw, err
	}, showIssuer)
}

func nameIsFree(ctx context.Context, cl *client, name string) error {
	err := cl.api(ctx, http.MethodGet, "/issuers/"+segment(name), nil, nil)
	var refused *refusal
	switch {
	case err == nil:
		return fmt.Errorf("issuing CA %s exists already", name)
	case errors.As(err, &refused) && refused.problem.Status == http.StatusNotFound:
		return nil
	}
	return err
}

func (a *app) issuerRenew() *cobra.Command {
	var y ceremony
	c := &cobra.Command{Use: "renew NAME", Short: "Sign an issuing CA's certificate anew", Args: cobra.ExactArgs(1),
		Long: `renew signs a new certificate for the name and the key that an issuing CA has, below the root in force: before the old one
runs out, and when the root's key changes. What the CA issued stays valid. It needs the root's key, as create does.`,
		Example:           "  touchmark issuer renew acme --dir /var/lib/touchmark",
		ValidArgsFunction: a.completeFirst("/issuers")}
	y.flags(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		if args[0] == vetting.DeviceCA {
			return nil, errors.New("the certificate of device-ca is the file ca/device-ca.crt, and not the server's to replace")
		}
		p, rootKey, err := y.places(a)
		if err != nil {
			return nil, err
		}
		path := "/issuers/" + segment(args[0])
		var have api.Issuer
		if err := cl.api(ctx, http.MethodGet, path, nil, &have); err != nil {
			return nil, err
		}
		block, _ := pem.Decode([]byte(have.PEM))
		if block == nil {
			return nil, errors.New("the server's answer is not what this program knows: it holds no certificate")
		}
		old, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the server's answer is not what this program knows: %w", err)
		}
		cert, err := ca.RenewIssuingCA(ctx, p, rootKey, old, time.Now())
		if err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPut, path+"/certificate", api.IssuerCertificate{Certificate: string(ca.PEM(cert.Raw))}, &raw)
		return raw, err
	}, showIssuer)
}

func (a *app) issuerDefault() *cobra.Command {
	c := &cobra.Command{Use: "default NAME", Short: "Have an issuing CA issue to all devices whose owner names no other", Args: cobra.ExactArgs(1),
		Long: `default puts an issuing CA in the place of the one that issues to all devices whose owner names no other: device-ca in the
beginning, which can be named to go back. Every server follows within a second or two, so each must have the CA's key first.
What the other issued stays valid; devices get certificates of the new one when they renew. To have them renew earlier,
spread over a time: touchmark device renew --issuer OLD.`,
		Example:           "  touchmark issuer default devices-2027\n  touchmark issuer default device-ca",
		ValidArgsFunction: a.completeFirst("/issuers")}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		err = cl.api(ctx, http.MethodPost, "/issuers/"+segment(args[0])+"/default", nil, &raw)
		return raw, err
	}, showIssuer)
}

func (a *app) issuerStep(name, about, more string) *cobra.Command {
	c := &cobra.Command{Use: name + " NAME", Short: about, Long: strings.TrimSpace(about + ". " + more), Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/issuers")}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		err = cl.api(ctx, http.MethodPost, "/issuers/"+segment(args[0])+"/"+name, nil, &raw)
		return raw, err
	}, showIssuer)
}

func (a *app) issuerList() *cobra.Command {
	return listCommand(a, &cobra.Command{Use: "list", Short: "List the CAs that issue to devices"}, "/issuers", noQuery, table[api.Issuer]{
		columns: "NAME\tISSUES TO\tUNTIL\tKEY IDENTIFIER\tPROBLEM", none: "There are no issuing CAs.",
		row: func(i *api.Issuer) []any { return []any{i.Name, issuesTo(i), i.NotAfter, i.KeyID, i.Problem} },
	})
}

// issuesTo says to whose devices a CA issues.
func issuesTo(i *api.Issuer) string {
	switch {
	case i.Default:
		return "all others"
	case i.Closed:
		return "nobody"
	}
	return "owners that name it"
}

func (a *app) issuerShow() *cobra.Command {
	c := &cobra.Command{Use: "show NAME", Short: "Show a CA that issues to devices", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/issuers")}
	return objectCommand(a, c, getter("/issuers/"), showIssuer)
}

func showIssuer(w io.Writer, i *api.Issuer) {
	field(w, "issuing CA", i.Name)
	field(w, "issues to", issuesTo(i))
	field(w, "subject", i.Subject)
	field(w, "key identifier", i.KeyID)
	field(w, "until", i.NotAfter)
	field(w, "created", i.Created)
	if i.Updated.After(i.Created) {
		field(w, "renewed", i.Updated)
	}
	field(w, "problem", i.Problem)
}
