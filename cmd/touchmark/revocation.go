package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/ocsp/offline"
	"github.com/touchmark/touchmark/ocsp/offline/hook"
)

// What revocation check found, after it printed it.
var (
	errNotGood    = errors.New("the certificate is not good")
	errCannotTell = errors.New("the filter cannot tell")
)

func (a *app) revocationCommand() *cobra.Command {
	return group("revocation", "Which certificates still count, also without a server",
		`An offline status file (a filter) knows of every certificate of an issuing CA whether it is good. These commands work with such files
where no server can be asked.`, a.revocationCheck(), a.revocationFetch(), a.revocationShow(), a.revocationMake(), a.revocationHook())
}

// offlineFlags are those of commands that trust an issuing CA.
type offlineFlags struct {
	base, delta string
	issuers     []string
}

func (f *offlineFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.base, "offline", "", "the filter, a `file` (required)")
	c.Flags().StringVar(&f.delta, "delta", "", "its newest delta, a `file`")
	issuerFlag(c, &f.issuers)
	_ = c.MarkFlagRequired("offline")
}

func issuerFlag(c *cobra.Command, issuers *[]string) {
	c.Flags().StringArrayVar(issuers, "issuer", nil, "certificate of the issuing CA, a PEM `file`, where --ca names the root alone")
}

func (a *app) revocationCheck() *cobra.Command {
	var f offlineFlags
	c := &cobra.Command{
		Use: "check FILE --offline FILTER", Short: "Ask an offline filter whether a certificate is good", Args: cobra.ExactArgs(1),
		Long: `check needs no server. --ca names the certificate that you trust: that of the issuing CA, or the root's; in the latter case the issuing
CA's is taken from the certificate's file, behind the certificate, or from --issuer.

Exit status: 0 the certificate is good; 3 it is revoked or on hold, or has run out; 4 the filter is outdated, or older than the certificate; 1 the
filter or the certificate cannot be used, or the certificate is another CA's; 2 the command line makes no sense.`,
		Example: "  touchmark revocation check device.crt --offline device-ca.filter --ca ca/device-ca.crt\n  touchmark revocation check device.crt --offline device-ca.filter --delta device-ca.delta --ca ca/root.crt --json",
	}
	f.add(c)
	a.jsonFlag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		chain, err := readCertificates(args[0])
		if err != nil {
			return err
		}
		filter, err := a.openFilter(f, chain[1:])
		if err != nil {
			return err
		}
		return a.tellStanding(filter, chain[0])
	}
	return c
}

// openFilter opens a base and its delta; the issuing CA's certificate may be
// among the further ones.
func (a *app) openFilter(f offlineFlags, further []*x509.Certificate) (*offline.Filter, error) {
	issuers, err := a.issuingCAs(f.issuers, further)
	if err != nil {
		return nil, err
	}
	filters, err := hook.Load(hook.Paths{Bases: []string{f.base}, Issuers: issuers})
	if err != nil {
		return nil, whoseFilter(err)
	}
	filter := filters[0]
	if f.delta == "" {
		return filter, nil
	}
	delta, err := os.ReadFile(f.delta)
	if err == nil {
		filter, err = filter.With(delta)
	}
	if err != nil {
		return nil, fmt.Errorf("the delta %s: %w", f.delta, err)
	}
	return filter, nil
}

// whoseFilter says how the issuing CA of a filter is named.
func whoseFilter(err error) error {
	if errors.Is(err, offline.ErrForeign) {
		return fmt.Errorf("%w; name its certificate with --ca, or with --issuer beside the root's", err)
	}
	return err
}

// issuingCAs are the CAs whose files are believed: those of --ca, and those
// to which one of them leads by the others, as in a root roll-over.
func (a *app) issuingCAs(files []string, further []*x509.Certificate) ([]*x509.Certificate, error) {
	from := a.profile.CA
	if from == "" {
		from = a.getenv("TOUCHMARK_CA")
	}
	if from == "" {
		return nil, usagef("whom do you trust? Give the issuing CA's certificate or the root's with --ca FILE")
	}
	trusted, err := readCertificates(from)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		more, err := readCertificates(file)
		if err != nil {
			return nil, err
		}
		further = append(further, more...)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range trusted {
		roots.AddCert(c)
	}
	for _, c := range further {
		between.AddCert(c)
	}
	for _, c := range further {
		if _, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil && c.IsCA {
			trusted = append(trusted, c)
		}
	}
	return trusted, nil
}

