package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/firmware-sign/tuf/repository"
	"github.com/touchmark/touchmark/server/api"
)

func (a *app) tufCommand() *cobra.Command {
	return group("tuf", "The TUF repository of published releases",
		`A TUF repository tells clients which files may be installed, so that nobody between can give them an old one, or keep them on one. The server
serves its metadata below /tuf/: what is published and not yanked, with hash and length. It keeps the keys that sign that; the root's keys, which
say whose keys those are, are elsewhere, and several people have them.`,
		a.tufInit(), a.tufShow(), a.tufKey(), a.tufRoot())
}

func (a *app) tufInit() *cobra.Command {
	kind := ""
	c := &cobra.Command{Use: "init", Short: "Make the server's keys: targets, snapshot, timestamp",
		Long: `init makes a key for each of the three roles that has none, where the server's configuration says (keys: tuf). Nothing is served before a root
names them: the next step is touchmark tuf root create.`,
		Example: "  touchmark tuf init"}
	tufKind(c, &kind)
	return objectCommand(a, c, func(ctx context.Context, cl *client, _ []string) (raw []byte, err error) {
		have, err := tufState(ctx, cl)
		if err != nil {
			return nil, err
		}
		for _, role := range repository.Online {
			if newestTUFKey(have, role) != nil {
				continue
			}
			if err := cl.api(ctx, http.MethodPost, "/tuf/keys", api.TUFKeyInput{Role: role, Number: 1, Kind: kind}, nil); err != nil {
				return nil, err
			}
		}
		err = cl.api(ctx, http.MethodGet, "/tuf", nil, &raw)
		return raw, err
	}, showTUF)
}

func tufKind(c *cobra.Command, kind *string) {
	c.Flags().StringVar(kind, "kind", repository.KeyKinds[0], strings.Join(repository.KeyKinds, " or "))
	oneOf(c, "kind", repository.KeyKinds...)
}

func tufState(ctx context.Context, cl *client) (*api.TUFRepository, error) {
	st := new(api.TUFRepository)
	return st, cl.api(ctx, http.MethodGet, "/tuf", nil, st)
}

// newestTUFKey is the newest of a role, nil if there is none.
func newestTUFKey(st *api.TUFRepository, role repository.Role) (newest *api.TUFKey) {
	for _, k := range st.Keys {
		if k.Role == role && (newest == nil || k.Number > newest.Number) {
			newest = k
		}
	}
	return newest
}

func (a *app) tufShow() *cobra.Command {
	c := &cobra.Command{Use: "show", Short: "Show the repository: root, newest files, keys"}
	return objectCommand(a, c, func(ctx context.Context, cl *client, _ []string) (raw []byte, err error) {
		err = cl.api(ctx, http.MethodGet, "/tuf", nil, &raw)
		return raw, err
	}, showTUF)
}

func showTUF(w io.Writer, st *api.TUFRepository) {
	if st.Root == nil {
		fmt.Fprintln(w, "No root was imported yet: nothing is served. Make one with `touchmark tuf root create`.")
	} else {
		fmt.Fprintf(w, "root\t%d\texpires %s\n", st.Root.Version, text(st.Root.Expires))
	}
	for _, f := range st.Files {
		fmt.Fprintf(w, "%s\t%d\texpires %s\n", text(f.Role), f.Version, text(f.Expires))
	}
	for _, k := range st.Keys {
		fmt.Fprintf(w, "key %s\t%s\tmade %s by %s\n", text(k.Name), text(k.KeyID), text(k.Created), text(k.By))
	}
	if st.Problem != "" {
		fmt.Fprintf(w, "metadata cannot be made: %s\n", text(st.Problem))
	}
}

func (a *app) tufKey() *cobra.Command {
	return group("key", "The server's keys", "A key signs as soon as a root names it, and until then the one before does.", a.tufKeyCreate())
}

func (a *app) tufKeyCreate() *cobra.Command {
	kind := ""
	c := &cobra.Command{Use: "create ROLE", Short: "Make a role's next key", Args: cobra.ExactArgs(1), ValidArgs: []string{"targets", "snapshot", "timestamp"},
		Long: `create makes another key for targets, snapshot or timestamp. The next root that touchmark tuf root create writes names it in the place of the
one before, which goes on signing until that root was imported.`,
		Example: "  touchmark tuf key create timestamp"}
	tufKind(c, &kind)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		have, err := tufState(ctx, cl)
		if err != nil {
			return nil, err
		}
		in := api.TUFKeyInput{Role: repository.Role(args[0]), Number: 1, Kind: kind}
		if newest := newestTUFKey(have, in.Role); newest != nil {
			in.Number = newest.Number + 1
		}
		err = cl.api(ctx, http.MethodPost, "/tuf/keys", in, &raw)
		return raw, err
	}, func(w io.Writer, k *api.TUFKey) {
		field(w, "key", k.Name)
		field(w, "key ID", k.KeyID)
		field(w, "created", k.Created)
		field(w, "by", k.By)
	})
}

// tufDay is how people count a root's life.
const tufDay = 24 * time.Hour
