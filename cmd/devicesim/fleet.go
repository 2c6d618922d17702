package main

import (
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/touchmark/touchmark/devicesim"
	"golang.org/x/term"
)

// arrivals are the patterns of --arrival.
var arrivals = map[string]func(rate float64) devicesim.Arrival{
	"at-once": func(float64) devicesim.Arrival { return devicesim.AtOnce },
	"steady":  devicesim.Steady,
	"waves": func(rate float64) devicesim.Arrival {
		return devicesim.Waves(max(1, int(rate)), time.Second)
	},
	"poisson": func(rate float64) devicesim.Arrival { return devicesim.Poisson(rate, uint64(time.Now().UnixNano())) },
}

func arrivalOf(name string, rate float64) (devicesim.Arrival, error) {
	pattern, ok := arrivals[name]
	switch {
	case !ok:
		return nil, fmt.Errorf("unknown --arrival %q; known are at-once, steady, waves and poisson", name)
	case !(rate > 0):
		return nil, fmt.Errorf("--rate %v: want more than 0 units a second", rate)
	}
	return pattern(rate), nil
}

func fleetCommand() *cobra.Command {
	var servers []string
	var label, rootFile, arrival, labels, mqtt string
	var rate float64
	var asJSON bool
	f := devicesim.Fleet{Retry: 500 * time.Millisecond}
	c := &cobra.Command{
		Use:   "fleet --root FILE DIR [SERIAL...]",
		Short: "Powers on the units that `factory` built, and reports how each ended",
		Long: `Powers on the units in DIR, or those that are named, and waits until the
server has decided on each. Keys and certificates stay in the units'
directories, DIR/SERIAL/official.pem: a unit that has its certificate only
uses it once more. While the server is away, the units try again.

The exit status is 0 if the server decided on every unit, however it did.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if f.Arrival, err = arrivalOf(arrival, rate); err != nil {
				return err
			}
			root, err := devicesim.LoadCertificate(rootFile)
			if err != nil {
				return err
			}
			for _, s := range servers {
				f.Servers = append(f.Servers, devicesim.Server{EST: s, MQTT: mqtt, Label: label, Root: root})
			}
			f.OverMQTT = mqtt != ""
			if f.Units, err = readUnits(args[0], args[1:]); err != nil {
				return err
			}
			if err := stickLabels(f.Units, labels); err != nil {
				return err
			}
			if term.IsTerminal(int(os.Stderr.Fd())) {
				f.Progress = progress(c.ErrOrStderr())
			}
			return reportFleet(c.OutOrStdout(), f.Run(c.Context()), args[0], asJSON)
		},
	}
	c.Flags().StringSliceVar(&servers, "est", []string{"https://localhost:8443"}, "the server's EST address; several share the units")
	c.Flags().StringVar(&mqtt, "mqtt", "", "enrol, renew and activate over MQTT at this `address`, HOST:PORT, instead of EST")
	c.Flags().StringVar(&label, "label", "", "the product's name, to go into the EST path")
	c.Flags().StringVar(&labels, "codes", "", "enrol by the codes of these labels: the CSV `file` that touchmark code create writes")
	c.Flags().StringVar(&rootFile, "root", "", "the server's root certificate")
	c.Flags().StringVar(&arrival, "arrival", "at-once", "at-once, steady, waves or poisson")
	c.Flags().Float64Var(&rate, "rate", 50, "units a second (size of a wave, one a second)")
	c.Flags().IntVar(&f.Workers, "workers", 32, "units that act at the same time")
	c.Flags().Float64Var(&f.LostReplies, "lost-replies", 0, "share of requests whose answer is lost, 0 to 1")
	c.Flags().Float64Var(&f.PowerCuts, "power-cuts", 0, "share of boots that a power cut ends, 0 to 1")
	c.Flags().BoolVar(&f.Activate, "activate", true, "use the certificate once, which activates it")
	c.Flags().BoolVar(&asJSON, "json", false, "report as JSON")
	_ = c.MarkFlagRequired("root") // it exists
	return c
}

// stickLabels gives the units the codes of a file; "" is none.
func stickLabels(units []*devicesim.Unit, file string) error {
	if file == "" {
		return nil
	}
	table, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("--codes: %w", err)
	}
	defer table.Close()
	return devicesim.StickLabels(units, table)
}

// progress redraws one line.
func progress(w io.Writer) func(done, total int, r devicesim.Result) {
	var mu sync.Mutex
	counts := map[string]int{}
	return func(done, total int, r devicesim.Result) {
		mu.Lock()
		defer mu.Unlock()
		counts[r.Verdict]++
		fmt.Fprintf(w, "\r%d of %d units: admitted %d, held %d, refused %d, failed %d", done, total,
			counts["admitted"], counts["held"], counts["refused"], counts["failed"])
		if done == total {
			fmt.Fprintln(w)
		}
	}
}

// unitReport is how one unit ended.
type unitReport struct {
	Serial   string `json:"serial"`
	Verdict  string `json:"verdict"`
	Text     string `json:"text,omitempty"`
	Attempts int    `json:"attempts"`
	// Certificates are the serial numbers of all that were answered to it.
	Certificates []string `json:"certificates"`
}

// reportFleet tells how the units ended and writes their certificates for
// openssl and the like.
func reportFleet(w io.Writer, results []devicesim.Result, dir string, asJSON bool) error {
	units := make([]unitReport, len(results))
	for i, r := range results {
		units[i] = unitReport{r.Unit.Serial, r.Verdict, r.Text, r.Attempts, []string{}}
		for _, cert := range r.Certificates {
			units[i].Certificates = append(units[i].Certificates, hex.EncodeToString(cert.SerialNumber.Bytes()))
			text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
			if err := os.WriteFile(filepath.Join(dir, r.Unit.Serial, "official.crt"), text, 0o644); err != nil {
				return err
			}
		}
	}
	sum := devicesim.Summarize(results)
	var err error
	if asJSON {
		err = json.NewEncoder(w).Encode(struct {
			*devicesim.Report
			Each []unitReport `json:"each"`
		}{sum, units})
	} else {
		_, err = fmt.Fprint(w, sum)
	}
	if n := sum.Verdicts["failed"]; err == nil && n > 0 {
		err = fmt.Errorf("the server did not decide on %d of %d units", n, len(results))
	}
	return err
}
