package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// overload is how many times the best rate is offered.
const overload = 3

// overload measures what becomes of those who are let in when far more come
// than can be. The server is a process of its own, so that the clients that
// are turned away do not run inside it.
func (b *bench) overload(ctx context.Context, db string, t *table) error {
	r := row{name: fmt.Sprintf("first enrolments with %d times as many offered, %s", overload, db), limit: "with as many offered as can be", wanted: 0.85}
	for range b.runs {
		best, over, err := b.measureOverload(ctx, db)
		if err != nil {
			return err
		}
		r.add(over.rate, best.rate)
		t.note("overload, %s: %.0f offered per second, %d let in, %d turned away; those let in took %s, 99%% %s, %.2f times as long as without (wanted at most 2)", db,
			over.offered, len(over.took), over.turned, over.quantile(0.5).Round(time.Millisecond), over.quantile(0.99).Round(time.Millisecond),
			float64(over.quantile(0.99))/float64(best.quantile(0.99)))
	}
	t.rows = append(t.rows, r)
	return nil
}

func (b *bench) measureOverload(ctx context.Context, db string) (best *load, over *flood, err error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	w, drop, err := b.worldWith(ctx, db, filepath.Join(dir, "touchmark"), (1+overload)*b.units, b.serveApart)
	if err != nil {
		return nil, nil, err
	}
	defer drop()
	some, err := w.alone(ctx, 0, b.units)
	if err != nil {
		return nil, nil, err
	}
	many, err := w.alone(ctx, 1, overload*b.units)
	if err != nil {
		return nil, nil, err
	}
	k, err := newKnocker(w.est + "/.well-known/est/simpleenroll")
	if err != nil {
		return nil, nil, err
	}
	for _, c := range slices.Concat(some, many) {
		frugal(c.tls)
	}
	if best, err = share(some, b.clients, func() (func(client) error, error) { return k.knock, nil }); err != nil {
		return nil, nil, fmt.Errorf("as many as can be: %w", err)
	}
	if over, err = k.flood(many, overload*best.rate); err != nil {
		return nil, nil, fmt.Errorf("overload: %w", err)
	}
	return best, over, nil
}

// knocker posts clients' bodies, each on a new connection, and costs less of
// the cores that it shares with the server than net/http would.
type knocker struct{ address, head string }

func newKnocker(to string) (*knocker, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	return &knocker{u.Host, "POST " + u.Path + " HTTP/1.1\r\nHost: " + u.Host + "\r\nConnection: close\r\nContent-Type: application/pkcs10\r\nContent-Length: "}, nil
}

// frugal makes clients of small devices: P-256 alone, and the server's chain
// not verified. What a client computes is not the server's load, but here it
// is taken from the same cores.
func frugal(c *tls.Config) {
	c.CurvePreferences = []tls.CurveID{tls.CurveP256}
	c.InsecureSkipVerify = true
}

// patience is when a client without an answer would have been forgotten by
// the server.
const patience = time.Minute

func (k *knocker) knock(c client) error {
	raw, err := net.Dial("tcp", k.address)
	if err != nil {
		return err
	}
	defer raw.Close()
	if err := raw.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	conn := tls.Client(raw, c.tls)
	if _, err := conn.Write(append(append(strconv.AppendInt([]byte(k.head), int64(len(c.body)), 10), "\r\n\r\n"...), c.body...)); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	return done(response)
}

// flood is a load that did not wait for answers.
type flood struct {
	load    // of those who got their certificate
	offered float64
	turned  int // away
}

// flood sends requests at a rate that does not wait for answers, as devices
// do that are switched on all at once. A request that the server turns away
// is not repeated.
func (k *knocker) flood(clients []client, perSecond float64) (*flood, error) {
	var mu sync.Mutex
	var failed error
	f := &flood{}
	var wg sync.WaitGroup
	began := time.Now()
	for i, c := range clients {
		time.Sleep(time.Until(began.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))))
		wg.Go(func() {
			start := time.Now()
			err := k.knock(c)
			took := time.Since(start)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				f.took = append(f.took, took)
			case isTurnedAway(err):
				f.turned++
			default:
				failed = err
			}
		})
	}
	f.offered = float64(len(clients)) / time.Since(began).Seconds()
	wg.Wait()
	f.rate = float64(len(f.took)) / time.Since(began).Seconds()
	if failed == nil && len(f.took) == 0 {
		failed = fmt.Errorf("all %d requests were turned away", f.turned)
	}
	slices.Sort(f.took)
	return f, failed
}

// isTurnedAway tells "too much" from a failure.
func isTurnedAway(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.code == http.StatusServiceUnavailable || status.code == http.StatusTooManyRequests
	}
	var record tls.RecordHeaderError
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &record)
}

// statusError is an answer other than 200.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.code, e.text) }
