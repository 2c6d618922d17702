package main

import (
	"context"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) ownerCommand() *cobra.Command {
	return group("owner", "Whom devices belong to",
		"An owner is a company that devices are transferred to. Devices without an owner are the manufacturer's: yours.",
		a.ownerCreate(), a.ownerSetIssuer(), a.ownerList(), a.ownerShow())
}

func (a *app) ownerCreate() *cobra.Command {
	var in api.OwnerInput
	var p vetting.Profile
	template := ""
	c := &cobra.Command{Use: "create NAME", Short: "Create an owner", Args: cobra.ExactArgs(1),
		Long: `create makes an owner, to whom devices can be transferred. With --validity the certificates of its devices follow a profile
of its own, whatever their products; otherwise those of their products. With --issuer they come from that issuing CA
instead of the default. Nothing else of an owner can be changed later.`,
		Example: "  touchmark owner create acme --description 'Acme Buildings AG'\n  touchmark owner create beta --validity 90d\n  touchmark owner create gamma --issuer gamma"}
	f := c.Flags()
	f.StringVar(&in.Description, "description", "", "a few words for people")
	f.StringVar(&in.Issuer, "issuer", "", "`name` of the issuing CA of its devices (default: the one that issues to all others)")
	_ = c.RegisterFlagCompletionFunc("issuer", a.complete("/issuers"))
	f.StringVar(&p.Validity, "validity", "", "lifetime of its devices' certificates (90d, 12h, forever)")
	f.StringVar(&template, "template", "", "certificate template of its devices, a `file`; - for standard input; needs --validity")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		in.Name = args[0]
		if template != "" && p.Validity == "" {
			return nil, usagef("--template needs --validity: a profile says both")
		}
		if template != "" {
			if p.Template, err = a.readText(template); err != nil {
				return nil, err
			}
		}
		if p.Validity != "" {
			in.Profile = &p
		}
		err = cl.api(ctx, http.MethodPost, "/owners", in, &raw)
		return raw, err
	}, showOwner)
}

func (a *app) ownerSetIssuer() *cobra.Command {
	byDefault := false
	c := &cobra.Command{Use: "set-issuer NAME [ISSUER]", Short: "Have an owner's devices get their certificates from another issuing CA", Args: cobra.RangeArgs(1, 2),
		Long: `set-issuer says which issuing CA an owner's devices get their certificates from, from their next enrolment or renewal on; with
--default, the one that issues to all others. To have them renew early: touchmark device renew --owner NAME.`,
		Example: "  touchmark owner set-issuer acme acme-2027\n  touchmark owner set-issuer acme --default", ValidArgsFunction: a.completeFirst("/owners")}
	c.Flags().BoolVar(&byDefault, "default", false, "the one that issues to all others")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		if byDefault != (len(args) == 1) {
			return nil, usagef("name an issuing CA, or say --default, and not both")
		}
		var in api.OwnerIssuer
		if !byDefault {
			in.Issuer = args[1]
		}
		err = cl.api(ctx, http.MethodPut, "/owners/"+segment(args[0])+"/issuer", in, &raw)
		return raw, err
	}, showOwner)
}

func (a *app) ownerList() *cobra.Command {
	return listCommand(a, &cobra.Command{Use: "list", Short: "List owners"}, "/owners", noQuery, table[vetting.Owner]{
		columns: "NAME\tCREATED\tDESCRIPTION", none: "There are no owners: all devices are the manufacturer's.",
		row: func(o *vetting.Owner) []any { return []any{o.Name, o.Created, o.Description} },
	})
}

func (a *app) ownerShow() *cobra.Command {
	c := &cobra.Command{Use: "show NAME", Short: "Show an owner", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/owners")}
	return objectCommand(a, c, getter("/owners/"), showOwner)
}

func showOwner(w io.Writer, o *vetting.Owner) {
	field(w, "owner", o.Name)
	field(w, "description", o.Description)
	field(w, "issuing CA", o.Issuer)
	if o.Profile != nil {
		field(w, "validity", o.Profile.Validity)
		field(w, "template", o.Profile.Template)
	}
	field(w, "created", o.Created)
}
