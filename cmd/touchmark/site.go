package main

import (
	"context"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) siteCommand() *cobra.Command {
	return group("site", "Factories and programming centres", "A site is a factory or programming centre. Its operators and rigs see only its own orders, records and devices.",
		a.siteCreate(), a.siteUpdate(), a.siteList(), a.siteShow())
}

func (a *app) siteCreate() *cobra.Command {
	var in api.SiteInput
	c := &cobra.Command{Use: "create NAME", Short: "Create a site", Args: cobra.ExactArgs(1),
		Example: "  touchmark site create penang --description 'Contract manufacturer, hall 3'"}
	c.Flags().StringVar(&in.Description, "description", "", "a few words for people")
	c.Flags().StringSliceVar(&in.Networks, "network", nil, networkHelp)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		in.Name = args[0]
		err = cl.api(ctx, http.MethodPost, "/sites", in, &raw)
		return raw, err
	}, showSite)
}

const networkHelp = "a network of the site, as a `prefix` such as 203.0.113.0/24; may be repeated"

func (a *app) siteUpdate() *cobra.Command {
	var description string
	var networks []string
	c := &cobra.Command{Use: "update NAME", Short: "Change a site; what no flag names stays", Args: cobra.ExactArgs(1),
		Example: "  touchmark site update penang --network 203.0.113.0/24 --network 2001:db8:7::/48", ValidArgsFunction: a.completeFirst("/sites")}
	c.Flags().StringVar(&description, "description", "", "a few words for people")
	c.Flags().StringSliceVar(&networks, "network", nil, networkHelp)
	c.MarkFlagsOneRequired("description", "network")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		var in api.SiteUpdate // read as what is written, so nothing of it gets lost
		if err := cl.api(ctx, http.MethodGet, "/sites/"+segment(args[0]), nil, &in); err != nil {
			return nil, err
		}
		if c.Flags().Changed("description") {
			in.Description = description
		}
		if c.Flags().Changed("network") {
			in.Networks = networks
		}
		err = cl.api(ctx, http.MethodPut, "/sites/"+segment(args[0]), in, &raw)
		return raw, err
	}, showSite)
}

func (a *app) siteList() *cobra.Command {
	return listCommand(a, &cobra.Command{Use: "list", Short: "List sites"}, "/sites", noQuery, table[vetting.Site]{
		columns: "NAME\tCREATED\tDESCRIPTION", none: "There are no sites yet; create one with `touchmark site create`.",
		row: func(s *vetting.Site) []any { return []any{s.Name, s.Created, s.Description} },
	})
}

func (a *app) siteShow() *cobra.Command {
	c := &cobra.Command{Use: "show NAME", Short: "Show a site", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/sites")}
	return objectCommand(a, c, getter("/sites/"), showSite)
}

func showSite(w io.Writer, s *vetting.Site) {
	field(w, "site", s.Name)
	field(w, "description", s.Description)
	field(w, "networks", join(s.Networks))
	field(w, "created", s.Created)
}
