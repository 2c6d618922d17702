package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) certificateCommand() *cobra.Command {
	return group("certificate", "Official certificates of devices", "", a.certificateShow(), a.certificateRevoke())
}

func (a *app) certificateShow() *cobra.Command {
	asPEM := false
	c := &cobra.Command{
		Use: "show SERIAL|FILE", Short: "Show a certificate and its standing", Args: cobra.ExactArgs(1),
		Long:    "show finds a certificate by its serial number in hexadecimal, with or without colons, or by the certificate itself, a PEM file.",
		Example: "  touchmark certificate show 5a:41:…\n  touchmark certificate show device.crt\n  touchmark certificate show 5a41… --pem | openssl x509 -text",
	}
	c.Flags().BoolVar(&asPEM, "pem", false, "print the certificate as PEM")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		serial, _, err := certificateSerial(args[0])
		if err != nil {
			return nil, err
		}
		return getter("/certificates/")(ctx, cl, []string{serial})
	}, func(w io.Writer, cert *api.IssuedCertificate) {
		if asPEM {
			fmt.Fprint(w, cert.PEM)
			return
		}
		showCertificate(w, cert)
	})
}

func showCertificate(w io.Writer, cert *api.IssuedCertificate) {
	field(w, "certificate", cert.Serial)
	field(w, "device", cert.DeviceID)
	field(w, "state", cert.State)
	field(w, "issued", cert.Issued)
	field(w, "until", cert.NotAfter)
	field(w, "first used", cert.Used)
	if !cert.Revoked.IsZero() {
		fmt.Fprintf(w, "revoked\t%s (%s)\n", text(cert.Revoked), vetting.ReasonName(cert.Reason))
	}
	field(w, "key", cert.Key)
	field(w, "log leaf", cert.Leaf)
}

func (a *app) certificateRevoke() *cobra.Command {
	var in api.RevocationInput
	c := &cobra.Command{
		Use: "revoke SERIAL|FILE", Short: "Revoke one certificate", Args: cobra.ExactArgs(1),
		Long: `revoke ends one certificate for good. If it is its device's current one, the device has no way to another until an
administrator readmits it. To end all that a device has, use device revoke.`,
		Example: "  touchmark certificate revoke 5a:41:… --reason keyCompromise --note 'ticket 815'",
	}
	revocationFlags(c, &in)
	a.yesFlag(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		serial, _, err := certificateSerial(args[0])
		if err != nil {
			return nil, err
		}
		if err := a.confirm("The certificate " + serial + " is revoked (" + string(in.Reason) + "). That cannot be taken back."); err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, "/certificates/"+segment(serial)+"/revoke", in, &raw)
		return raw, err
	}, showCertificate)
}

// revocationFlags are those of commands that revoke.
func revocationFlags(c *cobra.Command, in *api.RevocationInput) {
	c.Flags().StringVar((*string)(&in.Reason), "reason", string(vetting.RevokedUnspecified), "why, for who checks the certificate: "+join(vetting.RevocationReasons))
	oneOf(c, "reason", vetting.RevocationReasons...)
	c.Flags().StringVar(&in.Note, "note", "", "why, for the audit log (required)")
	_ = c.MarkFlagRequired("note")
}

// certificateSerial takes a serial number or a certificate file; der is nil
// for a number.
func certificateSerial(arg string) (serial string, der []byte, err error) {
	text, err := os.ReadFile(arg)
	if errors.Is(err, fs.ErrNotExist) {
		return arg, nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	cert, err := parsePEM(text)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", arg, err)
	}
	return enroll.SerialHex(cert), cert.Raw, nil
}

func parsePEM(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("it holds no certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// getJSON is used where an answer is worked on.
func (c *client) getJSON(ctx context.Context, path string, out any) error {
	return c.api(ctx, http.MethodGet, path, nil, out)
}
