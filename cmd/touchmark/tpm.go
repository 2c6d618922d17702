package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) tpmCommand() *cobra.Command {
	return group("tpm", "Makers of TPMs whose endorsement keys prove a product's devices",
		`Where a product accepts the proof tpm, a device enrols by its TPM, with a key that the TPM made. With no maker, an endorsement
key (EK) counts that the device's record lists (ekHash). With makers, each EK must come with a certificate of one of them, and a
record may leave the hash out: then the first TPM that comes from the site with the device's serial number is bound to it.`,
		a.tpmSet(), a.tpmRemove(), a.tpmList())
}

func (a *app) tpmSet() *cobra.Command {
	var v vendorFlags
	c := &cobra.Command{
		Use: "set PRODUCT MAKER", Short: "Have a product trust a maker of TPMs, or replace the one of that name", Args: cobra.ExactArgs(2),
		Long: `set has a product trust the EK certificates below a maker's CAs.
The product must accept the proof, too: touchmark product update PRODUCT --proof tpm.`,
		Example:           `  touchmark tpm set gateway infineon --anchors infineon-ek-roots.pem`,
		ValidArgsFunction: a.completeFirst("/products"),
	}
	v.addFiles(c, "maker")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		made, err := v.vendor(args[1])
		if err != nil {
			return nil, err
		}
		return changeProduct(ctx, cl, args[0], func(in *api.ProductUpdate) error {
			in.TPM.Makers = put(in.TPM.Makers, made, vendorName)
			return nil
		})
	}, showMakers)
}

func (a *app) tpmRemove() *cobra.Command {
	c := &cobra.Command{Use: "remove PRODUCT MAKER", Short: "Have a product no longer trust a maker of TPMs", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeFirst("/products")}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		return changeProduct(ctx, cl, args[0], func(in *api.ProductUpdate) (err error) {
			in.TPM.Makers, err = remove(in.TPM.Makers, "maker", args[1], vendorName)
			return err
		})
	}, showMakers)
}

func (a *app) tpmList() *cobra.Command {
	c := &cobra.Command{Use: "list PRODUCT", Short: "Show the makers of TPMs that a product trusts", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/products")}
	return objectCommand(a, c, getter("/products/"), showMakers)
}

func showMakers(w io.Writer, p *vetting.Product) {
	if len(p.TPM.Makers) == 0 {
		fmt.Fprintf(w, "Product %s trusts no makers of TPMs: an endorsement key counts that the record lists.\n", p.Name)
	}
	if !p.Accepts(vetting.ProofTPM) {
		fmt.Fprintf(w, "Product %s does not accept the proof %s: add it with touchmark product update --proof.\n", p.Name, vetting.ProofTPM)
	}
	for _, m := range p.TPM.Makers {
		field(w, "maker", m.Name)
		showTrust(w, m)
	}
}
