package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/devicesim"
)

func factoryCommand() *cobra.Command {
	var prefix, out string
	var count int
	c := &cobra.Command{
		Use:   "factory --out DIR",
		Short: "Builds units: bootstrap keys and certificates, and the manifest that lists them",
		Long: `Builds units below DIR: DIR/SERIAL/bootstrap.pem with key and bootstrap
certificate, and DIR/manifest.jsonl. Sign and hand in the manifest with
"touchmark manifest upload".`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f := devicesim.Factory{Prefix: prefix, Block: 2, Now: time.Now}
			units, err := f.Build(0, count)
			if err != nil {
				return err
			}
			for _, u := range units {
				if err := writeUnit(filepath.Join(out, u.Serial), u); err != nil {
					return err
				}
			}
			name := filepath.Join(out, "manifest.jsonl")
			fmt.Printf("%d units built; their manifest is %s\n", count, name)
			return os.WriteFile(name, f.Manifest(units), 0o644)
		},
	}
	c.Flags().StringVar(&out, "out", "", "directory for the units")
	c.Flags().StringVar(&prefix, "prefix", "SN-", "beginning of the serial numbers")
	c.Flags().IntVar(&count, "count", 10, "how many units")
	_ = c.MarkFlagRequired("out") // it exists
	return c
}

func writeUnit(dir string, u *devicesim.Unit) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	c, err := u.Store.Load(device.Bootstrap)
	if err != nil {
		return err
	}
	text, err := c.PEM()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "bootstrap.pem"), text, 0o600)
}

// arrivals are the patterns of --arrival.
var arrivals = map[string]func(rate float64) devicesim.Arrival{
	"at-once": func(float64) devicesim.Arrival { return devicesim.AtOnce },
	"steady":  devicesim.Steady,
	"waves": func(rate float64) devicesim.Arrival {
		return devicesim.Waves(max(1, int(rate)), time.Second)
	},
	"poisson": func(rate float64) devicesim.Arrival { return devicesim.Poisson(rate, uint64(time.Now().UnixNano())) },
}

func fleetCommand() *cobra.Command {
	var server, rootFile, arrival string
	var rate float64
	var asJSON bool
	f := devicesim.Fleet{}
	c := &cobra.Command{
		Use:   "fleet --root FILE DIR",
		Short: "Powers on the units that `factory` built, and reports how each ended",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			pattern, ok := arrivals[arrival]
			if !ok {
				return fmt.Errorf("unknown arrival %q; known are at-once, steady, waves and poisson", arrival)
			}
			root, err := devicesim.LoadCertificate(rootFile)
			if err != nil {
				return err
			}
			if f.Units, err = readUnits(args[0]); err != nil {
				return err
			}
			f.Arrival, f.Servers, f.Retry = pattern(rate), []devicesim.Server{{EST: server, Root: root}}, 500*time.Millisecond
			return reportFleet(f.Run(c.Context()), args[0], asJSON)
		},
	}
	c.Flags().StringVar(&server, "est", "https://localhost:8443", "the server's EST address")
	c.Flags().StringVar(&rootFile, "root", "", "the server's root certificate")
	c.Flags().StringVar(&arrival, "arrival", "at-once", "at-once, steady, waves or poisson")
	c.Flags().Float64Var(&rate, "rate", 50, "units a second (size of a wave, one a second)")
	c.Flags().IntVar(&f.Workers, "workers", 32, "units that act at the same time")
	c.Flags().Float64Var(&f.LostReplies, "lost-replies", 0, "share of attempts whose answer is lost, 0 to 1")
	c.Flags().Float64Var(&f.PowerCuts, "power-cuts", 0, "share of units that lose power before they keep the answer")
	c.Flags().BoolVar(&f.Activate, "activate", true, "use the certificate once, which activates it")
	c.Flags().BoolVar(&asJSON, "json", false, "report as JSON")
	_ = c.MarkFlagRequired("root") // it exists
	return c
}

func readUnits(dir string) ([]*devicesim.Unit, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*", "bootstrap.pem"))
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("%s holds no units: build some with `devicesim factory --out %s`", dir, dir)
	}
	var units []*devicesim.Unit
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		c, err := device.ParseCredential(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		u := &devicesim.Unit{Serial: filepath.Base(filepath.Dir(name)), Store: new(device.MemoryStore)}
		u.Store.Put(device.Bootstrap, *c)
		units = append(units, u)
	}
	return units, nil
}

// reportFleet prints how the units ended and keeps their certificates.
func reportFleet(results []devicesim.Result, dir string, asJSON bool) error {
	type line struct {
		Serial, Verdict, Text string
		Attempts              int
	}
	var lines []line
	counts := map[string]int{}
	latency := new(devicesim.Histogram)
	for _, r := range results {
		counts[r.Verdict]++
		lines = append(lines, line{r.Unit.Serial, r.Verdict, r.Text, r.Attempts})
		if r.Verdict == "admitted" {
			latency.Add(r.Took)
		}
		for _, cert := range r.Certificates {
			text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
			if err := os.WriteFile(filepath.Join(dir, r.Unit.Serial, "official.crt"), text, 0o644); err != nil {
				return err
			}
		}
	}
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(lines)
	}
	for _, l := range lines {
		if l.Verdict != "admitted" {
			fmt.Printf("%s %s: %s\n", l.Serial, l.Verdict, strings.TrimSpace(l.Text))
		}
	}
	fmt.Printf("admitted %d, held %d, refused %d, failed %d\n%s", counts["admitted"], counts["held"], counts["refused"], counts["failed"], latency)
	return nil
}
