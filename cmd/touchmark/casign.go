package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/ca"
)

// rootFlags say where a root's key and certificate are.
type rootFlags struct{ key, certificate string }

func (r *rootFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&r.key, "root-key", "", "the root's key, a `file` or URI (required)")
	c.Flags().StringVar(&r.certificate, "root-cert", "", "a `file` with the root's certificate, or with a root roll-over (required)")
	_ = c.MarkFlagRequired("root-key")
	_ = c.MarkFlagRequired("root-cert")
}

func (r *rootFlags) open(ctx context.Context) (*ca.Root, error) {
	among, err := caCertificates(r.certificate)
	if err != nil {
		return nil, err
	}
	return ca.OpenRoot(ctx, ".", keyURI(r.key), among)
}

func caCertificates(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list, err := ca.ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

func (a *app) caSign() *cobra.Command {
	var r rootFlags
	out := ""
	c := &cobra.Command{Use: "sign FILE", Short: "Sign requests for CA certificates with the root's key", Args: cobra.ExactArgs(1),
		Long: `sign shows what is asked for and, if you say yes, signs it: certificates of CAs that issue to ends only (pathlen:0), for 20 years, or as
long as the root lasts. Compare the keys' fingerprints with those that touchmark ca request printed on the server's machine.
It needs no server, no configuration and no network. In a root roll-over, name the new key, and the roll-over's file as --root-cert.`,
		Example: "  touchmark ca sign requests.pem --root-key root.key --root-cert root.crt -o certificates.pem"}
	r.add(c)
	outFlag(c, &out)
	a.yesFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		text, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		requests, err := ca.ParseRequests(text)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		root, err := r.open(cmd.Context())
		if err != nil {
			return err
		}
		signed, err := signAll(root, requests, time.Now())
		if err != nil {
			return err
		}
		if err := a.confirm(ceremonyText(root, signed)); err != nil {
			return err
		}
		return a.writeNew(out, allPEM(signed))
	}
	return c
}

func signAll(root *ca.Root, requests []*x509.CertificateRequest, now time.Time) (signed []*x509.Certificate, err error) {
	subjects := map[string]bool{}
	for _, csr := range requests {
		if subjects[string(csr.RawSubject)] {
			return nil, fmt.Errorf("there are two requests for %q", csr.Subject)
		}
		subjects[string(csr.RawSubject)] = true
		cert, err := root.Sign(csr, now)
		if err != nil {
			return nil, err
		}
		signed = append(signed, cert)
	}
	return signed, nil
}

func allPEM(list []*x509.Certificate) (text []byte) {
	for _, c := range list {
		text = append(text, ca.PEM(c.Raw)...)
	}
	return text
}

// ceremonyText is what people compare before they let the root sign.
func ceremonyText(root *ca.Root, signed []*x509.Certificate) string {
	var b strings.Builder
	fmt.Fprintf(&b, "The root CA\n%s\nsigns:\n", described(root.Certificate))
	for _, c := range signed {
		fmt.Fprintf(&b, "\n%s\n", described(c))
	}
	return b.String()
}

func described(c *x509.Certificate) string {
	return fmt.Sprintf("  subject         %s\n  key (SHA-256)   %s\n  key identifier  %x\n  valid           %s to %s",
		c.Subject, fingerprint(c.RawSubjectPublicKeyInfo), c.SubjectKeyId, c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly))
}

func fingerprint(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
