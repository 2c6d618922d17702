package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/server"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) caImport() *cobra.Command {
	var config, note string
	c := &cobra.Command{Use: "import FILE", Short: "Take certificates that were signed elsewhere", Args: cobra.ExactArgs(1),
		Long: `import checks every certificate in the file: who signed it, subject, key, identifier, path length, times. If all are good, those of
device-ca, factory-ca, operator-ca and codesign-ca become files in ca/, those of all other CAs go to the running server, which has them
at once; a root roll-over becomes the file ca/root-rollover.crt. Restart the servers if files were replaced. Each of several servers
needs the same files. If it breaks off, run it again.

Where others must agree to issuing CAs (touchmark approval policy), new ones are asked for, with --note. That guards what goes to the server and
not the files in ca/: who may write those is the machine's to say.`,
		Example: "  touchmark ca import --dir /var/lib/touchmark certificates.pem"}
	configFlag(c, &config)
	whyFlag(c, &note)
	a.yesFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		settings, err := a.config(config)
		if err != nil {
			return err
		}
		list, err := caCertificates(args[0])
		if err != nil {
			return err
		}
		have, err := server.Authorities(cmd.Context(), settings, server.Environment{})
		if err != nil {
			return err
		}
		if bytes.Equal(list[0].RawSubject, have.Root.RawSubject) {
			return a.importRollover(have, list)
		}
		return a.importBelowRoot(cmd.Context(), have, list, note)
	}
	return c
}

func (a *app) importRollover(have *ca.Authorities, list []*x509.Certificate) error {
	r, err := ca.ReadRollover(list)
	if err != nil {
		return err
	}
	if err := a.confirm("A new root CA is made known, beside the one in force:\n" + described(r.NewWithNew)); err != nil {
		return err
	}
	if err := have.BeginRollover(r); err != nil {
		return err
	}
	fmt.Fprintln(a.out, "The root roll-over has begun. Restart every server that has these files.")
	return nil
}

// importBelowRoot checks all, and then takes all: those of the database first,
// for whose key the server has a say.
func (a *app) importBelowRoot(ctx context.Context, have *ca.Authorities, list []*x509.Certificate, note string) error {
	files, issuing, err := sortImport(ctx, have, list)
	if err != nil {
		return err
	}
	text := "These certificates are taken:\n"
	for _, c := range list {
		text += "\n" + described(c) + "\n"
	}
	if err := a.confirm(text); err != nil {
		return err
	}
	if err := a.importIssuing(ctx, issuing, note); err != nil {
		return err
	}
	for name, cert := range files {
		if err := have.Replace(name, cert); err != nil {
			return err
		}
		fmt.Fprintf(a.out, "%s: ca/%s.crt replaced\n", name, name)
	}
	if len(files) > 0 {
		fmt.Fprintln(a.out, "Restart every server that has these files.")
	}
	return nil
}

// sortImport checks certificates, and tells those of files, by name, from
// those of issuing CAs.
func sortImport(ctx context.Context, have *ca.Authorities, list []*x509.Certificate) (map[string]*x509.Certificate, []*vetting.IssuingCA, error) {
	files, now := map[string]*x509.Certificate{}, time.Now()
	var issuing []*vetting.IssuingCA
	for _, cert := range list {
		name, err := have.CheckReplacement(cert, now)
		if err != nil {
			return nil, nil, err
		}
		if name != "" {
			files[name] = cert
			continue
		}
		i, err := have.CheckIssuingCA(ctx, cert.Subject.CommonName, cert.Raw, now)
		if err != nil {
			return nil, nil, err
		}
		issuing = append(issuing, i)
	}
	return files, issuing, nil
}

// importIssuing hands the certificates of issuing CAs to the server, or asks
// for the new ones where others must agree.
func (a *app) importIssuing(ctx context.Context, list []*vetting.IssuingCA, note string) error {
	if len(list) == 0 {
		return nil
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	n, err := guarded(ctx, cl, approval.CACreate)
	if err != nil {
		return err
	}
	for _, i := range list {
		text := string(ca.PEM(i.Certificate))
		err := nameIsFree(ctx, cl, i.Name)
		switch {
		case err == nil && n > 0:
			if err := a.askForIssuer(ctx, cl, i.Name, text, n, note); err != nil {
				return err
			}
			continue
		case err == nil:
			err = cl.api(ctx, http.MethodPost, "/issuers", api.IssuerInput{Name: i.Name, Certificate: text}, nil)
		case errors.Is(err, errTaken):
			err = cl.api(ctx, http.MethodPut, "/issuers/"+segment(i.Name)+"/certificate", api.IssuerCertificate{Certificate: text}, nil)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", i.Name, err)
		}
		fmt.Fprintf(a.out, "%s: the server has the certificate\n", i.Name)
	}
	return nil
}

// askForIssuer asks others to agree to a new issuing CA.
func (a *app) askForIssuer(ctx context.Context, cl *client, name, certificate string, n int, note string) error {
	if err := noted("the new issuing CA "+name, n, note); err != nil {
		return err
	}
	var p api.Proposal
	in := api.IssuerProposalInput{Act: approval.CACreate, Name: name, Certificate: certificate, Note: note}
	if err := cl.api(ctx, http.MethodPost, "/issuer-proposals", in, &p); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(a.out, "%s: the server has it when others have approved proposal %d\n", name, p.ID)
	return nil
}
