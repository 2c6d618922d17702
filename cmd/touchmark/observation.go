package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) observationCommand() *cobra.Command {
	return group("observation", "What brokers and gateways saw of devices", "", a.observationReport())
}

func (a *app) observationReport() *cobra.Command {
	source := ""
	c := &cobra.Command{
		Use: "report FILE", Short: "Report which devices came and went", Args: cobra.ExactArgs(1),
		Long: `report hands in what a broker or gateway saw: one JSON object a line, with certificate (a serial number in hexadecimal, or PEM),
event (connect or disconnect), at (RFC 3339), address and, if it is known, place ({"lat": …, "long": …}). FILE may be - for the
standard input. Handing the same in again changes nothing.`,
		Example: "  touchmark observation report seen.jsonl --source broker-1",
	}
	c.Flags().StringVar(&source, "source", "", "which broker or gateway it was (default: your operator's name)")
	a.jsonFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		in := a.in
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			in = f
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		total, err := reportLines(cmd.Context(), cl, source, in)
		if err != nil {
			return err
		}
		raw, err := json.Marshal(total)
		if err != nil {
			return err
		}
		return show(a, raw, func(w io.Writer, n *vetting.Observed) {
			fmt.Fprintf(w, "%d taken, %d known already, %d of unknown certificates; %d signs of misuse\n", n.Taken, n.Repeated, n.Unknown, n.Evidence)
		})
	}
	return c
}

// batchSize is how many observations the API takes at once.
const batchSize = 1000

// reportLines hands lines in, in batches. What was handed in before an error
// may be handed in again with the rest.
func reportLines(ctx context.Context, cl *client, source string, in io.Reader) (total vetting.Observed, err error) {
	var batch []api.ObservationInput
	send := func(upTo int) error {
		var n vetting.Observed
		if err := cl.api(ctx, http.MethodPost, "/observations", api.ObservationsInput{Source: source, Observations: batch}, &n); err != nil {
			return fmt.Errorf("of lines %d to %d: %w", upTo-len(batch)+1, upTo, err)
		}
		total.Taken, total.Repeated, total.Unknown, total.Evidence = total.Taken+n.Taken, total.Repeated+n.Repeated, total.Unknown+n.Unknown, total.Evidence+n.Evidence
		batch = batch[:0]
		return nil
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	number := 0
	for lines.Scan() {
		number++
		var o api.ObservationInput
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(&o); err != nil {
			return total, fmt.Errorf("line %d is no observation: %w", number, err)
		}
		if batch = append(batch, o); len(batch) == batchSize {
			if err := send(number); err != nil {
				return total, err
			}
		}
	}
	if err := lines.Err(); err != nil || len(batch) == 0 {
		return total, err
	}
	return total, send(number)
}