// readCertificates reads the certificates of a PEM file, one at least.
func readCertificates(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: it holds no certificate in PEM", path)
	}
	return out, nil
}

// standing is what check prints.
type standing struct {
	Serial   string       `json:"serial"`
	Standing string       `json:"standing"`
	Reason   string       `json:"reason,omitempty"`
	Filter   filterHeader `json:"filter"`
}

func (a *app) tellStanding(filter *offline.Filter, cert *x509.Certificate) error {
	err := filter.Check(cert, time.Now())
	s := standing{Serial: enroll.SerialHex(cert), Standing: "good", Filter: headerOf(filter.Header())}
	var found error
	if err != nil {
		s.Standing, found = standingOf(err)
		s.Reason = err.Error()
	}
	if found == nil && err != nil {
		return err
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := a.print(raw, func(w io.Writer) {
		field(w, "certificate", s.Serial)
		field(w, "standing", s.Standing)
		field(w, "reason", s.Reason)
		field(w, "by the filter of", s.Filter.ThisUpdate)
	}); err != nil {
		return err
	}
	return found
}

// standingOf names what a filter said, and how the command ends; nil if it
// failed.
func standingOf(err error) (string, error) {
	for _, s := range []struct {
		is   error
		name string
		end  error
	}{
		{offline.ErrNotGood, "not-good", errNotGood},
		{offline.ErrExpired, "expired", errNotGood},
		{offline.ErrNotCovered, "not-covered", errCannotTell},
		{offline.ErrOutdated, "outdated", errCannotTell},
	} {
		if errors.Is(err, s.is) {
			return s.name, s.end
		}
	}
	return "", nil
}

// filterHeader is a file's header for people and programs.
type filterHeader struct {
	Kind        string    `json:"kind"`
	Number      uint64    `json:"number"`
	ThisUpdate  time.Time `json:"thisUpdate"`
	NextUpdate  time.Time `json:"nextUpdate"`
	CoversUntil time.Time `json:"coversUntil"`
	Issued      uint64    `json:"issued"`
	NotGood     uint64    `json:"notGood"`
	Issuer      string    `json:"issuerKey"`
	Base        string    `json:"base,omitempty"`
	Signature   string    `json:"signature,omitempty"`
}

func headerOf(h offline.Header) filterHeader {
	out := filterHeader{Kind: h.Kind.String(), Number: h.Number, ThisUpdate: h.ThisUpdate, NextUpdate: h.NextUpdate, CoversUntil: h.CoversUntil,
		Issued: h.Issued, NotGood: h.NotGood, Issuer: fmt.Sprintf("%x", h.Issuer)}
	if h.Kind == offline.Delta {
		out.Base = fmt.Sprintf("%x", h.Base)
	}
	return out
}

func (a *app) revocationShow() *cobra.Command {
	c := &cobra.Command{
		Use: "show FILE", Short: "Show what an offline filter or a delta says of itself", Args: cobra.ExactArgs(1),
		Long:    "show verifies the signature of a filter if --ca names the issuing CA's certificate. A delta can only be verified with its base, see check.",
		Example: "  touchmark revocation show device-ca.filter --ca ca/device-ca.crt",
	}
	a.jsonFlag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		file, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		header, err := offline.ReadHeader(file)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		h := headerOf(*header)
		h.Signature = "not verified"
		if a.profile.CA != "" && header.Kind == offline.Base {
			if _, err := a.openFilter(offlineFlags{base: args[0]}, nil); err != nil {
				return err
			}
			h.Signature = "good"
		}
		raw, err := json.Marshal(h)
		if err != nil {
			return err
		}
		return a.print(raw, func(w io.Writer) {
			showHeader(w, h)
			field(w, "bytes", len(file))
		})
	}
	return c
}

func showHeader(w io.Writer, h filterHeader) {
	field(w, "kind", h.Kind)
	field(w, "number", h.Number)
	field(w, "of", h.ThisUpdate)
	field(w, "until", h.NextUpdate)
	field(w, "covers until", h.CoversUntil)
	field(w, "certificates", h.Issued)
	field(w, "not good", h.NotGood)
	field(w, "key of the CA", h.Issuer)
	field(w, "base", h.Base)
	field(w, "signature", h.Signature)
}
