package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/firmware-sign/catalogue"
	"github.com/touchmark/touchmark/firmware-sign/release"
)

// exportedKey is what a device's build needs of a key.
type exportedKey struct {
	Name   string `json:"name"`
	Format string `json:"format"`
	Data   []byte `json:"data"`
}

func (a *app) firmwareKeyExport() *cobra.Command {
	var name string
	var set []string
	c := &cobra.Command{Use: "export NAME", Short: "Write what a device's build needs of a key", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/firmware-keys"),
		Long: `export writes to standard output what a device must know to check signatures of a format: the public key or the key's certificate (PEM), for fit
the node of U-Boot's device tree, as source, for esp32 the 32 bytes for the eFuses.`,
		Example: "  touchmark firmware key export gateway-2027 --for fit --set key-name=prod > key.dtsi\n  touchmark firmware key export sensor-2027 --for esp32 > digest.bin"}
	c.Flags().StringVar(&name, "for", "", strings.Join(catalogue.Names(), ", ")+" (required)")
	c.Flags().StringArrayVar(&set, "set", nil, "a parameter of the format, as NAME=VALUE; may be repeated")
	_ = c.MarkFlagRequired("for")
	oneOf(c, "for", catalogue.Names()...)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		format, err := catalogue.ByName(name)
		if err != nil {
			return nil, &usageError{err}
		}
		given, err := parameters(set)
		if err != nil {
			return nil, err
		}
		k := new(release.Key)
		if err := cl.api(ctx, http.MethodGet, "/firmware-keys/"+segment(args[0]), nil, k); err != nil {
			return nil, err
		}
		signer, err := firmwareSigner(k)
		if err != nil {
			return nil, err
		}
		data, err := format.Export(given, signer)
		if err != nil {
			return nil, err
		}
		return json.Marshal(exportedKey{args[0], name, data})
	}, func(_ io.Writer, k *exportedKey) { _, _ = a.out.Write(k.Data) }) // it may be binary, and no table
}
