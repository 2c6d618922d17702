package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) issuerCommand() *cobra.Command {
	return group("issuer", "The CAs that issue to devices, sites and operators",
		`An issuing CA signs the certificates of devices: of those whose owner names it, and the default of all others. That is device-ca in the beginning.
Others sign the certificates of sites' operators and rigs (factory-ca), of the other operators and the servers (operator-ca), and of what signs
vouchers and code (codesign-ca). Each can get a successor: create it with --for, and make it the default. What the former one issued counts until it
is closed or runs out; operators move with touchmark operator renew.`,
		a.issuerCreate(), a.issuerDefault(), a.issuerStep(approval.CAClose, "close", "Have an issuing CA issue no more",
			"It must not be the default, and no owner may name it. What it issued to devices stays valid, is renewed with the CA in its place, and told the status of. Certificates of operators and rigs that it issued are refused from then on."),
		a.issuerStep(approval.CAReopen, "reopen", "Let a closed issuing CA issue again", ""), a.issuerList(), a.issuerShow())
}

func (a *app) issuerCreate() *cobra.Command {
	var config, rootKey, purpose, note string
	c := &cobra.Command{Use: "create NAME", Short: "Create an issuing CA, for owners to name or to be the default", Args: cobra.ExactArgs(1),
		Long: `create makes the key of an issuing CA, signs its certificate with the root's key, and has the running server use it. It
runs on the server's machine, as the server's user; the root's key is needed for that moment, and never by the server. If it
breaks off, run it again. Where the root's key must not come to this machine, the same is done in three steps: ca request,
ca sign, ca import.

The key becomes the file keys/issuer-NAME.key. For one in an HSM or KMS put issuer-NAME with its URI under keys: in the
configuration of every server first, and restart them. Other servers of the same database need the key file as well.

Where others must agree (touchmark approval policy), it only asks for it, with --note; the CA is there when they have approved.`,
		Example: "  touchmark issuer create acme --dir /var/lib/touchmark\n  touchmark issuer create beta --dir /var/lib/touchmark --root-key /media/safe/root.key\n  touchmark issuer create factory-2027 --for sites --dir /var/lib/touchmark --root-key /media/safe/root.key"}
	configFlag(c, &config)
	purposeFlag(c, &purpose)
	c.Flags().StringVar(&rootKey, "root-key", "", "the root's key, a `file` or URI (default: keys/root.key in the data directory)")
	whyFlag(c, &note)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		what, err := purposeOf(purpose)
		if err != nil {
			return err
		}
		settings, err := a.config(config)
		if err != nil {
			return err
		}
		if err := vetting.CheckIssuingCAName(args[0]); err != nil {
			return err
		}
		in, err := a.newIssuer(cmd.Context(), args[0], note)
		if err != nil {
			return err // before a key is made
		}
		cert, err := createIssuingCA(cmd.Context(), settings.Places(), rootKey, args[0], what)
		if err != nil {
			return err
		}
		in.Certificate = string(ca.PEM(cert.Raw))
		return a.actOnIssuer(cmd.Context(), in, func(cl *client) (raw []byte, err error) {
			err = cl.api(cmd.Context(), http.MethodPost, "/issuers", api.IssuerInput{Name: in.Name, Certificate: in.Certificate}, &raw)
			return raw, err
		})
	}
	return a.jsonFlag(c)
}

func whyFlag(c *cobra.Command, note *string) {
	c.Flags().StringVar(note, "note", "", "why, for those who approve it, where others must agree")
}

// newIssuer is the wish for an issuing CA, whose name is free.
func (a *app) newIssuer(ctx context.Context, name, note string) (api.IssuerProposalInput, error) {
	in := api.IssuerProposalInput{Act: approval.CACreate, Name: name, Note: note}
	cl, err := a.client()
	if err != nil {
		return in, err
	}
	if err := nameIsFree(ctx, cl, name); err != nil {
		return in, err
	}
	n, err := guarded(ctx, cl, in.Act)
	if err == nil && n > 0 {
		err = noted("a new issuing CA", n, note)
	}
	return in, err
}

// createIssuingCA is a ceremony on one machine.
func createIssuingCA(ctx context.Context, p ca.Places, rootKey, name string, purpose vetting.Purpose) (*x509.Certificate, error) {
	present, err := p.Root()
	if err != nil {
		return nil, err
	}
	dir, uri := ".", keyURI(rootKey)
	if rootKey == "" {
		dir, uri = p.Dir, "file:keys/"+ca.RootName+".key"
	}
	root, err := ca.OpenRoot(ctx, dir, uri, []*x509.Certificate{present}) // before a key is made
	if err != nil {
		return nil, err
	}
	der, err := p.RequestIssuingCA(ctx, name, purpose, present)
	if err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	return root.Sign(csr, time.Now())
}

