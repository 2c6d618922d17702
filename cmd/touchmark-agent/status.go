package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/touchmark/touchmark/device/agent"
)

func statusCommand(file *string) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Says what the agent is at",
		Long: `Says what the agent is at, from the state file in its directory; it asks
nobody. The exit status is 0 only if the machine has a certificate that counts.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := agent.Load(*file)
			if err != nil {
				return err
			}
			s, err := agent.ReadStatus(config.Dir)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				err = e.Encode(s)
			} else {
				show(c.OutOrStdout(), s)
			}
			if err == nil && !s.Good(time.Now()) {
				err = fmt.Errorf("this machine has no certificate that counts: it is %s", s.State)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

func show(out io.Writer, s *agent.Status) {
	row := func(name, format string, values ...any) {
		fmt.Fprintf(out, "%-12s "+format+"\n", append([]any{name}, values...)...)
	}
	row("state", "%s, since %s", s.State, moment(&s.Since))
	if s.Running == 0 {
		row("agent", "does not run")
	} else {
		row("agent", "process %d", s.Running)
	}
	row("device", "%s at %s, keys in %s", s.Serial, s.Server, s.Keys)
	if c := s.Certificate; c != nil {
		row("certificate", "%s until %s", c.Number, moment(&c.NotAfter))
		row("key", "%s", c.Key)
	}
	if s.Renew != nil {
		row("renewal", "%s", moment(s.Renew))
	}
	if s.Problem != "" {
		row("problem", "%s: %s", s.Step, s.Problem)
	}
	if s.Retry != nil {
		row("next try", "%s, after %d failures", moment(s.Retry), s.Failures)
	}
}

func moment(t *time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }
