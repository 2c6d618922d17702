package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/server"
	"github.com/touchmark/touchmark/server/api"
)

func (a *app) operatorCommand() *cobra.Command {
	return group("operator", "People and rigs that work with the server",
		`An operator is a person or a QA rig with a client certificate. Role, site, owner and revocation are kept by the
server, so a change takes effect with the next request. Roles: `+join(access.Roles)+".",
		a.operatorAdd(), a.operatorCertify(), a.operatorTrust(), a.operatorLogin(), a.operatorList(), a.operatorShow(), a.operatorRenew(), a.operatorRevoke(), a.operatorWhoami())
}

func (a *app) operatorAdd() *cobra.Command {
	var in api.OperatorInput
	var role, out, note string
	c := &cobra.Command{
		Use: "add NAME", Short: "Add an operator: make a key, get a certificate", Args: cobra.ExactArgs(1),
		Long: `add makes the operator's key on this machine, gets the certificate from the server, and writes NAME.key, NAME.crt,
root.crt and cli.yaml into a directory that serves as --dir from then on. With --csr the key stays where it is: give the
operator's own PKCS#10 request.

Where others must agree to operators who may approve (touchmark approval policy), it makes the key and asks for them, with --note;
when they have approved, operator certify gets the certificate.`,
		Example: `  touchmark operator add anna --role site-operator --site penang --out anna
  touchmark operator add rig-7 --role rig --site penang --out /media/rig-7
  touchmark operator add olga --role owner-operator --owner acme --out olga
  touchmark operator add paula --role planner --csr paula.csr --out paula`,
	}
	csr := ""
	f := c.Flags()
	f.StringVar(&role, "role", "", join(access.Roles)+" (required)")
	f.StringVar(&in.Site, "site", "", "the site of a site-operator or rig")
	f.StringVar(&in.Owner, "owner", "", "the owner of an owner-operator")
	f.StringVar(&out, "out", "", "`directory` for key and certificate (default: NAME)")
	f.StringVar(&csr, "csr", "", "the operator's own PKCS#10 request in PEM, a `file`")
	_ = c.MarkFlagRequired("role")
	oneOf(c, "role", access.Roles...)
	whyFlag(c, &note)
	a.completeFlags(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		in.Name, in.Role = args[0], access.Role(role)
		op := &access.Operator{Name: in.Name, Role: in.Role, Site: in.Site, Owner: in.Owner}
		if err := op.Check(); err != nil {
			return &usageError{err}
		}
		if out == "" {
			out = in.Name
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		if op.May(access.Approve) {
			n, err := guarded(cmd.Context(), cl, approval.OperatorAdd)
			if err != nil {
				return err
			}
			if n > 0 {
				return a.askForOperator(cmd.Context(), cl, in, n, note, out, csr)
			}
		}
		raw, err := a.addOperator(cmd.Context(), cl, in, out, csr)
		if err != nil {
			return err
		}
		return show(a, raw, showAdded(out))
	}
	return a.jsonFlag(c)
}

func showAdded(out string) func(io.Writer, *api.OperatorCreated) {
	return func(w io.Writer, o *api.OperatorCreated) {
		showOperator(w, &o.Operator)
		field(w, "directory", out)
		fmt.Fprintf(w, "next\ttouchmark --dir %s operator whoami\n", out)
	}
}

// askForOperator asks others to agree to an operator, whose key it makes.
func (a *app) askForOperator(ctx context.Context, cl *client, in api.OperatorInput, n int, note, out, csrFile string) error {
	if err := noted("an operator who may approve", n, note); err != nil {
		return err
	}
	csr, _, err := operatorRequest(ctx, in.Name, out, csrFile)
	if err != nil {
		return err
	}
	var raw []byte
	if err := cl.api(ctx, http.MethodPost, "/operator-proposals", api.OperatorProposalInput{Name: in.Name, Role: in.Role, CSR: csr, Note: note}, &raw); err != nil {
		return err
	}
	return show(a, raw, func(w io.Writer, p *api.Proposal) {
		showProposal(w, p)
		fmt.Fprintf(w, "next\twhen it was carried out: touchmark operator certify %s --out %s\n", in.Name, out)
	})
}

func (a *app) operatorCertify() *cobra.Command {
	var out, csr string
	c := &cobra.Command{Use: "certify NAME", Short: "Get the first certificate of an operator whom others agreed to", Args: cobra.ExactArgs(1),
		Long: `certify ends what operator add began where others must agree: it gets a certificate on the key in the directory, or on the one of
the request that add was given, and makes the directory one that serves as --dir.`,
		Example: "  touchmark operator certify dora --out dora"}
	c.Flags().StringVar(&out, "out", "", "`directory` for key and certificate (default: NAME)")
	c.Flags().StringVar(&csr, "csr", "", "the operator's own PKCS#10 request in PEM, a `file`")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		name := args[0]
		if out == "" {
			out = name
		}
		request, keyFile, err := operatorRequest(ctx, name, out, csr)
		if err != nil {
			return nil, err
		}
		if err := cl.api(ctx, http.MethodPost, "/operators/"+segment(name)+"/certificate", api.OperatorRenewal{CSR: request}, &raw); err != nil {
			return nil, err
		}
		var made api.OperatorCreated
		if err := decode(raw, &made); err != nil {
			return nil, err
		}
		return raw, a.writeOperator(cl, name, out, keyFile, made)
	}, func(w io.Writer, o *api.OperatorCreated) { showAdded(out)(w, o) })
}

