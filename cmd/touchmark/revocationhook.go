package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/ocsp/offline/hook"
	"github.com/touchmark/touchmark/server"
)

func (a *app) revocationHook() *cobra.Command {
	var p hook.Paths
	var issuers []string
	var listen, good string
	var every time.Duration
	open := false
	c := &cobra.Command{
		Use: "hook --offline FILTER", Short: "Answer a broker that asks whether a client may connect", Args: cobra.NoArgs,
		Long: `hook answers over HTTP, in the shapes of EMQX's HTTP authenticator (/emqx) and of mosquitto-go-auth's HTTP backend (/user), from offline
filters alone. It needs no server. The broker hands on the certificate that the client showed; the guide for brokers says how.

The files are read again when they were replaced; what is older or broken is logged and not used. Where a filter cannot tell, because
it is outdated or older than the certificate, the client is refused; with --open it is let in.`,
		Example: "  touchmark revocation hook --offline device-ca.filter --delta device-ca.delta --ca ca/device-ca.crt\n  touchmark revocation hook --offline a.filter --offline b.filter --ca ca/root.crt --issuer a.crt --issuer b.crt --listen 127.0.0.1:8449",
	}
	fl := c.Flags()
	fl.StringArrayVar(&p.Bases, "offline", nil, "a filter, a `file` (required; once for each issuing CA)")
	fl.StringArrayVar(&p.Deltas, "delta", nil, "the newest delta of one of them, a `file`; it may be missing")
	issuerFlag(c, &issuers)
	fl.StringVar(&listen, "listen", "127.0.0.1:8449", "where the broker asks; anybody who reaches it can ask")
	fl.StringVar(&good, "good", "allow", "what EMQX is told of a good certificate: allow, or ignore to have its next authenticator decide")
	oneOf(c, "good", "allow", "ignore")
	fl.DurationVar(&every, "every", time.Second, "how often the files are looked at")
	fl.BoolVar(&open, "open", false, "let in whom the filters cannot tell about")
	_ = c.MarkFlagRequired("offline")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if good != "allow" && good != "ignore" {
			return usagef("--good is allow or ignore, not %q", good)
		}
		var err error
		if p.Issuers, err = a.issuingCAs(issuers, nil); err != nil {
			return err
		}
		files, err := hook.Open(p, every)
		if err != nil {
			return whoseFilter(err)
		}
		log := newLogger(a.err, server.Log{})
		ctx, stop := a.untilSignal(cmd.Context())
		defer stop()
		return serveHook(ctx, listen, &hook.Hook{Files: files, Open: open, Good: good, Log: log, Now: time.Now}, log)
	}
	return c
}

// serveHook serves until the context ends, and then answers what is being
// asked.
func serveHook(ctx context.Context, address string, h *hook.Hook, log *slog.Logger) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: h.Handler(), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(listener) }()
	log.Info("answering", "address", listener.Addr().String(), "open", h.Open)
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return s.Close()
}
