package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/server/api"
)

func (a *app) eventCommand() *cobra.Command {
	return group("event", "What became of devices", "Everything that changes a device is an event; they are in one order over all servers.", a.eventTail())
}

// tailLeaves is how far back a tail without --since begins.
const tailLeaves = 100

func (a *app) eventTail() *cobra.Command {
	t := &tail{app: a, query: url.Values{}}
	since, follow := "", false
	c := &cobra.Command{Use: "tail", Short: "Show events, the last of them or those since one", Args: cobra.NoArgs,
		Example: "  touchmark event tail --follow --type 'device.*'\n  touchmark event tail --since 4711-1 --json"}
	c.Flags().StringVar(&since, "since", "", "begin after the event with this `ID`, 0-0 for all there ever were")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens from now, until interrupted")
	filter(c, t.query, "site", "only events of this site")
	var types []string
	c.Flags().StringSliceVar(&types, "type", nil, "only events of this `type`, or of types that begin so (device.*); may be repeated")
	c.Flags().BoolVar(&a.json, "json", false, "print each event as JSON, one a line")
	a.completeFlags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if t.client, err = a.client(); err != nil {
			return err
		}
		t.query["type"] = types
		if t.query.Get("site") == "" {
			t.query.Del("site")
		}
		if t.after, err = t.start(cmd.Context(), since); err != nil {
			return err
		}
		if err := t.pages(cmd.Context()); err != nil || !follow {
			return err
		}
		return t.follow(cmd.Context())
	}
	return c
}

// tail prints events after a position.
type tail struct {
	app    *app
	client *client
	query  url.Values
	after  events.Position
	next   events.Position // of the event that is being read
}

// start finds where to begin: where the user says, or a little before the end.
func (t *tail) start(ctx context.Context, since string) (p events.Position, err error) {
	if since != "" {
		if p, err = events.ParsePosition(since); err != nil {
			return p, usagef("--since: %v", err)
		}
		return p, nil
	}
	var page api.EventPage
	if err := t.client.call(ctx, http.MethodGet, api.Base+"/events", url.Values{"limit": {"1"}}, nil, &page); err != nil {
		return p, err
	}
	return events.Position{Leaf: max(0, page.Head.Leaf-tailLeaves)}, nil
}

// pages prints what there is now.
func (t *tail) pages(ctx context.Context) error {
	t.query.Set("limit", "1000")
	defer t.query.Del("limit")
	for {
		t.query.Set("after", t.after.String())
		var page struct {
			Items []json.RawMessage
			Next  events.Position
			More  bool
		}
		if err := t.client.call(ctx, http.MethodGet, api.Base+"/events", t.query, nil, &page); err != nil {
			return err
		}
		w := tabwriter.NewWriter(t.app.out, 0, 8, 2, ' ', 0)
		for _, raw := range page.Items {
			if err := t.print(w, raw); err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if t.after = page.Next; !page.More {
			return nil
		}
	}
}

// print writes one event on one line.
func (t *tail) print(w io.Writer, raw []byte) error {
	if t.app.json {
		_, err := fmt.Fprintf(w, "%s\n", raw)
		return err
	}
	var e events.Event
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("the server's answer is not what this program knows: %w", err)
	}
	serial, state := "", ""
	if e.Device != nil {
		serial, state = e.Device.Serial, string(e.Device.State)
	}
	what := e.Note
	for _, ev := range e.Evidence {
		what += " [" + string(ev.Kind) + ": " + ev.Text + "]"
	}
	_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.ID, text(e.Time), e.Type, text(serial), text(state), text(e.By), text(strings.TrimSpace(what)))
	return err
}

// follow prints what happens, and goes on after breaks, until ctx ends.
func (t *tail) follow(ctx context.Context) error {
	for {
		err := t.stream(ctx)
		var later *laterError
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.As(err, &later):
			return err
		}
		if t.client.pause(ctx, time.Second) != nil {
			return nil
		}
	}
}

// stream reads one stream to its end; an error that may pass is a laterError.
func (t *tail) stream(ctx context.Context) error {
	t.query.Set("after", t.after.String())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.client.base+api.Base+"/events?"+t.query.Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := t.client.http.Do(req)
	if err != nil {
		if transient(err) {
			return &laterError{t.client.unreachable(err), 0}
		}
		return t.client.unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, err := refused(resp)
		return err
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20)
	t.next = t.after
	for lines.Scan() {
		if err := t.line(lines.Text()); err != nil {
			return err
		}
	}
	return nil // it broke off, and is taken up again
}

// line reads one line of a stream.
func (t *tail) line(line string) error {
	name, value, _ := strings.Cut(line, ": ")
	switch name {
	case "": // what was begun is whole
		t.after = t.next
	case "id":
		p, err := events.ParsePosition(value)
		t.next = p
		return err
	case "data":
		return t.print(t.app.out, []byte(value))
	}
	return nil
}
