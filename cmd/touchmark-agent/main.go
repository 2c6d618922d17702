// Command touchmark-agent keeps the official certificate of a Linux machine.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/touchmark/touchmark/device/agent"
)

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "touchmark-agent:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	file := new(string)
	c := &cobra.Command{
		Use:           "touchmark-agent",
		Short:         "Keeps the official certificate of this machine",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.PersistentFlags().StringVar(file, "config", "/etc/touchmark-agent.yaml", "the configuration file")
	c.AddCommand(bootstrapCommand(file), onceCommand(file), renewCommand(file), runCommand(file), statusCommand(file))
	return c
}

// open locks the directory that the configuration names, and opens the agent.
func open(file string, out *cobra.Command) (*agent.Service, *agent.Lock, error) {
	config, err := agent.Load(file)
	if err != nil {
		return nil, nil, err
	}
	lock, err := agent.TakeLock(config.Dir)
	if err != nil {
		return nil, nil, err
	}
	s, err := agent.Open(config, slog.New(slog.NewTextHandler(out.ErrOrStderr(), nil)))
	if err != nil {
		lock.Release()
		return nil, nil, err
	}
	return s, lock, nil
}
