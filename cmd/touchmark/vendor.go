package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid"
)

func (a *app) vendorCommand() *cobra.Command {
	return group("vendor", "Makers of chips whose certificates prove a product's devices",
		`A vendor is a maker of chips or modules that come with a certificate: an IDevID, or a secure element's. Where a product accepts
the proof vendor-certificate, a device that presents such a certificate enrols as the device whose record lists the
certificate's key, or whose record lists no key and bears the name that the certificate states.`,
		a.vendorSet(), a.vendorRemove(), a.vendorList())
}

// vendorFlags are what can be said about a vendor.
type vendorFlags struct {
	anchors, crls    string
	serial, mac, uid vetting.NameRule
}

// addFiles adds what is said of a vendor, or of whoever else it is, in files.
func (v *vendorFlags) addFiles(c *cobra.Command, whose string) {
	c.Flags().StringVar(&v.anchors, "anchors", "", "the "+whose+"'s root or issuing CAs, a PEM `file`")
	c.Flags().StringVar(&v.crls, "crls", "", "revocation lists of the "+whose+"'s CAs, a PEM `file`")
	_ = c.MarkFlagRequired("anchors")
}

func (v *vendorFlags) add(c *cobra.Command) {
	v.addFiles(c, "vendor")
	for _, r := range v.rules() {
		c.Flags().StringVar(&r.rule.From, r.flag, "", "where the certificate has the "+r.what+", such as subject.commonName")
		c.Flags().StringVar(&r.rule.Pattern, r.flag+"-pattern", "", "a regular expression that matches all of it; its one ( ) is the "+r.what)
	}
}

// ruleFlag is a name rule with the flag that gives it.
type ruleFlag struct {
	flag, what string
	rule       *vetting.NameRule
}

func (v *vendorFlags) rules() []ruleFlag {
	return []ruleFlag{{"serial", "serial number", &v.serial}, {"mac", "MAC address", &v.mac}, {"uid", "chip's UID", &v.uid}}
}

func (v *vendorFlags) vendor(name string) (made vetting.Vendor, err error) {
	made.Name = name
	for _, f := range []struct {
		file string
		into *string
	}{{v.anchors, &made.Anchors}, {v.crls, &made.CRLs}} {
		if f.file == "" {
			continue
		}
		text, err := os.ReadFile(f.file)
		if err != nil {
			return made, err
		}
		*f.into = string(text)
	}
	for i, into := range []**vetting.NameRule{&made.Serial, &made.MAC, &made.UID} {
		r := v.rules()[i]
		if *into, err = given(r.flag, *r.rule); err != nil {
			return made, err
		}
	}
	_, err = vendorid.Compile(made)
	return made, err
}

func (a *app) vendorSet() *cobra.Command {
	var v vendorFlags
	c := &cobra.Command{
		Use: "set PRODUCT NAME", Short: "Have a product trust a vendor, or replace the one of that name", Args: cobra.ExactArgs(2),
		Long: `set has a product trust the certificates below a vendor's CAs. An identifier may stand in
  ` + vendorid.Places + `.
The product must accept the proof, too: touchmark product update PRODUCT --proof vendor-certificate.`,
		Example: `  touchmark vendor set gateway microchip --anchors microchip-root.pem --uid subject.commonName --uid-pattern 'sn([0-9A-F]{18})'
  touchmark vendor set gateway example --anchors example-idevid.pem --serial san.hardwareModuleName`,
		ValidArgsFunction: a.completeFirst("/products"),
	}
	v.add(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		made, err := v.vendor(args[1])
		if err != nil {
			return nil, err
		}
		return changeProduct(ctx, cl, args[0], func(in *api.ProductUpdate) error {
			in.Vendors = put(in.Vendors, made, vendorName)
			return nil
		})
	}, showVendors)
}

func (a *app) vendorRemove() *cobra.Command {
	c := &cobra.Command{Use: "remove PRODUCT NAME", Short: "Have a product no longer trust a vendor", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeFirst("/products")}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		return changeProduct(ctx, cl, args[0], func(in *api.ProductUpdate) (err error) {
			in.Vendors, err = remove(in.Vendors, "vendor", args[1], vendorName)
			return err
		})
	}, showVendors)
}

func vendorName(v vetting.Vendor) string { return v.Name }

func (a *app) vendorList() *cobra.Command {
	c := &cobra.Command{Use: "list PRODUCT", Short: "Show the vendors that a product trusts", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/products")}
	return objectCommand(a, c, getter("/products/"), showVendors)
}

func showVendors(w io.Writer, p *vetting.Product) {
	if len(p.Vendors) == 0 {
		fmt.Fprintf(w, "Product %s trusts no vendors.\n", p.Name)
	}
	if len(p.Vendors) > 0 && !p.Accepts(vetting.ProofVendor) {
		fmt.Fprintf(w, "Product %s does not accept the proof %s: add it with touchmark product update --proof.\n", p.Name, vetting.ProofVendor)
	}
	for _, v := range p.Vendors {
		field(w, "vendor", v.Name)
		showTrust(w, v)
		showRule(w, "serial", v.Serial)
		showRule(w, "mac", v.MAC)
		showRule(w, "uid", v.UID)
	}
}

func showRule(w io.Writer, of string, r *vetting.NameRule) {
	if r != nil {
		field(w, of, strings.TrimSpace(r.From+" "+r.Pattern))
	}
}

func showTrust(w io.Writer, v vetting.Vendor) {
	t, err := vendorid.Compile(v)
	if err != nil {
		field(w, "problem", err)
		return
	}
	for _, c := range t.Anchors() {
		field(w, "anchor", fmt.Sprintf("%s, until %s, SHA-256 %x", c.Subject, text(c.NotAfter), sha256.Sum256(c.Raw)))
	}
	for _, l := range t.CRLs() {
		field(w, "CRL", fmt.Sprintf("of %s, made %s, %s", l.Issuer, text(l.ThisUpdate), counted(int64(len(l.RevokedCertificateEntries)), "entry", "entries")))
	}
}