// operatorRequest is the request of a new operator: from a file, or for the key
// in the directory, which is made if there is none.
func operatorRequest(ctx context.Context, name, out, csrFile string) (csr, keyFile string, err error) {
	if err := os.MkdirAll(out, 0o700); err != nil {
		return "", "", err
	}
	if csrFile != "" {
		text, err := os.ReadFile(csrFile)
		if err != nil {
			return "", "", fmt.Errorf("the request (--csr): %w", err)
		}
		return string(text), "", nil
	}
	csr, err = makeKey(ctx, out, name)
	return csr, filepath.Join(out, name+".key"), err
}

func (a *app) addOperator(ctx context.Context, cl *client, in api.OperatorInput, out, csrFile string) (raw []byte, err error) {
	keyFile := ""
	if in.CSR, keyFile, err = operatorRequest(ctx, in.Name, out, csrFile); err != nil {
		return nil, err
	}
	if err = cl.api(ctx, http.MethodPost, "/operators", in, &raw); err != nil {
		if refused := new(refusal); keyFile != "" && errors.As(err, &refused) {
			err = errors.Join(err, os.Remove(keyFile)) // it opens nothing
		}
		return nil, err
	}
	var made api.OperatorCreated
	if err := decode(raw, &made); err != nil {
		return nil, err
	}
	return raw, a.writeOperator(cl, in.Name, out, keyFile, made)
}

// makeKey makes a key that only its owner can read, and a request for it. A
// key without a certificate is of an attempt that got no answer, and is taken
// again: the server may have seen it.
func makeKey(ctx context.Context, dir, name string) (csr string, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	ring, uri := keys.Ring{Dir: dir}, "file:"+name+".key"
	key, err := ring.Create(ctx, uri, keys.P256)
	if _, done := os.Stat(filepath.Join(dir, name+".crt")); errors.Is(err, fs.ErrExist) && errors.Is(done, fs.ErrNotExist) {
		key, err = ring.Open(ctx, uri)
	}
	if err != nil {
		return "", err
	}
	return requestFor(key, name)
}

// requestFor is a PKCS#10 request of an operator in PEM.
func requestFor(key crypto.Signer, name string) (string, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return "", err
	}
	return string(ca.RequestPEM(der)), nil
}

