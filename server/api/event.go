package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/events"
)

// Feed tells when there are more events. [events.Feed] is one.
type Feed interface {
	// Wait returns when there are events after a page that ended at the
	// head, or ctx ends.
	Wait(ctx context.Context, head events.Position) error
	// LogSize is how many leaves the log has.
	LogSize(ctx context.Context) (int64, error)
}

// Streams bounds the streams of events.
type Streams struct {
	// Max is how many may be open at a time.
	Max int
	// Stopping is closed when all of them have to end; nil is never.
	Stopping <-chan struct{}
	// Count, if set, is told how many are open.
	Count func(float64)
	// Heartbeat is how often a stream shows that it lives, and the operator's
	// right to it is looked at again; 0 means [DefaultHeartbeat].
	Heartbeat time.Duration
	// Stall is how long a client may leave what it is sent unread; 0 means
	// [DefaultStreamStall].
	Stall time.Duration
}

// Defaults of [Streams].
const (
	DefaultHeartbeat   = 15 * time.Second
	DefaultStreamStall = 10 * time.Second
)

// EventPage is a page of events.
type EventPage struct {
	Items []events.Event  `json:"items" nullable:"false" doc:"The events of this page, in their order"`
	Next  events.Position `json:"next" doc:"Where to go on: the parameter after of the next page. It may be ahead of the last event"`
	More  bool            `json:"more" doc:"Whether there is more to read at once, even if this page is empty"`
	Head  events.Position `json:"head" doc:"Where the log ends now"`
}

// eventList are the parameters of the list of events.
type eventList struct {
	After string   `query:"after" maxLength:"40" doc:"The event after which to begin: an event's id, or the next of the page before; absent for the beginning, or for what happens from now on if it is a stream"`
	Types []string `query:"type,explode" maxItems:"32" doc:"Only events of this type, or of types that begin so (device.*); may be repeated"`
	Site  string   `query:"site" maxLength:"63" doc:"Only events of this site"`
	Limit int      `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"The most events to answer with"`
}

// read checks the parameters.
func (in *eventList) read() (after events.Position, f events.Filter, err error) {
	f = events.Filter{Types: in.Types, Site: in.Site}
	if err := f.Check(); err != nil {
		return after, f, invalid("query.type", "%v", err)
	}
	if in.After == "" {
		return after, f, nil
	}
	if after, err = events.ParsePosition(in.After); err != nil {
		return after, f, invalid("query.after", "%v", err)
	}
	return after, f, nil
}

const eventStream = "text/event-stream"

func (a *API) events() {
	register(a, access.ReadDevices, operation{
		id: "listEvents", method: http.MethodGet, path: "/events", tag: tagEvents,
		summary: "List what became of devices, or follow it", errors: []int{400, 409, 503},
		description: "With the header Accept: text/event-stream the answer is a stream of server-sent events that does not end: each has an event as its data, the type as its name and the id as its ID. After a break go on with the header Last-Event-ID. " +
			"Without it the answer is a page; keep next and ask again with it as after. Events are in one order over all servers. The types are:\n\n" + typeTable(),
		instead: a.stream,
	}, func(ctx context.Context, c *call, in *eventList) (*bodyOutput[EventPage], error) {
		after, f, err := in.read()
		if err != nil {
			return nil, err
		}
		p, err := c.View.Events(ctx, after, f, in.Limit)
		if err != nil {
			return nil, err
		}
		return &bodyOutput[EventPage]{&EventPage{append([]events.Event{}, p.Events...), p.Next, p.More(), p.Head}}, nil
	})
	schema := a.huma.OpenAPI().Components.Schemas.Schema(messageType, true, "")
	a.huma.OpenAPI().Webhooks = map[string]*huma.PathItem{"events": {Post: &huma.Operation{
		OperationID: "deliverEvents", Summary: "What a webhook receives", Tags: []string{tagEvents},
		Description: "Sent to a webhook's URL, signed as the Standard Webhooks specification says: the headers webhook-id, webhook-timestamp and webhook-signature (v1, HMAC-SHA256). Events come in order and at least once; their ids tell repetitions. A message without events is a test. Any status 2xx takes the message; 410 ends the webhook; anything else has it sent again later.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}},
		Responses:   map[string]*huma.Response{"204": {Description: "The message was taken."}},
	}}}
}

func typeTable() string {
	var b strings.Builder
	for _, t := range events.Types {
		fmt.Fprintf(&b, "- `%s`: %s\n", t.Type, t.Means)
	}
	return b.String()
}

// streamPage is how many events are read and sent at a time.
const streamPage = 200

// stream answers a request for a stream; it reports whether it is one.
func (a *API) stream(c *call) bool {
	if !slices.ContainsFunc(c.r.Header.Values("Accept"), func(v string) bool { return strings.Contains(v, eventStream) }) {
		return false
	}
	if err := a.serveStream(c); err != nil {
		a.problemOf(c.r.Context(), err).write(c.w)
	}
	return true
}

