package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server"
)

func (a *app) serveCommand() *cobra.Command {
	var file string
	var check bool
	var roles []string
	c := &cobra.Command{
		Use: "serve", Short: "Run the server",
		Long: `serve runs the server until it gets SIGTERM or SIGINT, and then stops in order: readiness goes, nothing new is accepted,
requests being worked on are answered, the audit log's last checkpoint is published, the database is closed. A second
signal ends it at once; nothing that was answered is lost by that either.

With --check nothing is started or changed: the configuration, keys, certificates, database and log are tried, and what
would keep the server from starting is printed.`,
		Example: "  touchmark serve --dir /var/lib/touchmark\n  touchmark serve -c /etc/touchmark/touchmark.yaml --check",
		Args:    cobra.NoArgs,
	}
	configFlag(c, &file)
	c.Flags().StringSliceVar(&roles, "roles", nil, "what to serve instead of what the configuration says: "+server.RoleAll+", or "+server.RoleOCSP+" alone")
	c.Flags().BoolVar(&check, "check", false, "try everything, start nothing")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		config, err := a.config(file)
		if err != nil {
			return err
		}
		if len(roles) > 0 {
			config.Roles = roles
			if err := config.Check(); err != nil {
				return usagef("with --roles %s: %v", strings.Join(roles, ","), err)
			}
		}
		if check {
			return a.check(cmd.Context(), config)
		}
		ctx, stop := a.untilSignal(cmd.Context())
		defer stop()
		return server.Run(ctx, config, server.Environment{Log: newLogger(a.err, config.Log)})
	}
	return c
}

// configFlag is -c, for config.
func configFlag(c *cobra.Command, file *string) {
	c.Flags().StringVarP(file, "config", "c", "", "configuration `file` (default: touchmark.yaml in --dir)")
}

// config reads the configuration that -c or --dir names.
func (a *app) config(file string) (*server.Config, error) {
	if file == "" {
		file = filepath.Join(a.dataDir(), server.ConfigFile)
		if _, err := os.Stat(file); err != nil && a.dataDir() == "" {
			return nil, usagef("which server? Give --dir DIR (made by `touchmark init`) or -c FILE")
		}
	}
	return server.LoadConfig(file)
}

// untilSignal gives a context that ends with the first signal; the second
// ends the process.
func (a *app) untilSignal(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		if _, ok := <-signals; !ok {
			return
		}
		cancel()
		if s, ok := <-signals; ok {
			fmt.Fprintf(a.err, "touchmark: second %v: ending at once\n", s)
			os.Exit(exitFailed)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel()
	}
}

func newLogger(w io.Writer, c server.Log) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "text" {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

func (a *app) check(ctx context.Context, c *server.Config) error {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	bad := false
	for _, f := range server.Check(ctx, c, server.Environment{}) {
		state, note := "ok", f.Note
		if f.Err != nil {
			state, note, bad = "BAD", f.Err.Error(), true
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", state, f.Part, note)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if bad {
		return errFound
	}
	return nil
}
