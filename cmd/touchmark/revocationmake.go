package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/ocsp/offline"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// askAgain is how often the server is asked whether a file is made.
const askAgain = 500 * time.Millisecond

func (a *app) revocationMake() *cobra.Command {
	base := false
	var wait time.Duration
	c := &cobra.Command{
		Use: "make [ISSUER]", Short: "Have the server make an issuing CA's offline filter now", Args: cobra.MaximumNArgs(1),
		Long:    "make has a delta made before it is due, or with --base a new base, and waits until it is served. ISSUER is device-ca if it is not named.",
		Example: "  touchmark revocation make\n  touchmark revocation make acme --base",
	}
	c.Flags().BoolVar(&base, "base", false, "make a new base")
	c.Flags().DurationVar(&wait, "wait", 10*time.Minute, "how long to wait for it")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		path, wish := "/issuers/"+vetting.DeviceCA+"/offline-files", api.OfflineWish{Kind: offline.Delta.String()}
		if len(args) == 1 {
			path = "/issuers/" + segment(args[0]) + "/offline-files"
		}
		if base {
			wish.Kind = offline.Base.String()
		}
		var wanted api.OfflineWanted
		if err := cl.api(ctx, http.MethodPost, path, wish, &wanted); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("no file was made within %s: the server's log tells why; it may still come", wait))
		defer cancel()
		return awaitFile(ctx, cl, path, wish.Kind, wanted.After)
	}, func(w io.Writer, f *api.OfflineFile) {
		field(w, "kind", f.Kind)
		field(w, "number", f.Number)
		field(w, "of", f.ThisUpdate)
		field(w, "until", f.NextUpdate)
		field(w, "covers until", f.CoversUntil)
		field(w, "certificates", f.Issued)
		field(w, "not good", f.NotGood)
		field(w, "bytes", f.Size)
		field(w, "path", f.Path)
	})
}

// awaitFile waits for a file of a kind with a greater number. The first file of
// a CA is a base, whatever was wanted.
func awaitFile(ctx context.Context, cl *client, path, kind string, after int64) ([]byte, error) {
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for {
		var list page
		if err := cl.getJSON(ctx, path, &list); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return nil, err
		}
		for _, raw := range list.Items {
			f, err := answered[api.OfflineFile](raw)
			if err != nil || f.Number > after && (f.Kind == kind || after == 0) {
				return raw, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}
