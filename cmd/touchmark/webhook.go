package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/server/api"
)

func (a *app) webhookCommand() *cobra.Command {
	return group("webhook", "Where events are delivered to",
		`A webhook is an address that what becomes of devices is sent to: signed, in order, each event at least once. What a
receiver has to do is in docs/guides/events.md.`,
		a.webhookCreate(), a.webhookUpdate(), a.webhookList(), a.webhookShow(), a.webhookTest(), a.webhookPause(), a.webhookResume(), a.webhookRotate(), a.webhookDelete())
}

func (a *app) webhookCreate() *cobra.Command {
	var in api.WebhookInput
	ca := ""
	c := &cobra.Command{Use: "create NAME", Short: "Create a webhook", Args: cobra.ExactArgs(1),
		Long: "create prints the secret that deliveries are signed with. It is not shown again.",
		Example: "  touchmark webhook create erp --url https://erp.example.com/touchmark\n" +
			"  touchmark webhook create soc --url https://soc.example.com/in --type evidence.added --type device.quarantined --ca soc-ca.pem"}
	a.targetFlags(c, &in.WebhookTarget, &ca)
	c.Flags().StringVar(&in.After, "since", "", "begin after the event with this `ID`, 0-0 for all there ever were, instead of now")
	_ = c.MarkFlagRequired("url")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		in.Name = args[0]
		if in.CA, err = certificatesIn(ca); err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, "/webhooks", in, &raw)
		return raw, err
	}, showSecret)
}

func (a *app) targetFlags(c *cobra.Command, t *api.WebhookTarget, ca *string) {
	f := c.Flags()
	f.StringVar(&t.URL, "url", "", "where events are sent, https://HOST/PATH")
	f.StringSliceVar(&t.Types, "type", nil, "only events of this `type`, or of types that begin so (device.*); may be repeated")
	f.StringVar(&t.Site, "site", "", "only events of this site")
	f.StringVar(ca, "ca", "", "the CA certificates that the target's chains to, a PEM `file`, instead of the system's")
	a.completeFlags(c)
}

func certificatesIn(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("the CA certificates (--ca): %w", err)
	}
	return string(pem), nil
}

func (a *app) webhookUpdate() *cobra.Command {
	var to api.WebhookTarget
	ca := ""
	c := a.onWebhook("update NAME", "Change where events go, and which; what no flag names stays")
	c.Long = "Delivery goes on after the last event that was delivered, at once. --type '' asks for events of all types, --site '' of all sites."
	c.Example = "  touchmark webhook update erp --url https://erp.example.com/v2/touchmark"
	a.targetFlags(c, &to, &ca)
	c.MarkFlagsOneRequired("url", "type", "site", "ca")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		var in api.WebhookUpdate // read as what is written, so nothing of it gets lost
		if err := cl.api(ctx, http.MethodGet, "/webhooks/"+segment(args[0]), nil, &in); err != nil {
			return nil, err
		}
		if to.CA, err = certificatesIn(ca); err != nil {
			return nil, err
		}
		f := c.Flags()
		for name, set := range map[string]func(){
			"url": func() { in.URL = to.URL }, "type": func() { in.Types = to.Types }, "site": func() { in.Site = to.Site }, "ca": func() { in.CA = to.CA },
		} {
			if f.Changed(name) {
				set()
			}
		}
		err = cl.api(ctx, http.MethodPut, "/webhooks/"+segment(args[0]), in, &raw)
		return raw, err
	}, showWebhook)
}

func (a *app) webhookList() *cobra.Command {
	return listCommand(a, &cobra.Command{Use: "list", Short: "List webhooks"}, "/webhooks", noQuery, table[events.Webhook]{
		columns: "NAME\tSTATE\tLAG\tFAILURES\tDELIVERED\tURL", none: "There are no webhooks; create one with `touchmark webhook create`.",
		row: func(w *events.Webhook) []any {
			return []any{w.Name, w.State, w.Delivery.Lag, w.Delivery.Failures, w.Delivery.Delivered, w.URL}
		},
	})
}

func (a *app) webhookShow() *cobra.Command {
	return objectCommand(a, a.onWebhook("show NAME", "Show a webhook and how far delivery has come"), getter("/webhooks/"), showWebhook)
}

// onWebhook makes a command that takes a webhook's name.
func (a *app) onWebhook(use, short string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeFirst("/webhooks")}
}

// webhookPost makes the call of a command that posts to a webhook.
func webhookPost(to string, in any) func(context.Context, *client, []string) ([]byte, error) {
	return func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		err = cl.api(ctx, http.MethodPost, "/webhooks/"+segment(args[0])+to, in, &raw)
		return raw, err
	}
}

func (a *app) webhookTest() *cobra.Command {
	c := a.onWebhook("test NAME", "Send a webhook a message without events")
	objectCommand(a, c, webhookPost("/test", nil), func(w io.Writer, t *api.WebhookTest) {
		if t.Delivered {
			fmt.Fprintf(w, "The target took the message, in %d ms.\n", t.Milliseconds)
			return
		}
		fmt.Fprintf(w, "The target did not take the message: %s\n", text(t.Error))
	})
	return c
}

func (a *app) webhookPause() *cobra.Command {
	in := &api.PauseInput{}
	c := a.onWebhook("pause NAME", "Have events wait in the log")
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for whoever finds it paused (required)")
	_ = c.MarkFlagRequired("reason")
	return objectCommand(a, c, webhookPost("/pause", in), showWebhook)
}

func (a *app) webhookResume() *cobra.Command {
	c := a.onWebhook("resume NAME", "Have events delivered again, or the next attempt made at once")
	return objectCommand(a, c, webhookPost("/resume", nil), showWebhook)
}

func (a *app) webhookRotate() *cobra.Command {
	in := &api.RotationInput{}
	overlap := 24 * time.Hour
	c := a.onWebhook("rotate-secret NAME", "Change the secret that deliveries are signed with")
	c.Long = "rotate-secret prints the new secret, once. For a time each delivery is signed with both."
	c.Flags().DurationVar(&overlap, "overlap", overlap, "how long the former secret also counts")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		in.Overlap = int64(overlap / time.Second)
		return webhookPost("/secret", in)(ctx, cl, args)
	}, showSecret)
}

func (a *app) webhookDelete() *cobra.Command {
	c := a.yesFlag(a.onWebhook("delete NAME", "Delete a webhook"))
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		if err := a.confirm("Webhook " + args[0] + " is deleted. What was not delivered to it is not delivered any more."); err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodDelete, "/webhooks/"+segment(args[0]), nil, &raw)
		return raw, err
	}, func(w io.Writer, h *events.Webhook) { fmt.Fprintf(w, "Webhook %s is deleted.\n", text(h.Name)) })
}

func showSecret(w io.Writer, s *api.WebhookSecret) {
	showWebhook(w, &s.Webhook)
	field(w, "secret", s.Secret)
}

func showWebhook(w io.Writer, h *events.Webhook) {
	field(w, "webhook", h.Name)
	field(w, "url", h.URL)
	field(w, "types", join(h.Types))
	field(w, "site", h.Site)
	field(w, "state", h.State)
	field(w, "paused because", h.Reason)
	field(w, "created", h.Created)
	field(w, "former secret until", h.FormerUntil)
	d := h.Delivery
	field(w, "delivered up to", d.Cursor)
	field(w, "leaves behind", d.Lag)
	field(w, "last delivery", d.Delivered)
	if d.Failures > 0 {
		field(w, "failures", d.Failures)
		field(w, "failing from", d.FailingFrom)
		field(w, "last error", d.Error)
		field(w, "next attempt", d.Next)
	}
}