// errTaken says that a name is another's.
var errTaken = errors.New("it exists already")

func nameIsFree(ctx context.Context, cl *client, name string) error {
	err := cl.api(ctx, http.MethodGet, "/issuers/"+segment(name), nil, nil)
	var refused *refusal
	switch {
	case err == nil:
		return fmt.Errorf("issuing CA %s: %w", name, errTaken)
	case errors.As(err, &refused) && refused.problem.Status == http.StatusNotFound:
		return nil
	}
	return err
}

func (a *app) issuerDefault() *cobra.Command {
	c := &cobra.Command{Use: "default NAME", Short: "Have an issuing CA issue to all devices whose owner names no other, or to all that it is for", Args: cobra.ExactArgs(1),
		Long: `default puts an issuing CA in the place of the one that issues to all devices whose owner names no other: device-ca in the
beginning, which can be named to go back; or one that is for sites, operators or code signing in the place of the one that was the
default there. Every server follows within a second or two, so each must have the CA's key first.
What the other issued stays valid; devices get certificates of the new one when they renew. To have them renew earlier,
spread over a time: touchmark device renew --issuer OLD.`,
		Example:           "  touchmark issuer default devices-2027\n  touchmark issuer default device-ca",
		ValidArgsFunction: a.completeFirst("/issuers")}
	return a.changing(c, approval.CADefault, "default")
}

func (a *app) issuerStep(kind approval.Kind, name, about, more string) *cobra.Command {
	c := &cobra.Command{Use: name + " NAME", Short: about, Long: strings.TrimSpace(about + ". " + more), Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/issuers")}
	return a.changing(c, kind, name)
}

// changing makes a command that changes the state of a CA, or asks for that.
func (a *app) changing(c *cobra.Command, kind approval.Kind, step string) *cobra.Command {
	note := ""
	whyFlag(c, &note)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return a.actOnIssuer(cmd.Context(), api.IssuerProposalInput{Act: kind, Name: args[0], Note: note}, func(cl *client) (raw []byte, err error) {
			err = cl.api(cmd.Context(), http.MethodPost, "/issuers/"+segment(args[0])+"/"+step, nil, &raw)
			return raw, err
		})
	}
	return a.jsonFlag(c)
}

func (a *app) issuerList() *cobra.Command {
	return listCommand(a, &cobra.Command{Use: "list", Short: "List the CAs below the root"}, "/issuers", noQuery, table[api.Issuer]{
		columns: "NAME\tFOR\tISSUES TO\tIN THE FIELD\tUNTIL\tKEY IDENTIFIER\tPROBLEM", none: "There are no issuing CAs.",
		row: func(i *api.Issuer) []any {
			return []any{i.Name, i.Purpose, issuesTo(i), i.Count, i.NotAfter, i.KeyID, i.Problem}
		},
	})
}

// issuesTo says to whom a CA issues.
func issuesTo(i *api.Issuer) string {
	switch devices := i.Purpose == forDevices; {
	case i.Default && devices:
		return "all others"
	case i.Default:
		return "all"
	case i.Closed && !devices:
		return "nobody; refused"
	case i.Closed || !devices:
		return "nobody"
	}
	return "owners that name it"
}

func (a *app) issuerShow() *cobra.Command {
	c := &cobra.Command{Use: "show NAME", Short: "Show a CA below the root", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/issuers")}
	return objectCommand(a, c, getter("/issuers/"), showIssuer)
}

func showIssuer(w io.Writer, i *api.Issuer) {
	field(w, "issuing CA", i.Name)
	field(w, "for", i.Purpose)
	field(w, "issues to", issuesTo(i))
	if i.Purpose == forDevices {
		field(w, "in the field", counted(i.Count, "certificate that has not run out", "certificates that have not run out"))
	} else {
		field(w, "in the field", counted(i.Count, "operator with its newest certificate of it", "operators with their newest certificates of it"))
	}
	field(w, "subject", i.Subject)
	field(w, "key identifier", i.KeyID)
	field(w, "until", i.NotAfter)
	field(w, "created", i.Created)
	if i.Updated.After(i.Created) {
		field(w, "renewed", i.Updated)
	}
	field(w, "problem", i.Problem)
}