// writeOperator writes what the operator needs to work with this server.
// What is there already from another operator stays.
func (a *app) writeOperator(cl *client, name, out, keyFile string, made api.OperatorCreated) error {
	if err := os.WriteFile(filepath.Join(out, name+".crt"), []byte(made.Certificate), 0o644); err != nil {
		return err
	}
	if err := writeNew(filepath.Join(out, "root.crt"), lastCertificate(made.Chain)); err != nil {
		return err
	}
	p := server.Profile{Server: cl.base, Certificate: name + ".crt", CA: "root.crt"}
	if keyFile != "" {
		p.Key = filepath.Base(keyFile)
	}
	return writeNew(filepath.Join(out, server.ProfileFile), []byte(p.Text()))
}

func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// lastCertificate is the root of a PEM chain.
func lastCertificate(chain string) []byte {
	var last []byte
	for rest := []byte(chain); ; {
		block, more := pem.Decode(rest)
		if block == nil {
			return last
		}
		last, rest = pem.EncodeToMemory(block), more
	}
}

func (a *app) operatorList() *cobra.Command {
	return listCommand(a, &cobra.Command{Use: "list", Short: "List operators"}, "/operators", noQuery, table[access.Operator]{
		columns: "NAME\tROLE\tOF\tCREATED\tREVOKED\tCERTIFICATE OF\tUNTIL\tKEY", none: "There are no operators.",
		row: func(o *access.Operator) []any {
			return []any{o.Name, o.Role, o.Site + o.Owner, o.Created, o.Revoked, o.Issuer, o.NotAfter, keyOf(o)}
		},
	})
}

// keyOf is the fingerprint of an operator's key, or whose tokens speak for it.
func keyOf(o *access.Operator) string {
	if o.Trust != nil {
		return "tokens of " + o.Trust.Issuer
	}
	return short(o.Key.String())
}

func (a *app) operatorShow() *cobra.Command {
	c := &cobra.Command{Use: "show NAME", Short: "Show an operator", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/operators")}
	return objectCommand(a, c, getter("/operators/"), showOperator)
}

func (a *app) operatorRevoke() *cobra.Command {
	c := &cobra.Command{Use: "revoke NAME", Short: "Take an operator's rights away for good", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/operators")}
	a.yesFlag(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		var o access.Operator
		if err := cl.api(ctx, http.MethodGet, "/operators/"+segment(args[0]), nil, &o); err != nil {
			return nil, err
		}
		where := ""
		if of := o.Site + o.Owner; of != "" {
			where = " of " + of
		}
		if err := a.confirm(fmt.Sprintf("Operator %s (%s%s) loses all rights at once. That cannot be taken back; a new operator needs another name.", o.Name, o.Role, where)); err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, "/operators/"+segment(args[0])+"/revoke", struct{}{}, &raw)
		return raw, err
	}, showOperator)
}

func (a *app) operatorWhoami() *cobra.Command {
	c := &cobra.Command{Use: "whoami", Short: "Show whom the server takes you for, and what you may do", Args: cobra.NoArgs}
	return objectCommand(a, c, func(ctx context.Context, cl *client, _ []string) (raw []byte, err error) {
		err = cl.api(ctx, http.MethodGet, "/whoami", nil, &raw)
		return raw, err
	}, func(w io.Writer, me *api.Whoami) {
		showOperator(w, &me.Operator)
		field(w, "may", join(me.Permissions))
	})
}

func showOperator(w io.Writer, o *access.Operator) {
	field(w, "operator", o.Name)
	field(w, "role", o.Role)
	field(w, "site", o.Site)
	field(w, "owner", o.Owner)
	if !o.Key.IsZero() {
		field(w, "key", o.Key)
	}
	showWorkload(w, o.Trust)
	field(w, "created", o.Created)
	field(w, "certificate of", o.Issuer)
	field(w, "until", o.NotAfter)
	field(w, "revoked", o.Revoked)
}
