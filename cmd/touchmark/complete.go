package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"
)

// completionTime is what a shell's completion may wait for the server.
const completionTime = time.Second

// complete gives the names of one kind of object, for the shell.
func (a *app) complete(path string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.names(path), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFirst completes the first argument only.
func (a *app) completeFirst(path string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return a.names(path), cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) names(path string) []string {
	c, err := a.client()
	if err != nil {
		return nil
	}
	c.pause = func(context.Context, time.Duration) error { return context.DeadlineExceeded }
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	p, err := c.list(ctx, path, nil, 200)
	if err != nil {
		return nil
	}
	var names []string
	for _, raw := range p.Items {
		var named struct{ Name string }
		if json.Unmarshal(raw, &named) == nil {
			names = append(names, named.Name)
		}
	}
	return names
}

// completeFlags completes flags that name an object.
func (a *app) completeFlags(c *cobra.Command) {
	for flag, path := range map[string]string{"product": "/products", "site": "/sites", "order": "/orders", "owner": "/owners"} {
		if c.Flags().Lookup(flag) != nil {
			_ = c.RegisterFlagCompletionFunc(flag, a.complete(path))
		}
	}
}
