package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/durable"
	"github.com/touchmark/touchmark/internal/idtoken"
	"github.com/touchmark/touchmark/server"
	"github.com/touchmark/touchmark/server/api"
)

func (a *app) operatorTrust() *cobra.Command {
	var in api.WorkloadInput
	var claims []string
	role := ""
	c := &cobra.Command{
		Use: "trust NAME", Short: "Add an operator that is a workload: builds of a CI system", Args: cobra.ExactArgs(1),
		Long: `trust adds an operator without a key. A build shows an ID token (OpenID Connect) that its CI system made for it, by operator login, and gets a
certificate for an hour; so no key lies in the CI's store of secrets. The token must be of the issuer, for the audience, and have each claim. In a
claim's value * stands for any characters but a slash. Where an issuer is everybody's (GitHub, gitlab.com), a claim must say whose build it is.

What is trusted never changes: revoke the operator, and add another one. It approves nothing, whatever its role.`,
		Example: `  touchmark operator trust thermostat-ci --role release-engineer --issuer https://token.actions.githubusercontent.com --audience touchmark.acme.example --claim repository=acme/thermostat --claim 'ref=refs/tags/v*'
  touchmark operator trust gateway-ci --role release-engineer --issuer https://gitlab.acme.example --audience touchmark.acme.example --claim project_path=firmware/gateway --claim ref_protected=true`,
	}
	f := c.Flags()
	f.StringVar(&role, "role", "", "release-engineer, reporter, support or auditor (required)")
	f.StringVar(&in.Trust.Issuer, "issuer", "", "the CI system, as its tokens say in iss: an https URL (required)")
	f.StringVar(&in.Trust.Audience, "audience", "", "what tokens must say in aud: a name for this installation alone (required)")
	f.StringArrayVar(&claims, "claim", nil, "what tokens must say besides, as NAME=VALUE; may be repeated (required)")
	for _, name := range []string{"role", "issuer", "audience", "claim"} {
		_ = c.MarkFlagRequired(name)
	}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		in.Name, in.Role, in.Trust.Claims = args[0], access.Role(role), map[string]string{}
		for _, text := range claims {
			name, value, ok := strings.Cut(text, "=")
			if _, twice := in.Trust.Claims[name]; !ok || twice {
				return nil, usagef("--claim %s: write each claim once, as NAME=VALUE", text)
			}
			in.Trust.Claims[name] = value
		}
		if err := errors.Join((&access.Operator{Name: in.Name, Role: in.Role, Trust: &in.Trust}).Check(), in.Trust.Check()); err != nil {
			return nil, &usageError{err}
		}
		err = cl.api(ctx, http.MethodPost, "/workloads", in, &raw)
		return raw, err
	}, showOperator)
}

func showWorkload(w io.Writer, t *access.Trust) {
	if t == nil {
		return
	}
	field(w, "tokens of", t.Issuer)
	field(w, "for", t.Audience)
	for _, name := range slices.Sorted(maps.Keys(t.Claims)) {
		field(w, "with", name+"="+t.Claims[name])
	}
}

func (a *app) operatorLogin() *cobra.Command {
	var out, tokenFile string
	c := &cobra.Command{
		Use: "login NAME", Short: "Get a certificate for an hour by an ID token of the CI system", Args: cobra.ExactArgs(1),
		Long: `login makes a new key on this machine, shows the server the token that the CI system made for this build, and writes NAME.key, NAME.crt,
root.crt and cli.yaml into a directory that serves as --dir for the hour that the certificate lasts. A token counts once; log in again with another one.
Of the server only its address (--server) and its root certificate (--ca) have to be known.`,
		Example: "  touchmark --server https://touchmark.acme.example:8444 --ca root.crt operator login thermostat-ci --token-file token --out ci\n" +
			"  touchmark --dir ci firmware sign app.bin --format mcuboot --stage production --release thermostat@1.4.0",
	}
	f := c.Flags()
	f.StringVar(&tokenFile, "token-file", "", "the `file` with the token; - is standard input (required)")
	f.StringVar(&out, "out", "", "`directory` for key and certificate (default: NAME)")
	_ = c.MarkFlagRequired("token-file")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		token, err := a.readToken(tokenFile)
		if err != nil {
			return err
		}
		p, err := a.resolve()
		if err != nil {
			return err
		}
		p.Certificate, p.Key = "", "" // there is none yet
		cl, err := newClient(p)
		if err != nil {
			return err
		}
		if out == "" {
			out = args[0]
		}
		raw, err := a.logIn(cmd.Context(), cl, args[0], token, out, p)
		if err != nil {
			return err
		}
		return show(a, raw, func(w io.Writer, o *api.OperatorCreated) {
			showOperator(w, &o.Operator)
			field(w, "directory", out)
		})
	}
	return a.jsonFlag(c)
}

// readToken reads a token, which is never given on the command line: others
// can see that.
func (a *app) readToken(file string) (string, error) {
	in := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("the token (--token-file): %w", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, idtoken.MaxToken+2))
	if err != nil {
		return "", fmt.Errorf("the token (--token-file): %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", usagef("the token (--token-file) is empty: does the CI job have the right to get one?")
	}
	return token, nil
}

// logIn gets the certificate and writes what the build needs to work with the
// server, in the place of what was there from a login before.
func (a *app) logIn(ctx context.Context, cl *client, name, token, out string, p server.Profile) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	in := api.LoginInput{Operator: name, Token: token}
	if in.CSR, err = requestFor(key, name); err != nil {
		return nil, err
	}
	var raw []byte
	if err := cl.api(ctx, http.MethodPost, "/logins", in, &raw); err != nil {
		return nil, err
	}
	var made api.OperatorCreated
	if err := decode(raw, &made); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return nil, err
	}
	root := []byte(nil)
	if p.CA != "" {
		if root, err = os.ReadFile(p.CA); err != nil {
			return nil, err
		}
	} else {
		root = lastCertificate(made.Chain)
	}
	profile := server.Profile{Server: cl.base, Certificate: name + ".crt", Key: name + ".key", CA: "root.crt"}
	for _, f := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{
		{name + ".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600},
		{name + ".crt", []byte(made.Certificate), 0o644},
		{"root.crt", root, 0o644},
		{server.ProfileFile, []byte(profile.Text()), 0o644},
	} {
		if err := durable.Replace(filepath.Join(out, f.name), f.data, f.mode); err != nil {
			return nil, err
		}
	}
	return raw, nil
}
