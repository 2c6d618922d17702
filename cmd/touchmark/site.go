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
		a.siteCreate(), a.siteList(), a.siteShow())
}

func (a *app) siteCreate() *cobra.Command {
	var in api.SiteInput
	c := &cobra.Command{Use: "create NAME", Short: "Create a site", Args: cobra.ExactArgs(1),
		Example: "  touchmark site create penang --description 'Contract manufacturer, hall 3'"}
	c.Flags().StringVar(&in.Description, "description", "", "a few words for people")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		in.Name = args[0]
		err = cl.api(ctx, http.MethodPost, "/sites", in, &raw)
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
	field(w, "created", s.Created)
}