// serveStream returns an error as long as nothing was answered.
func (a *API) serveStream(c *call) error {
	after, f, err := a.streamStart(c)
	if err != nil {
		return err
	}
	open := a.open.Add(1)
	defer func() { a.counted(a.open.Add(-1)) }()
	if a.counted(open); open > int64(a.config.Streams.Max) {
		return problem(http.StatusServiceUnavailable, "%d streams of events are open, and no more are taken: try again, or ask for pages (without Accept: %s)", a.config.Streams.Max, eventStream).with("Retry-After", "10")
	}
	page, err := c.View.Events(c.r.Context(), after, f, streamPage)
	if err != nil {
		return err
	}
	if p, ok := c.r.Body.(interface{ Leave() }); ok {
		p.Leave() // it would keep a place from others, and waits most of its time
	}
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	go func() {
		select {
		case <-a.config.Streams.Stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	s := &stream{api: a, call: c, conn: http.NewResponseController(c.w), filter: f}
	// What the connection was given for a request's body and reply does not
	// hold for a stream; what it is given instead is counted anew each time
	// something is written.
	_ = s.conn.SetReadDeadline(time.Time{})
	c.w.Header().Set("Content-Type", eventStream)
	c.w.Header().Set("X-Accel-Buffering", "no")
	s.run(ctx, page)
	return nil
}

func (a *API) counted(open int64) {
	if a.config.Streams.Count != nil {
		a.config.Streams.Count(float64(open))
	}
}

// streamStart reads a stream's parameters. Last-Event-ID is what a client
// sends that was cut off, so it counts for more than the URL.
func (a *API) streamStart(c *call) (after events.Position, f events.Filter, err error) {
	q := c.r.URL.Query()
	for name := range q {
		if !slices.Contains([]string{"after", "type", "site", "limit"}, name) {
			return after, f, problem(http.StatusUnprocessableEntity, "there is no parameter %q of a stream: known are after, type and site", name)
		}
	}
	in := eventList{After: q.Get("after"), Types: q["type"], Site: q.Get("site")}
	if last := c.r.Header.Get("Last-Event-ID"); last != "" {
		in.After = last
	}
	if p := checkText(&in); p != nil {
		return after, f, p
	}
	if after, f, err = in.read(); err != nil || in.After != "" {
		return after, f, err
	}
	after.Leaf, err = a.config.Feed.LogSize(c.r.Context())
	return after, f, err
}

// stream is one answer of server-sent events (the HTML standard §9.2).
type stream struct {
	api    *API
	call   *call
	conn   *http.ResponseController
	filter events.Filter
	looked time.Time // when the operator's right was last looked at
}

// run sends events until the client is gone or too slow, the operator may no
// longer, or ctx ends. Nothing is kept for a slow client: it comes again.
func (s *stream) run(ctx context.Context, page events.Page) {
	s.looked = time.Now()
	if s.send("retry: 3000\n\n") != nil {
		return
	}
	for s.sendPage(page) == nil && s.mayGoOn() {
		if !page.More() && !s.wait(ctx, page) {
			return
		}
		var err error
		if page, err = s.call.View.Events(ctx, page.Next, s.filter, streamPage); err != nil {
			return // the next attempt is told why
		}
	}
}

// wait waits for events, and shows now and then that the stream lives.
func (s *stream) wait(ctx context.Context, page events.Page) bool {
	beat, cancel := context.WithTimeout(ctx, s.api.config.Streams.Heartbeat)
	defer cancel()
	switch err := s.api.config.Feed.Wait(beat, page.Head); {
	case err == nil:
		return true
	case ctx.Err() != nil:
		_ = s.send(": the server stops\n\n")
		return false
	}
	// Without data it is no event to the client, but moves its last ID on.
	return s.send("id: "+page.Next.String()+"\n\n") == nil
}

// mayGoOn looks now and then whether the operator still may.
func (s *stream) mayGoOn() bool {
	if time.Since(s.looked) < s.api.config.Streams.Heartbeat {
		return true
	}
	s.looked = time.Now()
	op, err := s.api.authenticate(s.call.r)
	return err == nil && op.May(access.ReadDevices)
}

func (s *stream) sendPage(page events.Page) error {
	var b strings.Builder
	for i := range page.Events {
		e := &page.Events[i]
		data, err := json.Marshal(e)
		if err != nil { // a programming error: events always marshal
			return err
		}
		fmt.Fprintf(&b, "id: %s\nevent: %s\ndata: %s\n\n", e.ID, e.Type, data)
	}
	if b.Len() == 0 {
		return nil
	}
	return s.send(b.String())
}

func (s *stream) send(text string) error {
	// A deadline of the connection is in real time, so the injected clock
	// has no say in it.
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.api.config.Streams.Stall))
	if _, err := s.call.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.conn.Flush()
}
